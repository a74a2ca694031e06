"""BuildKit's buildkitd.toml. Pure."""

from __future__ import annotations

from typing import Final

from mirrord.pointing.client.mirror import (
    CA_FILE,
    Client,
    ClientFile,
    ClientMirror,
    ClientSetup,
    Version,
    fallback_notes,
    quoted,
    token_notes,
)

_FILE, _CA = "/etc/buildkit/buildkitd.toml", f"/etc/buildkit/{CA_FILE}"


def setup(mirror: ClientMirror, _: Version | None) -> ClientSetup:
    """Return the part of buildkitd.toml; BuildKit says with `?ns=` which registry it means, as containerd does."""
    tables = [f"[registry.{quoted(one.registry)}]\n  mirrors = [{quoted(one.endpoint)}]\n" for one in mirror.registries]
    way = "  http = true\n" if mirror.insecure else f"  ca = [{quoted(_CA)}]\n" if mirror.ca else ""
    tables += [f"[registry.{quoted(host)}]\n{way}" for host in mirror.hosts if way]
    return ClientSetup(
        (ClientFile(_FILE, "\n".join(tables), part=True), *mirror.authority(_CA)),
        "systemctl restart buildkit",
        (
            "for a builder of buildx: `docker buildx create --buildkitd-config FILE`; older ones have --config",
            *fallback_notes(mirror, "BuildKit"),
            *token_notes(mirror, "docker"),
        ),
    )


BUILDKIT: Final = Client("buildkit", setup)
