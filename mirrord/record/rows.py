"""Rows in and out of the tables. Blocking: only the record's own thread may call this."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, RowMapping, TableClause, bindparam, delete, func, insert, select, text  # noqa: TID251 - this is the door

from mirrord import failpoints
from mirrord.model.history import LastRun, Noted, RunRecord, Standing, TargetRecord
from mirrord.model.ledger import LedgerEntry
from mirrord.model.memory import LastSeen, Memory, NamedBuild
from mirrord.record import tables
from mirrord.record.engine import bring_up, open_engine, storage_errors, unsynchronised
from mirrord.record.store import FORGET, KEEP, MOVES
from mirrord.record.summary import RunSummary, advance
from mirrord.record.tables import micros, row_of, value_of

_T = TypeVar("_T")

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


def settle(link: Connection, settled: Sequence[LedgerEntry]) -> None:
    """Write outcomes to entries that have none; of a name that was moved, only so many older entries stay."""
    if settled:
        rows = [
            {"m": one.mirror, "t": one.target, "n": one.name, "r": micros(one.run), "o": one.outcome, "kept": MOVES - 1}
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


class Rows:
    """One open database."""

    def __init__(self, path: Path, engine: Engine, keep: int = KEEP) -> None:
        self._path = path
        self._engine = engine
        self._keep = keep

    @classmethod
    def open(cls, path: Path) -> Rows:
        """Open, check, and make the tables that it lacks. Raises as `open_engine` and `bring_up`."""
        engine = open_engine(path)
        rows = cls(path, engine)
        try:
            rows._write(lambda link: bring_up(link, path))
        except BaseException:
            engine.dispose()
            raise
        return rows

    def close(self) -> None:
        """Let go of the file; the log is folded into it."""
        self._engine.dispose()

    def check(self) -> None:
        """Show that a change can be made."""
        self._write(lambda link: link.exec_driver_sql("PRAGMA user_version = 1"))

    def memory(self, mirror: str) -> Memory:
        """Read what is known at the targets of `mirror`."""
        known = {
            (row["target"], row["item"]): value_of(LastSeen, row)
            for row in self._read(_of(tables.known, mirror=mirror))
        }
        names = self._read(_of(tables.names, mirror=mirror))
        return Memory(known, {(row["target"], row["name"]): value_of(NamedBuild, row) for row in names})

    def accept(self, mirror: str) -> int:
        """Count a publish."""

        def change(link: Connection) -> int:
            row = link.execute(_of(tables.publishes, mirror=mirror)).mappings().first()
            number = int(row["number"] if row else 0) + 1
            _put(link, tables.publishes, {"mirror": mirror}, {"number": number})
            return number

        return self._write(change)

    def add_run(self, summary: RunSummary, settled: Sequence[LedgerEntry]) -> None:
        """Write one run, its targets, what it proved, and the standings that follow; all or nothing."""
        record, mirror = summary.record, summary.record.mirror

        def change(link: Connection) -> None:
            ran = {name: value for name, value in row_of(record).items() if name != "targets"}
            number = link.execute(insert(tables.runs).values(ran).returning(tables.runs.c.id)).scalar()
            for position, entry in enumerate(record.targets):
                link.execute(insert(tables.run_targets).values(run=number, position=position, **row_of(entry)))
            for (target, item), known in summary.learned.items():
                row = row_of(known) if known else None
                _put(link, tables.known, {"mirror": mirror, "target": target, "item": item}, row)
                failpoints.hit("record.receipt")
            for (target, name), build in summary.names.items():
                _put(link, tables.names, {"mirror": mirror, "target": target, "name": name}, row_of(build))
            _advance(link, record, "", record)
            for entry in record.targets:
                _advance(link, record, entry.target, entry)
            for target, last in summary.last.items():
                counts = row_of(last) | {"troubles": "\n".join(last.troubles)}
                _put(link, tables.last_run, {"mirror": mirror, "target": target}, counts)
            for what, texts in summary.noted.items():
                row = {"count": texts.count, "first": "\n".join(texts.first)}
                _put(link, tables.noted, {"mirror": mirror, "what": what}, row)
            runs = tables.runs
            newest = select(runs.c.id).where(runs.c.mirror == mirror).order_by(runs.c.id.desc())
            oldest = link.execute(newest.offset(self._keep).limit(1)).scalar()
            if oldest is not None:
                link.execute(delete(runs).where(runs.c.mirror == mirror, runs.c.id <= oldest))
            settle(link, settled)
            forget(link, mirror, record.finished)

        self._write(change)

    def runs(self, mirror: str, limit: int) -> Sequence[RunRecord]:
        """Read the newest runs, newest first."""
        found = self._read(_of(tables.runs, mirror=mirror).order_by(tables.runs.c.id.desc()).limit(limit))
        parts: dict[int, list[TargetRecord]] = {row["id"]: [] for row in found}
        query = select(tables.run_targets).where(tables.run_targets.c.run.in_(list(parts)))
        for row in self._read(query.order_by(tables.run_targets.c.position)):
            parts[row["run"]].append(value_of(TargetRecord, row))
        return [value_of(RunRecord, row, targets=tuple(parts[row["id"]])) for row in found]

    def standing(self) -> Sequence[Standing]:
        """Read all standings with the number of items known at each."""
        known, mirror, target = tables.known, tables.known.c.mirror, tables.known.c.target
        at_each = select(mirror, target, func.count().label("items")).group_by(mirror, target)
        items = {(row["mirror"], row["target"]): int(row["items"]) for row in self._read(at_each)}
        anywhere = select(mirror, func.count(known.c.item.distinct()).label("items")).group_by(mirror)
        items |= {(row["mirror"], ""): int(row["items"]) for row in self._read(anywhere)}
        last = {
            (row["mirror"], row["target"]): value_of(LastRun, row, troubles=_lines(row["troubles"]))
            for row in self._read(select(tables.last_run))
        }
        noted: dict[tuple[str, str], dict[str, Any]] = {}
        for row in self._read(select(tables.noted)):
            noted.setdefault((row["mirror"], ""), {})[row["what"]] = Noted(row["count"], _lines(row["first"]))
        found = []
        for row in self._read(select(tables.standing).order_by(tables.standing.c.mirror, tables.standing.c.target)):
            key = (row["mirror"], row["target"])
            more = {"items": items.get(key, 0), "last": last.get(key), **noted.get(key, {})}
            found.append(value_of(Standing, row, **more))
        return found

    def recall(self, mirror: str, name: str) -> Mapping[str, str]:
        """Read facts."""
        written = self._facts(mirror, name)
        return json.loads(written) if written else {}

    def note(self, mirror: str, name: str, facts: Mapping[str, str]) -> None:
        """Write facts, unless they are written already."""
        written = json.dumps(dict(facts), sort_keys=True) if facts else None
        if written != self._facts(mirror, name):

            def change(link: Connection) -> None:
                row = {"facts": written} if written else None
                _put(link, tables.facts, {"mirror": mirror, "name": name}, row)
                failpoints.hit("facts.noted")

            self._write(change)

    def _facts(self, mirror: str, name: str) -> str | None:
        found = self._read(_of(tables.facts, mirror=mirror, name=name))
        return str(found[0]["facts"]) if found else None

    def move(self, intents: Sequence[LedgerEntry], settled: Sequence[LedgerEntry]) -> None:
        """Write down what is about to be moved, and what became of moves before.

        The log need not have reached the disk: after a kill -9 it is all there, a power cut may lose the last of
        it, and what is in no ledger is never taken away. A sync for each tag would cost more than the tag does.
        """

        def change(link: Connection) -> None:
            if intents:
                link.execute(_INTENT, [row_of(entry) for entry in intents])
            settle(link, settled)

        with unsynchronised(self._engine):
            self._write(change)

    def moves(self, mirror: str, *, unsettled: bool) -> Sequence[LedgerEntry]:
        """Read entries of the ledger, newest first."""
        query = _of(tables.ledger, mirror=mirror).order_by(tables.ledger.c.id.desc())
        return [value_of(LedgerEntry, row) for row in self._read(query.where(OPEN) if unsettled else query)]

    def _read(self, query: Any) -> Sequence[RowMapping]:
        with storage_errors(self._path), self._engine.connect() as link:
            return link.execute(query).mappings().all()

    def _write(self, change: Callable[[Connection], _T]) -> _T:
        with storage_errors(self._path), self._engine.begin() as link:
            return change(link)


def _of(table: TableClause, **key: str) -> Any:
    return select(table).where(*(table.c[name] == value for name, value in key.items()))


def _put(link: Connection, table: TableClause, key: Mapping[str, Any], row: Mapping[str, Any] | None) -> None:
    """Let `row` stand under `key`, or nothing."""
    link.execute(delete(table).where(*(table.c[name] == value for name, value in key.items())))
    if row is not None:
        link.execute(insert(table).values(**{**row, **key}))


def _advance(link: Connection, record: RunRecord, target: str, part: RunRecord | TargetRecord) -> None:
    key = {"mirror": record.mirror, "target": target}
    row = link.execute(_of(tables.standing, **key)).mappings().first()
    before = value_of(Standing, row) if row else Standing(record.mirror, target)
    after = row_of(advance(before, part.result, record.finished, part.code, part.error))
    _put(link, tables.standing, key, {entry.name: after[entry.name] for entry in tables.standing.c})


def _lines(texts: str) -> tuple[str, ...]:
    return tuple(filter(None, texts.split("\n")))
