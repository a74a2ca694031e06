"""Reads parts of what the record has of a mirror; what a part costs does not depend on how much there is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mirrord.daemon.runtime import Snapshot
from mirrord.model.history import ItemRow
from mirrord.pipeline import places
from mirrord.record.store import PAGE, Store
from mirrord.report.rows import NUMBERED, ListPart, Row, RowsAsked, cursor_of


async def rows_of(snapshot: Snapshot, store: Store, asked: RowsAsked) -> ListPart:
    """Return a part of a list of a mirror."""
    found = await _read(store, asked, asked.limit + 1)
    part = found[: asked.limit]
    behind = cursor_of(part[-1]) if len(found) > len(part) else ""
    if asked.what == "items":
        mirror = snapshot.mirror(asked.mirror)
        items = (row for row in part if isinstance(row, ItemRow))
        part = list(here(items, places(mirror, snapshot.syncer(mirror))))
    return ListPart(part, behind)


async def _read(store: Store, asked: RowsAsked, limit: int) -> Sequence[Row]:
    name, after = asked.mirror, asked.after
    before = int(after) if asked.what in NUMBERED and after else None
    match asked.what:
        case "runs":
            return await store.runs(name, limit, before)
        case "ledger":
            return await store.moves(name, limit=limit, before=before)
        case "items":
            return await store.items(name, limit, after)
        case "behind":
            found: Sequence[Row] = sorted(await store.behind(name, PAGE), key=cursor_of)
        case _:
            found = await store.days(name)
    return [row for row in found if cursor_of(row) > after][:limit]


def here(found: Iterable[ItemRow], now_at: Mapping[str, str]) -> Iterator[ItemRow]:
    """Yield items without what is recorded of the places before a change of the configuration."""
    for row in found:
        at = {target: seen for target, seen in row.at.items() if seen.place == now_at.get(target)}
        if at:
            yield ItemRow(row.item, at)
