"""Makes the log of what is where of the record, piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

from mirrord.daemon.catalog import naming_of
from mirrord.daemon.rows import MOST_ITEMS, Items
from mirrord.daemon.runtime import Snapshot
from mirrord.model.history import Behind, ItemRow
from mirrord.record.store import PAGE, Store
from mirrord.report.sync_log import behind_line, error_line, more_line, present_line
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Mirror


async def sync_log(snapshot: Snapshot, store: Store, mirrors: Sequence[str]) -> AsyncGenerator[bytes, None]:
    """Yield the log of these mirrors; only one page of items is held at a time.

    Raises:
        StorageError: the record cannot be read.
    """
    for name in mirrors:
        mirror = snapshot.mirror(name)
        log = _Log(mirror, snapshot.syncer(mirror), await store.behind(name, PAGE))
        standing = {one.target: one for one in await store.standing(name)}
        if (whole := standing.get("")) and whole.error:
            yield error_line(whole).encode()
        items, after, more = await Items.open(snapshot, store, name), "", True
        while more:
            rows, after = await items.part(MOST_ITEMS, after)
            yield "".join(await asyncio.to_thread(list, log.lines(rows))).encode()
            more = bool(after)
        yield "".join(await asyncio.to_thread(list, log.rest())).encode()
        if whole and (unlisted := whole.behind - log.behind) > 0:
            yield more_line(name, unlisted).encode()


class _Log:
    """The lines of one mirror; what is behind comes with its item, or at the end where the record has no such item."""

    def __init__(self, mirror: Mirror, syncer: Syncer, behind: Sequence[Behind]) -> None:
        self._naming = naming_of(mirror, syncer)
        self._targets = [target.name for target in mirror.targets]
        self._behind: dict[tuple[str, str], Behind] = {(one.item, one.target): one for one in behind}
        self.behind = len(behind)
        self._origin, self._at = syncer.shown_places(mirror)

    def lines(self, rows: Sequence[ItemRow]) -> Iterator[str]:
        """Yield the lines of some items."""
        for row in rows:
            source, names = self._called(row.item)
            for target in self._targets:
                behind, seen = self._behind.pop((row.item, target), None), row.at.get(target)
                if behind:
                    yield behind_line(source, names[target], behind)
                elif seen:
                    yield present_line(source, names[target], seen)

    def rest(self) -> Iterator[str]:
        """Yield the lines of items that no target has."""
        for (item, target), behind in sorted(self._behind.items()):
            if target in self._at:
                source, names = self._called(item)
                yield behind_line(source, names[target], behind)

    def _called(self, item: str) -> tuple[str, Mapping[str, str]]:
        """Name an item at the source and at each target, also one without a name of its own, such as a ref of Git."""
        source, names = self._naming(item)
        named = source if source != self._origin or names else f"{source}#{item}"
        return named, {target: names.get(target) or f"{place}#{item}" for target, place in self._at.items()}
