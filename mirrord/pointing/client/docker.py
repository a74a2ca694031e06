"""Docker's daemon.json: mirrors of Docker Hub alone, by their origin. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

from mirrord.errors import UsageError
from mirrord.pointing.client.mirror import (
    Client,
    ClientFile,
    ClientMirror,
    ClientSetup,
    Version,
    fallback_notes,
    token_notes,
)
from mirrord.wire.host import HUB


def setup(mirror: ClientMirror, _: Version | None) -> ClientSetup:
    """Return the part of daemon.json.

    Raises:
        UsageError: the mirror does not serve Docker Hub.
    """
    others = [f"{one.registry}/… as {one.place}/…" for one in mirror.named() if one.registry != HUB]
    way = f"; pull {', '.join(others)}" if others else ""
    if not mirror.hub:
        raise UsageError(f"Docker asks mirrors for {HUB} alone, and {HUB} is not under front.image.upstreams{way}")
    hosts = [*dict.fromkeys((mirror.hub, *mirror.hosts))]
    keys: dict[str, Any] = {"registry-mirrors": [f"{mirror.scheme}://{mirror.hub}"]}
    if mirror.insecure:
        keys["insecure-registries"] = hosts
    return ClientSetup(
        (
            ClientFile("/etc/docker/daemon.json", json.dumps(keys, indent=2) + "\n", part=True),
            *mirror.authority(*(f"/etc/docker/certs.d/{host}/ca.crt" for host in hosts)),
        ),
        "systemctl reload docker",
        (
            f"Docker asks mirrors for {HUB} alone{way}",
            *fallback_notes(mirror, "Docker"),
            *token_notes(mirror, "docker"),
        ),
    )


DOCKER: Final = Client("docker", setup)
