"""What a prune compares with: what earlier prunes did not want, and what other mirrors have at the same places."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Final

from mirrord.syncer.values import Mirror, Services
from mirrord.wire.oci.created import moment

FACTS: Final = "prune"
"""Begins the name of the facts: since when the names are not wanted, of one source."""

Called = Callable[[Mirror], Callable[[str], tuple[str, Mapping[str, str]]]]
"""Names an item at its targets, as `Syncer.called`."""


async def unwanted_since(mirror: Mirror, services: Services, source: str) -> Mapping[str, datetime]:
    """Return since when names are not wanted, by earlier prunes of this source."""
    noted = await services.facts.recall(mirror.name, f"{FACTS}:{source}") if services.facts else {}
    return await asyncio.to_thread(lambda: {name: at for name, text in noted.items() if (at := moment(text))})


async def note_unwanted(mirror: Mirror, services: Services, source: str, since: Mapping[str, datetime]) -> None:
    """Note since when names are not wanted. Raises StorageError: it cannot be noted."""
    if services.facts:
        facts = await asyncio.to_thread(lambda: {name: at.isoformat() for name, at in since.items()})
        await services.facts.note(mirror.name, f"{FACTS}:{source}", facts)


async def claims(
    mirror: Mirror, services: Services, items: Mapping[tuple[str, str], str], called: Called
) -> Mapping[tuple[str, str], str]:
    """Return which names at targets other mirrors have at the same places; `items` has the item of each name."""
    others = [one for one in services.mirrors.get(mirror.kind, ()) if one.name != mirror.name]
    theirs: dict[str, str] = {}
    for other in others:
        memory = await services.ledger.memory(other.name)
        theirs |= await asyncio.to_thread(_full, other, {*memory, *memory.names}, called)
    if not theirs:
        return {}

    def claimed() -> Mapping[tuple[str, str], str]:
        find = called(mirror)
        full = {key: find(item)[1].get(key[0], "") for key, item in items.items()}
        return {key: theirs[name] for key, name in full.items() if name in theirs}

    return await asyncio.to_thread(claimed)


def _full(mirror: Mirror, known: Collection[tuple[str, str]], called: Called) -> Mapping[str, str]:
    """Return the full names of what a mirror has at its targets."""
    find = called(mirror)
    return {name: mirror.name for target, item in known if (name := find(item)[1].get(target))}
