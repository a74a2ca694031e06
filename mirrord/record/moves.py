"""The rows of the ledger: intents come, outcomes are written to them once, and old entries go. Blocking."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, text  # noqa: TID251 - this is the door

from mirrord import failpoints
from mirrord.model.ledger import LedgerEntry
from mirrord.record import tables
from mirrord.record.mapping import micros, row_of
from mirrord.record.store import FORGET, MOVES

OPEN: Final = text("outcome = 'open'")
"""Selects what is open; written out, so that the index of such rows alone is used."""
_STEP: Final = 500  # names that are forgotten at once, so that no run waits long for it
_INTENT = insert(tables.ledger).values(
    {name: bindparam(name) for name in tables.ledger.c.keys() if name != "id"}  # noqa: SIM118 - a collection of columns
)
# Written out, since they are made for many entries at once: built for each, they would cost more than they do.
_OUTCOME = text(
    "UPDATE ledger SET outcome = :o WHERE mirror = :m AND target = :t AND name = :n AND run = :r AND outcome = 'open'"
)
_SURPLUS = text(
    "DELETE FROM ledger WHERE mirror = :m AND target = :t AND name = :n AND outcome <> 'open' AND id < ("
    "SELECT id FROM ledger WHERE mirror = :m AND target = :t AND name = :n AND outcome = 'done'"
    " ORDER BY id DESC LIMIT 1 OFFSET :kept)"
)


def intend(link: Connection, entries: Sequence[LedgerEntry]) -> None:
    """Write down what is about to be moved."""
    if entries:
        link.execute(_INTENT, [row_of(entry) for entry in entries])


def settle(link: Connection, settled: Sequence[LedgerEntry]) -> None:
    """Write outcomes to entries that have none; of a name that was moved, only so many older entries stay."""
    if settled:
        rows = [
            {
                "m": one.mirror,
                "t": one.target,
                "n": one.name,
                "r": micros(one.run),
                "o": one.outcome.value,
                "kept": MOVES - 1,
            }
            for one in settled
        ]
        link.execute(_OUTCOME, rows)
        link.execute(_SURPLUS, rows)
        failpoints.hit("ledger.settled")


def forget(link: Connection, mirror: str, now: datetime) -> None:
    """Forget names that went long ago; of one that stands for something of ours the newest entry never goes."""
    table = tables.ledger
    gone = select(table).where(table.c.mirror == mirror, text("after IS NULL"), table.c.at < micros(now - FORGET))
    for row in link.execute(gone.limit(_STEP)).mappings().all():
        name = (table.c.mirror == mirror, table.c.target == row["target"], table.c.name == row["name"])
        link.execute(delete(table).where(*name, table.c.id <= row["id"]))
