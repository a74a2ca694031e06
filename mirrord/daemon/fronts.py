"""Asks the front what it does with a reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mirrord.daemon.runtime import Runtime
from mirrord.errors import UsageError
from mirrord.syncer.serving import FrontLook, OpenedThrough


async def look_at_front(
    runtime: Runtime, opened: Mapping[str, OpenedThrough], listen: str, reference: str
) -> FrontLook:
    """Return what the front does with a reference, and why.

    Args:
        runtime: what is open.
        opened: what serves in place of the front of a kind; of another kind it is opened for the time being.
        listen: as for `Settings.address`.
        reference: as somebody wrote it.

    Raises:
        UsageError: nothing can be pulled through, or it is no reference.
    """
    current, settings, text = runtime.snapshot, runtime.snapshot.configuration.settings, reference
    for own in (settings.address(listen).partition("://")[2], listen or settings.listen):
        text = text.removeprefix(f"{own}/")
    needs_token = current.configuration.needs_token(listen)
    for kind, syncer in current.syncers.items():
        if kind in opened:
            return replace(await opened[kind].look(text), needs_token=needs_token)
        if syncer.through:
            async with syncer.through.open(lambda: current.services) as front:
                return replace(await front.look(text), needs_token=needs_token)
    raise UsageError("no installed kind can be pulled through; install the kind image")
