"""Reads what the page of one mirror shows. The number of questions to the record does not depend on what it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from mirrord.daemon.rows import Items
from mirrord.daemon.runtime import Snapshot
from mirrord.errors import MirrordError
from mirrord.model.history import ItemRow
from mirrord.model.ledger import LedgerEntry, Settled
from mirrord.record.store import Store
from mirrord.report.mirror import BEHIND, ITEMS, MOVES, RUNS, MirrorDetail, Wish


async def add_record(detail: MirrorDetail, snapshot: Snapshot, store: Store, wish: Wish) -> MirrorDetail:
    """Add what the record has of a mirror; what cannot be read is left out, and `trouble` says so."""
    name = detail.mirror.name
    try:
        items = await Items.open(snapshot, store, name)
        rows, after = await items.part(ITEMS, wish.after, wish.find)
        moves = await store.moves(name, limit=MOVES + 1, before=wish.before or None, name=wish.name)
        return replace(
            detail,
            items=rows,
            next=after,
            days=await store.days(name),
            runs=await store.runs(name, RUNS),
            behind=await store.behind(name, BEHIND + 1),
            moves=moves[:MOVES],
            older=len(moves) > MOVES,
        )
    except MirrordError as error:
        return replace(detail, trouble=str(error))


def add_uses(detail: MirrorDetail, snapshot: Snapshot, url: str, wish: Wish) -> MirrorDetail:
    """Add the commands of each target; `url` as for `Syncer.uses_of`. Of many items it takes the newest."""
    mirror = snapshot.mirror(detail.mirror.name)
    syncer, book = snapshot.syncer(mirror), snapshot.services.http.book
    whole = {target.name: syncer.uses_of(mirror, target, url, book) for target in mirror.targets}
    for item in _candidates(wish, detail.items, detail.moves):
        uses = {target.name: syncer.uses_of(mirror, target, url, book, item) for target in mirror.targets}
        if any(uses.values()):
            return replace(detail, item=item, uses=uses, whole=whole)
    return replace(detail, whole=whole)


def _candidates(wish: Wish, items: Sequence[ItemRow], moves: Iterable[LedgerEntry]) -> Iterator[str]:
    """Yield the items that a reader may mean: the one asked for, the one that moved last, the first one.

    A name that moved need not be that of an item: a chart moves as `NAME:VERSION`, and its item is a file.
    """
    if wish.item in {row.item for row in items}:
        yield wish.item
    gone = set[str]()
    for move in moves:
        if move.outcome is Settled.DONE and move.name not in gone:
            if move.after:
                yield move.name
                yield from [row.item for row in items if any(one.digest == move.after for one in row.at.values())]
                break
            gone.add(move.name)
    yield from [row.item for row in items[:1]]
