"""Machine configuration of Talos: documents of their own since 1.12. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mirrord.pointing.client.mirror import (
    MARK,
    Client,
    ClientFile,
    ClientMirror,
    ClientSetup,
    Version,
    indented,
    quoted,
)

_FILE: Final = "mirrord-patch.yaml"


def setup(mirror: ClientMirror, version: Version | None) -> ClientSetup:
    """Return a patch of the machine configuration; without a version, that of the newest form."""
    old = version is not None and version < (1, 12)
    text = _section(mirror) if old else "---\n".join(_documents(mirror))
    return ClientSetup(
        (ClientFile(_FILE, f"{MARK}\n{text}"),),
        f"talosctl patch machineconfig --nodes NODE --patch @{_FILE}",
        (
            "Talos applies it without a reboot",
            *(("clients need a token: see RegistryAuthConfig of Talos",) if mirror.token else ()),
        ),
    )


def _documents(mirror: ClientMirror) -> Iterator[str]:
    for one in mirror.registries:
        url, path = mirror.url(one)
        text = f"apiVersion: v1alpha1\nkind: RegistryMirrorConfig\nname: {quoted(one.registry)}\n"
        text += f"endpoints:\n  - url: {quoted(url)}\n" + ("    overridePath: true\n" if path else "")
        yield text + ("" if mirror.fallback else "skipFallback: true\n")
    for host in mirror.hosts if mirror.ca else ():
        head = f"apiVersion: v1alpha1\nkind: RegistryTLSConfig\nname: {quoted(host)}\n"
        yield f"{head}ca: |-\n{indented(mirror.ca, '  ')}"


def _section(mirror: ClientMirror) -> str:
    text = "machine:\n  registries:\n    mirrors:\n"
    for one in mirror.registries:
        url, path = mirror.url(one)
        text += f"      {quoted(one.registry)}:\n        endpoints:\n          - {quoted(url)}\n"
        text += "        overridePath: true\n" if path else ""
        text += "" if mirror.fallback else "        skipFallback: true\n"
    if mirror.ca:
        text += "    config:\n"
        for host in mirror.hosts:
            text += f"      {quoted(host)}:\n        tls:\n          ca: |-\n{indented(mirror.ca, ' ' * 12)}"
    return text


TALOS: Final = Client("talos", setup, ("1.9", "1.12"))
