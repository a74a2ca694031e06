"""Changes of the record. Blocking: only the thread of the record that changes it may call this."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, insert, select, text  # noqa: TID251 - this is the door

from mirrord import failpoints
from mirrord.model.history import Behind, Day, RunRecord, Standing
from mirrord.model.ledger import LedgerEntry
from mirrord.model.memory import LastSeen
from mirrord.model.request import AskRecord
from mirrord.record import tables
from mirrord.record.behind import BEHIND
from mirrord.record.learned import completed
from mirrord.record.reading import Reading
from mirrord.record.requests import note_asked
from mirrord.record.standings import KEPT_DAYS, day_after, standings_after
from mirrord.record.statements import execute_many, put, rows_with, where
from mirrord.record.store import FORGET, KEEP, MOVES
from mirrord.record.summary import RunSummary
from mirrord.record.tables import days_since_1970, micros, row_of, sort_of, value_of

_STEP: Final = 500  # names deleted in one go, so that no run waits long
_INTENT = insert(tables.ledger).values(
    {name: bindparam(name) for name in tables.ledger.c.keys() if name != "id"}  # noqa: SIM118 - a collection of columns
)
# Literals, since they are run for many entries at once: building them would cost more than running them.
_OUTCOME = text(
    "UPDATE ledger SET outcome = :o WHERE mirror = :m AND target = :t AND name = :n AND run = :r AND outcome = 'open'"
)
_GONE = text("DELETE FROM known WHERE mirror = :m AND target = :t AND item = :i")
_COUNTED = text(
    "UPDATE standing SET counted = (SELECT count(*) FROM known WHERE mirror = :m AND target = standing.target),"
    " size = coalesce((SELECT sum(size) FROM (SELECT DISTINCT digest, size FROM known"
    " WHERE mirror = :m AND target = standing.target AND size IS NOT NULL) AS sizes), 0)"
    " WHERE mirror = :m AND target <> ''"
)
_COUNTED_ANYWHERE = text(
    "UPDATE standing SET counted = (SELECT count(DISTINCT item) FROM known WHERE mirror = :m),"
    " size = (SELECT coalesce(max(size), 0) FROM standing WHERE mirror = :m AND target <> '')"
    " WHERE mirror = :m AND target = ''"
)
_EVERY_ITEM = text("UPDATE standing SET items = counted WHERE mirror = :m AND target <> ''")
_NUMBER = text(
    "INSERT INTO publishes (mirror, number) VALUES (:m, 1)"
    " ON CONFLICT (mirror) DO UPDATE SET number = publishes.number + 1 RETURNING number"
)
_SURPLUS = text(
    "DELETE FROM ledger WHERE mirror = :m AND target = :t AND name = :n AND outcome <> 'open' AND id < ("
    "SELECT id FROM ledger WHERE mirror = :m AND target = :t AND name = :n AND outcome = 'done'"
    " ORDER BY id DESC LIMIT 1 OFFSET :kept)"
)


def settle(link: Connection, settled: Sequence[LedgerEntry]) -> None:
    """Write outcomes to open entries; keep a limited number of older entries for each moved name."""
    if settled:
        rows = [
            {"m": one.mirror, "t": one.target, "n": one.name, "r": micros(one.run), "o": one.outcome, "kept": MOVES - 1}
            for one in settled
        ]
        execute_many(link, _OUTCOME, rows)
        execute_many(link, _SURPLUS, rows)
        failpoints.hit("ledger.settled")


def forget(link: Connection, mirror: str, now: datetime) -> None:
    """Delete entries of names deleted long ago; the newest entry of an existing name always stays."""
    table = tables.ledger
    gone = select(table).where(table.c.mirror == mirror, text("after IS NULL"), table.c.at < micros(now - FORGET))
    for row in link.execute(gone.limit(_STEP)).mappings().all():
        name = (table.c.mirror == mirror, table.c.target == row["target"], table.c.name == row["name"])
        link.execute(delete(table).where(*name, table.c.id <= row["id"]))


class Rows(Reading):
    """One open database, to be read and changed."""

    keep = KEEP
    """Runs kept for each mirror."""

    def accept(self, mirror: str) -> int:
        """Number a publish."""
        return self.database.write(lambda link: int(link.execute(_NUMBER, {"m": mirror}).scalar_one()))

    def note_asked(self, *requests: AskRecord) -> None:
        """Write how far images are that somebody asked for."""
        self.database.write(lambda link: note_asked(link, *requests))

    def add_run(self, summary: RunSummary, settled: Sequence[LedgerEntry], *, again: bool = False) -> None:
        """Write one run, its targets, the resulting state and standings; all or nothing.

        With `again` not if an earlier try has written it: a connection that was lost may have been so at the very end.
        """
        record, mirror = summary.record, summary.record.mirror
        gone = [{"m": mirror, "t": target, "i": item} for (target, item), seen in summary.learned.items() if not seen]
        names = [{"mirror": mirror, "target": target, **row_of(build)} for (target, _), build in summary.names.items()]
        last = [
            {"mirror": mirror, "target": target, **row_of(one), "troubles": "\n".join(one.troubles)}
            for target, one in summary.last.items()
        ]
        noted = [
            {"mirror": mirror, "what": what, "count": texts.count, "first": "\n".join(texts.first)}
            for what, texts in summary.noted.items()
        ]

        def change(link: Connection) -> None:
            self.database.one_by_one(link, mirror)
            if again and link.execute(_same_run(record)).first():
                return
            _add(link, record)
            execute_many(link, _GONE, gone)
            sizes = _sizes(link, mirror) if summary.unmeasured else {}
            known = [
                {
                    "mirror": mirror,
                    "target": target,
                    "item": item,
                    **row_of(completed(seen, sizes)),
                    "sort": sort_of(item),
                }
                for (target, item), seen in summary.learned.items()
                if seen is not None
            ]
            put(link, tables.known, "mirror target item", known)
            failpoints.hit("record.receipts")
            put(link, tables.names, "mirror target name", names)
            _follow(link, summary)
            put(link, tables.last_run, "mirror target", last)
            put(link, tables.noted, "mirror what", noted)
            runs = tables.runs
            newest = select(runs.c.id).where(runs.c.mirror == mirror).order_by(runs.c.id.desc())
            oldest = link.execute(newest.offset(self.keep).limit(1)).scalar()
            if oldest is not None:
                link.execute(delete(runs).where(runs.c.mirror == mirror, runs.c.id <= oldest))
            failpoints.hit("record.days")
            settle(link, settled)
            forget(link, mirror, record.finished)

        self._days.pop(mirror, None)
        self.database.write(change)

    def note(self, mirror: str, name: str, facts: Mapping[str, str]) -> None:
        """Write facts, unless they are unchanged."""
        written = json.dumps(dict(facts), sort_keys=True) if facts else None
        if written != self._facts(mirror, name):

            def change(link: Connection) -> None:
                if written:
                    put(link, tables.facts, "mirror name", [{"mirror": mirror, "name": name, "facts": written}])
                else:
                    link.execute(where(delete(tables.facts), tables.facts, {"mirror": mirror, "name": name}))
                failpoints.hit("facts.noted")

            self.database.write(change)

    def move(self, intents: Sequence[LedgerEntry], settled: Sequence[LedgerEntry], *, again: bool = False) -> None:
        """Write intended moves, and outcomes of earlier ones; with `again` not if an earlier try has written them.

        The log need not be flushed: it survives a kill -9, a power cut may lose its end, and a name in no ledger
        is never deleted. A flush for each tag would cost more than the tag.
        """

        def change(link: Connection) -> None:
            if again and intents and link.execute(_same_move(intents[0])).first():
                return
            execute_many(link, _INTENT, [_unnumbered(entry) for entry in intents])
            settle(link, settled)

        self.database.write(change, flushed=False)


def _unnumbered(value: Any) -> dict[str, Any]:
    """Return the column values of a new row, whose number the database gives."""
    return {name: one for name, one in row_of(value).items() if name != "id"}


def _same_run(record: RunRecord) -> Any:
    table = tables.runs
    times = (table.c.started == micros(record.started), table.c.finished == micros(record.finished))
    return rows_with(table, mirror=record.mirror, trigger=record.trigger).where(*times).limit(1)


def _same_move(entry: LedgerEntry) -> Any:
    table = tables.ledger
    times = (table.c.run == micros(entry.run), table.c.at == micros(entry.at))
    return rows_with(table, mirror=entry.mirror, target=entry.target, name=entry.name).where(*times).limit(1)


def _add(link: Connection, record: RunRecord) -> None:
    ran = {name: value for name, value in _unnumbered(record).items() if name != "targets"}
    number = link.execute(insert(tables.runs).values(ran).returning(tables.runs.c.id)).scalar()
    parts = [{"run": number, "position": at, **row_of(entry)} for at, entry in enumerate(record.targets)]
    if parts:
        link.execute(insert(tables.run_targets), parts)


def _sizes(link: Connection, mirror: str) -> dict[str, LastSeen]:
    """Read by digest what has a known size, before a run that set names of content that was there already."""
    known = rows_with(tables.known, mirror=mirror).where(tables.known.c.size.is_not(None))
    seen = (value_of(LastSeen, row) for row in link.execute(known).mappings())
    return {one.digest: one for one in seen}


def _follow(link: Connection, summary: RunSummary) -> None:
    """Write what the targets lack after a run, the standings, and the numbers of its day."""
    mirror = summary.record.mirror
    behind: dict[str, list[Behind]] = {}
    for row in link.execute(rows_with(tables.behind, mirror=mirror)).mappings():
        behind.setdefault(row["target"], []).append(value_of(Behind, row))
    now = summary.lacking.after(behind)
    for target, lacks in now.items():
        if lacks or target in behind:
            link.execute(where(delete(tables.behind), tables.behind, {"mirror": mirror, "target": target}))
        put(link, tables.behind, "mirror target item", [{"mirror": mirror, **row_of(one)} for one in lacks[:BEHIND]])
    standings = link.execute(rows_with(tables.standing, mirror=mirror)).mappings()
    before = {row["target"]: value_of(Standing, row) for row in standings}
    rows = map(row_of, standings_after(before, summary, now))
    columns = [column.name for column in tables.standing.c if column.name != "counted"]
    put(
        link, tables.standing, "mirror target", [{name: row[name] for name in columns} | {"counted": 0} for row in rows]
    )
    whole = () if summary.record.trigger != "asked" else (_EVERY_ITEM,)  # the run is about a few of them
    for statement in (_COUNTED, _COUNTED_ANYWHERE, *whole) if summary.learned else ():
        link.execute(statement, {"m": mirror})
    _count_day(link, summary)


def _count_day(link: Connection, summary: RunSummary) -> None:
    """Add a run to its day, and delete days of long ago."""
    mirror, table = summary.record.mirror, tables.days
    number = days_since_1970(day_after(None, summary).day)
    row = link.execute(rows_with(table, mirror=mirror).where(table.c.day == number)).mappings().first()
    day = day_after(value_of(Day, row) if row else None, summary)
    put(link, table, "mirror day", [{"mirror": mirror, **row_of(day)}])
    link.execute(where(delete(table), table, {"mirror": mirror}).where(table.c.day <= number - KEPT_DAYS))
