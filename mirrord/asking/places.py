"""Where people pull what they asked for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mirrord.config.load import Configuration
from mirrord.pointing.places import own_host
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import LOCAL


def asked_places(read: Configuration, syncers: Mapping[str, Syncer], image: str, listen: str = "") -> tuple[str, ...]:
    """Return the names of an image in canonical form at the places of `asking.to`, in their order.

    Args:
        read: the configuration.
        syncers: by kind.
        image: with a tag or a digest.
        listen: as for `Settings.address`.
    """
    if read.asking is None:
        return ()
    mirror = read.asking.mirror
    called = syncers[mirror.kind].called
    names = called(mirror)(image)[1] if called else {}
    if listen:
        read = replace(read, settings=read.settings.model_copy(update={"listen": listen}))
    own = {LOCAL: f"{own_host(read)}/"}
    at = [(target.name, names[target.name]) for target in mirror.targets if target.name in names]
    return tuple(f"{own.get(target, '')}{name.removeprefix(f'{LOCAL}/')}" for target, name in at)
