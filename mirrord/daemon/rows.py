"""Reads parts of what the record has of a mirror; what a part costs does not depend on how much there is."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from mirrord.daemon.runtime import Snapshot
from mirrord.model.history import ItemRow
from mirrord.model.memory import LastSeen
from mirrord.names.natural import natural_order
from mirrord.pipeline import places
from mirrord.record.store import PAGE, Store
from mirrord.report.rows import NUMBERED, ListPart, Row, RowsAsked, cursor_of

MOST_ITEMS: Final = PAGE - 1
"""Items of one part: the record is asked for one more."""


@dataclass(frozen=True, slots=True)
class Items:
    """The items of a mirror by name, read in parts: those that its kind lists, else those that the record has."""

    _store: Store
    _mirror: str
    _places: Mapping[str, str]
    _listed: Mapping[str, str] | None = None
    _names: Sequence[str] = ()
    _reached: Mapping[str, LastSeen] = field(default_factory=dict)
    _lacked: Collection[tuple[str, str]] = ()

    @classmethod
    async def open(cls, snapshot: Snapshot, store: Store, name: str) -> Items:
        """Read what the kind of a mirror lists."""
        mirror = snapshot.mirror(name)
        syncer = snapshot.syncer(mirror)
        now_at = places(mirror, syncer)
        listed = await syncer.items(mirror, snapshot.services) if syncer.items else None
        if listed is None:
            return cls(store, name, now_at)
        names = await asyncio.to_thread(sorted, listed, key=natural_order)
        lacked = {(one.target, one.item) for one in await store.behind(name, PAGE)}
        reached = await _reached(store, name, now_at, Counter(target for target, _ in lacked))
        return cls(store, name, now_at, listed, names, reached, lacked)

    async def part(self, limit: int, after: str = "", find: str = "") -> tuple[Sequence[ItemRow], str]:
        """Return up to `limit` items, at most `MOST_ITEMS`, and `after` of the next part, "" if this is the last one.

        Args:
            limit: the most items.
            after: only items with greater names.
            find: only items whose names contain this text; letters of ASCII match in either case.
        """
        if self._listed is None:
            found = await self._store.items(self._mirror, limit + 1, after, find)
            rows: Sequence[ItemRow] = list(here(found[:limit], self._places))
        else:
            found = await asyncio.to_thread(self._rows, self._listed, limit + 1, after, find.lower())
            rows = found[:limit]
        return rows, found[limit - 1].item if len(found) > limit else ""

    def _rows(self, listed: Mapping[str, str], limit: int, after: str, find: str) -> Sequence[ItemRow]:
        """Return listed items: a target that a run has reached has them, but for those that it lacks."""
        behind = islice(self._names, bisect_right(self._names, natural_order(after), key=natural_order), None)
        return [
            ItemRow(
                name,
                {
                    target: replace(seen, digest=listed[name])
                    for target, seen in self._reached.items()
                    if (target, name) not in self._lacked
                },
            )
            for name in islice((name for name in behind if find in name.lower()), limit)
        ]


async def _reached(
    store: Store, name: str, now_at: Mapping[str, str], lacked: Mapping[str, int]
) -> Mapping[str, LastSeen]:
    """Return when runs have last succeeded at each target of which it is known what it has.

    That is not known where the records are of a former place, and where a target lacks more than is `lacked`, by name:
    the record names so many items and counts the others.
    """
    recorded: dict[str, set[str]] = {}
    for row in await store.items(name, PAGE):
        for target, seen in row.at.items():
            recorded.setdefault(target, set()).add(seen.place)
    return {
        one.target: LastSeen("", one.last_success, place)
        for one in await store.standing(name)
        if one.last_success
        and one.behind <= lacked.get(one.target, 0)
        and (place := now_at.get(one.target))
        and place in recorded.get(one.target, {place})
    }


async def rows_of(snapshot: Snapshot, store: Store, asked: RowsAsked) -> ListPart:
    """Return a part of a list of a mirror."""
    if asked.what == "items":
        items = await Items.open(snapshot, store, asked.mirror)
        return ListPart(*await items.part(asked.limit, asked.after))
    found = await _read(store, asked, asked.limit + 1)
    part = found[: asked.limit]
    return ListPart(part, cursor_of(part[-1]) if len(found) > len(part) else "")


async def _read(store: Store, asked: RowsAsked, limit: int) -> Sequence[Row]:
    name, after = asked.mirror, asked.after
    before = int(after) if asked.what in NUMBERED and after else None
    match asked.what:
        case "runs":
            return await store.runs(name, limit, before)
        case "ledger":
            return await store.moves(name, limit=limit, before=before, name=asked.name)
        case "behind":
            target, _, item = after.partition("/")
            return await store.behind(name, limit, (target, item))
        case _:
            return [row for row in await store.days(name) if cursor_of(row) > after][:limit]


def here(found: Iterable[ItemRow], now_at: Mapping[str, str]) -> Iterator[ItemRow]:
    """Yield items without what is recorded of the places before a change of the configuration."""
    for row in found:
        at = {target: seen for target, seen in row.at.items() if seen.place == now_at.get(target)}
        if at:
            yield ItemRow(row.item, at)
