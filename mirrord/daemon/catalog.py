"""Makes the catalog of the record and the configuration in use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence

from mirrord.daemon.runtime import Snapshot
from mirrord.model.catalog import CatalogEntry, content_of
from mirrord.model.memory import Memory
from mirrord.names.natural import natural_order
from mirrord.pipeline import believable, places
from mirrord.record.store import Store
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Mirror


async def catalog(snapshot: Snapshot, store: Store, mirrors: Sequence[str]) -> list[CatalogEntry]:
    """Return what these mirrors have at their targets, by name at the source and target.

    What the record knows of earlier places, from before a change of the configuration, is left out.
    """
    found: list[CatalogEntry] = []
    for name in mirrors:
        mirror = snapshot.mirror(name)
        memory = await store.memory(name)
        found += await asyncio.to_thread(entries_of, mirror, snapshot.syncer(mirror), memory)
    return await asyncio.to_thread(sorted, found, key=_by_name)


def entries_of(mirror: Mirror, syncer: Syncer, memory: Memory) -> list[CatalogEntry]:
    """Return what the record knows of a mirror at the places of its configuration."""
    return list(_each(mirror, syncer, believable(memory, places(mirror, syncer))))


def _by_name(entry: CatalogEntry) -> tuple[tuple[str, str], str, str, str]:
    return natural_order(entry.source), entry.target, entry.mirror, entry.item


def naming_of(mirror: Mirror, syncer: Syncer) -> Callable[[str], tuple[str, Mapping[str, str]]]:
    """Return what names an item at the source, and at each target that has a name for it."""
    if syncer.called:
        return syncer.called(mirror)
    origin, at = syncer.shown_places(mirror)
    return lambda item: (f"{origin}#{item}", {target: f"{place}#{item}" for target, place in at.items()})


def _each(mirror: Mirror, syncer: Syncer, memory: Memory) -> Iterator[CatalogEntry]:
    called = naming_of(mirror, syncer)
    for (target, item), seen in memory.items():
        source, names = called(item)
        if target in names:
            place = item, source, target, names[target]
            yield CatalogEntry(mirror.name, mirror.kind, *place, **content_of(seen))
