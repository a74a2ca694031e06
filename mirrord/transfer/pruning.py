"""What a prune compares with: what earlier prunes did not want, and what other mirrors have at the same places."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from mirrord.syncer.port import Claims, load_syncers
from mirrord.syncer.values import Mirror, Services
from mirrord.wire.oci.created import moment

FACTS: Final = "prune"
"""Begins the name of the facts: since when the names are not wanted, of one source."""


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
    mirror: Mirror, services: Services, items: Mapping[tuple[str, str], Collection[str]]
) -> Mapping[tuple[str, str], str]:
    """Return which names at targets other mirrors, of whatever kind, have at the same places.

    `items` has the items of each name: itself, and the digest by which another mirror may have the same content.
    """
    syncers, theirs = await asyncio.to_thread(load_syncers), dict[str, str]()
    for kind, others in services.mirrors.items():
        find_names = syncers[kind].claims
        for other in others if find_names else ():
            if find_names and other.name != mirror.name:
                memory = await services.ledger.memory(other.name)
                theirs |= await asyncio.to_thread(_full, other, {*memory, *memory.names}, find_names)
    find_own = syncers[mirror.kind].claims
    if not theirs or not find_own:
        return {}

    def claimed() -> Mapping[tuple[str, str], str]:
        find = find_own(mirror)
        own = ((key, name) for key, those in items.items() for one in those for name in find(one).get(key[0], ()))
        return {key: theirs[name] for key, name in own if name in theirs}

    return await asyncio.to_thread(claimed)


def _full(mirror: Mirror, known: Collection[tuple[str, str]], find_names: Claims) -> Mapping[str, str]:
    """Return the full names of what a mirror has at its targets."""
    find = find_names(mirror)
    return {name: mirror.name for target, item in known for name in find(item).get(target, ())}
