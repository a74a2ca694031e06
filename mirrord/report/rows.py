"""What the record has of a mirror, as lists for machines. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mirrord.model.history import Behind, Day, ItemRow, RunRecord
from mirrord.model.ledger import LedgerEntry
from mirrord.report.documents import adapter
from mirrord.report.schemas import UNWRITTEN

Row = RunRecord | ItemRow | Behind | LedgerEntry | Day
LISTS: Final[Mapping[str, Any]] = {
    "runs": RunRecord,
    "items": ItemRow,
    "behind": Behind,
    "ledger": LedgerEntry,
    "days": Day,
}
"""The lists, with the type of the rows of each."""
NUMBERED: Final = frozenset({"runs", "ledger"})
"""Those whose rows have numbers, the newest first."""
MOST: Final = 200
"""Rows of one part."""
_LEFT: Final[Mapping[str, Any]] = {"items": {"at": {"__all__": UNWRITTEN["LastSeen"]}}}


@dataclass(frozen=True, slots=True)
class RowsAsked:
    """A part of a list.

    Attributes:
        mirror: name of the mirror.
        what: one of `LISTS`.
        limit: the most rows, up to `MOST`.
        after: only rows behind the one that `cursor_of` calls so; "" for the first ones.
        name: of the ledger, only moves of this name; "" for all.
    """

    mirror: str
    what: str
    limit: int
    after: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class ListPart:
    """The rows of a part, and `after` of the next part, "" if this is the last one."""

    rows: Sequence[Row]
    next: str = ""


def cursor_of(row: Row) -> str:
    """Return what `after` is for the rows behind this one; it stays right while rows are added and removed."""
    match row:
        case RunRecord() | LedgerEntry():
            return str(row.id)
        case ItemRow():
            return row.item
        case Behind():
            return f"{row.target}/{row.item}"
        case Day():
            return row.day.isoformat()


def rows_document(what: str, rows: Sequence[Row]) -> bytes:
    """Encode rows of a list, each on its own line."""
    write = adapter(LISTS[what]).dump_python
    lines = (json.dumps(write(row, mode="json", exclude=_LEFT.get(what))).encode() for row in rows)
    return b'{"%s": [\n%s\n]}\n' % (what.encode(), b",\n".join(lines))
