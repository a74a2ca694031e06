"""containerd's hosts.toml, a folder for each registry. Pure.

Facts of containerd's own reader: hosts are tried in the order of their table headers, and inline tables are dropped; a
capability that it does not know makes it ignore the whole file; without `capabilities` a host would be pushed to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mirrord.pointing.client.mirror import (
    CA_FILE,
    MARK,
    Client,
    ClientFile,
    ClientMirror,
    ClientSetup,
    PointedRegistry,
    Version,
    quoted,
)

CERTS: Final = "/etc/containerd/certs.d"
_OLD, _NEW = '"io.containerd.grpc.v1.cri"', '"io.containerd.cri.v1.images"'


def setup(mirror: ClientMirror, version: Version | None) -> ClientSetup:
    """Return one hosts.toml for each registry; without a version, what all of them read."""
    return ClientSetup(
        (*hosts_files(mirror, CERTS, version), _config(version)),
        "systemctl restart containerd",
        (
            "hosts.toml is read at each pull: only a change of config.toml needs the restart",
            "where config_path is set, config.toml must have no registry.mirrors and no registry.configs",
            f"`ctr` needs --hosts-dir {CERTS}; `nerdctl` finds it by itself; Docker does not read it",
            *(("registries with a token: fill in the commented header",) if mirror.token else ()),
        ),
    )


def hosts_files(mirror: ClientMirror, folder: str, version: Version | None, there: str = "") -> tuple[ClientFile, ...]:
    """Return the files below `folder`, which containerd finds at `there`."""
    ca = f"{there or folder}/{CA_FILE}" if mirror.ca else ""
    files = [
        ClientFile(f"{folder}/{_folder(one.registry)}/hosts.toml", "".join(_lines(mirror, one, version, ca)))
        for one in mirror.registries
    ]
    return (*files, *mirror.authority(f"{folder}/{CA_FILE}"))


def _lines(mirror: ClientMirror, one: PointedRegistry, version: Version | None, ca: str) -> Iterator[str]:
    url, path = mirror.url(one)
    can = ["pull", "resolve", *(["referrers"] if _since(version, 2, 2) else [])]
    options = [f"capabilities = [{', '.join(map(quoted, can))}]"]
    options += ["override_path = true"] if path else []
    options += [f"ca = {quoted(ca)}"] if ca else []
    options += ['dial_timeout = "5s"'] if _since(version, 2, 1) else []
    yield f"{MARK}\n"
    if mirror.fallback:
        yield f"# without `server`, {one.registry} itself is asked last\n"
    else:  # it repeats the host below: without that table containerd would also push here
        yield "".join(f"{line}\n" for line in (f"server = {quoted(url)}", *options))
    yield f"\n[host.{quoted(url)}]\n"
    yield "".join(f"  {line}\n" for line in options)
    if mirror.token:
        yield f"\n# [host.{quoted(url)}.header]\n"
        yield '#   Authorization = "Basic TOKEN"  # printf \'token:%s\' "$TOKEN" | base64 -w0\n'


def _config(version: Version | None) -> ClientFile:
    forms = [(2, _OLD, "containerd 1.x"), (3, _NEW, "containerd 2.x")]
    if version:
        forms = forms[1:] if version >= (2, 0) else forms[:1]
    text = "\n".join(
        f"# {which}: version = {form}\n[plugins.{plugin}.registry]\n  config_path = {quoted(CERTS)}\n"
        for form, plugin, which in forms
    )
    return ClientFile("/etc/containerd/config.toml", text, part=True)


def _folder(registry: str) -> str:
    """Return how containerd calls the folder of a registry on every system: a colon is none of a path in Windows."""
    host, _, port = registry.rpartition(":")
    return f"{host}_{port}_" if host and port.isdecimal() else registry


def _since(version: Version | None, *first: int) -> bool:
    return version is not None and version >= first


CONTAINERD: Final = Client("containerd", setup, ("1.6", "2.0", "2.1", "2.2"))
