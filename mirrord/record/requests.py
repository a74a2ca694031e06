"""Images that people asked for, in the record."""

from __future__ import annotations

from sqlalchemy import Connection, Delete, delete, select  # noqa: TID251 - this is the door

from mirrord.model.request import AskRecord
from mirrord.record import tables
from mirrord.record.statements import put
from mirrord.record.store import ASKED
from mirrord.record.tables import row_of

_TABLE = tables.asked
OPEN_REQUESTS = select(_TABLE).where(_TABLE.c.ended.is_(None)).order_by(_TABLE.c.asked, _TABLE.c.id)
"""Selects those that have not ended, the oldest first."""


def old_requests(kept: int) -> Delete:
    """Return what deletes those that ended, but for the newest ones."""
    newest = select(_TABLE.c.id).order_by(_TABLE.c.asked.desc(), _TABLE.c.id).limit(kept)
    return delete(_TABLE).where(_TABLE.c.ended.is_not(None), _TABLE.c.id.not_in(newest))


_OLD = old_requests(ASKED)


def note_asked(link: Connection, *requests: AskRecord) -> None:
    """Write those that have not ended by then, and forget the oldest of many that ended."""
    put(link, _TABLE, "id", [*map(row_of, requests)], only="asked.ended IS NULL")
    if any(one.ended for one in requests):
        link.execute(_OLD)
