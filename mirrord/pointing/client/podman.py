"""registries.conf (version 2) of Podman, Buildah, skopeo and CRI-O: a drop-in file. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mirrord.pointing.client.mirror import (
    MARK,
    Client,
    ClientFile,
    ClientMirror,
    ClientSetup,
    PointedRegistry,
    Version,
    quoted,
    token_notes,
    unnamed_notes,
)

_FILE = "/etc/containers/registries.conf.d/50-mirrord.conf"


def setup(mirror: ClientMirror, _: Version | None) -> ClientSetup:
    """Return the drop-in file, and the authority's where there is one."""
    text = f"{MARK}\n" + "".join(f"\n{line}" for one in mirror.named() for line in _registry(mirror, one))
    if mirror.insecure:
        text += "".join(f"\n[[registry]]\nlocation = {quoted(host)}\ninsecure = true\n" for host in mirror.hosts)
    authorities = mirror.authority(*(f"/etc/containers/certs.d/{host}/ca.crt" for host in mirror.hosts))
    return ClientSetup(
        (ClientFile(_FILE, text), *authorities),
        "",
        (
            "Podman, Buildah and skopeo read it each time; for CRI-O: systemctl reload crio",
            *token_notes(mirror, "podman"),
            *unnamed_notes(mirror),
        ),
    )


def _registry(mirror: ClientMirror, one: PointedRegistry) -> Iterator[str]:
    insecure = "insecure = true\n" if mirror.insecure else ""
    if not mirror.fallback:
        yield f"[[registry]]\nprefix = {quoted(one.registry)}\nlocation = {quoted(one.place)}\n{insecure}"
        return
    yield f"[[registry]]\nprefix = {quoted(one.registry)}\nlocation = {quoted(one.registry)}\n"
    yield f"[[registry.mirror]]\nlocation = {quoted(one.place)}\n{insecure}"


PODMAN: Final = Client("podman", setup)
