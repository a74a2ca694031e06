"""Rows in and out of the tables. Blocking: only the record's own thread may call this."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import (  # noqa: TID251 - this is the door
    Connection,
    Engine,
    RowMapping,
    TableClause,
    TextClause,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
)

from mirrord import failpoints
from mirrord.model.history import LastRun, Noted, RunRecord, Standing, TargetRecord
from mirrord.model.ledger import LedgerEntry
from mirrord.model.memory import LastSeen, Memory, NamedBuild
from mirrord.record import tables
from mirrord.record.engine import bring_up, open_engine, storage_errors, unsynchronised
from mirrord.record.store import FORGET, KEEP, MOVES
from mirrord.record.summary import RunSummary, standings_after
from mirrord.record.tables import micros, row_of, value_of

_T = TypeVar("_T")

OPEN: Final = text("outcome = 'open'")
"""Selects open entries; a literal, so that the partial index is used."""
_STEP: Final = 500  # names deleted in one go, so that no run waits long
_INTENT = insert(tables.ledger).values(
    {name: bindparam(name) for name in tables.ledger.c.keys() if name != "id"}  # noqa: SIM118 - a collection of columns
)
# Literals, since they are run for many entries at once: building them would cost more than running them.
_OUTCOME = text(
    "UPDATE ledger SET outcome = :o WHERE mirror = :m AND target = :t AND name = :n AND run = :r AND outcome = 'open'"
)
_GONE = text("DELETE FROM known WHERE mirror = :m AND target = :t AND item = :i")
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
        link.execute(_OUTCOME, rows)
        link.execute(_SURPLUS, rows)
        failpoints.hit("ledger.settled")


def forget(link: Connection, mirror: str, now: datetime) -> None:
    """Delete entries of names deleted long ago; the newest entry of an existing name always stays."""
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
        """Open, check, and create missing tables. Raises as `open_engine` and `bring_up`."""
        engine = open_engine(path)
        rows = cls(path, engine)
        try:
            rows._write(lambda link: bring_up(link, path))
        except BaseException:
            engine.dispose()
            raise
        return rows

    def close(self) -> None:
        """Close the file; the write-ahead log is merged into it."""
        self._engine.dispose()

    def check(self) -> None:
        """Check that the record can be written."""
        self._write(lambda link: link.exec_driver_sql("PRAGMA user_version = 1"))

    def memory(self, mirror: str) -> Memory:
        """Read the recorded state of the targets of `mirror`."""
        known = {
            (row["target"], row["item"]): value_of(LastSeen, row)
            for row in self._read(_of(tables.known, mirror=mirror))
        }
        names = self._read(_of(tables.names, mirror=mirror))
        return Memory(known, {(row["target"], row["name"]): value_of(NamedBuild, row) for row in names})

    def accept(self, mirror: str) -> int:
        """Number a publish."""

        def change(link: Connection) -> int:
            row = link.execute(_of(tables.publishes, mirror=mirror)).mappings().first()
            number = int(row["number"] if row else 0) + 1
            _put(link, tables.publishes, "mirror", [{"mirror": mirror, "number": number}])
            return number

        return self._write(change)

    def add_run(self, summary: RunSummary, settled: Sequence[LedgerEntry]) -> None:
        """Write one run, its targets, the resulting state and standings; all or nothing."""
        record, mirror = summary.record, summary.record.mirror
        known = [
            {"mirror": mirror, "target": target, "item": item, **row_of(seen)}
            for (target, item), seen in summary.learned.items()
            if seen is not None
        ]
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
            _add(link, record)
            if gone:
                link.execute(_GONE, gone)
            _put(link, tables.known, "mirror target item", known)
            failpoints.hit("record.receipts")
            _put(link, tables.names, "mirror target name", names)
            _put(link, tables.standing, "mirror target", _advanced(link, summary))
            _put(link, tables.last_run, "mirror target", last)
            _put(link, tables.noted, "mirror what", noted)
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

    def standing(self, mirror: str | None) -> Sequence[Standing]:
        """Read the standings of a mirror, or all, with their numbers of items."""
        of = {} if mirror is None else {"mirror": mirror}
        column = tables.known.c
        counted = select(column.mirror, column.target, func.count().label("items"))
        at_each = _where(counted, tables.known, of).group_by(column.mirror, column.target)
        items = {(row["mirror"], row["target"]): int(row["items"]) for row in self._read(at_each)}
        distinct = select(column.mirror, func.count(column.item.distinct()).label("items"))
        anywhere = _where(distinct, tables.known, of).group_by(column.mirror)
        items |= {(row["mirror"], ""): int(row["items"]) for row in self._read(anywhere)}
        last = {
            (row["mirror"], row["target"]): value_of(LastRun, row, troubles=_lines(row["troubles"]))
            for row in self._read(_of(tables.last_run, **of))
        }
        noted: dict[tuple[str, str], dict[str, Any]] = {}
        for row in self._read(_of(tables.noted, **of)):
            noted.setdefault((row["mirror"], ""), {})[row["what"]] = Noted(row["count"], _lines(row["first"]))
        found = []
        for row in self._read(_of(tables.standing, **of).order_by(*tables.standing.c["mirror", "target"])):
            key = (row["mirror"], row["target"])
            more = {"items": max(items.get(key, 0), row["items"]), "last": last.get(key), **noted.get(key, {})}
            found.append(value_of(Standing, row, **more))
        return found

    def recall(self, mirror: str, name: str) -> Mapping[str, str]:
        """Read facts."""
        written = self._facts(mirror, name)
        return json.loads(written) if written else {}

    def note(self, mirror: str, name: str, facts: Mapping[str, str]) -> None:
        """Write facts, unless they are unchanged."""
        written = json.dumps(dict(facts), sort_keys=True) if facts else None
        if written != self._facts(mirror, name):

            def change(link: Connection) -> None:
                if written:
                    _put(link, tables.facts, "mirror name", [{"mirror": mirror, "name": name, "facts": written}])
                else:
                    link.execute(_where(delete(tables.facts), tables.facts, {"mirror": mirror, "name": name}))
                failpoints.hit("facts.noted")

            self._write(change)

    def _facts(self, mirror: str, name: str) -> str | None:
        found = self._read(_of(tables.facts, mirror=mirror, name=name))
        return str(found[0]["facts"]) if found else None

    def move(self, intents: Sequence[LedgerEntry], settled: Sequence[LedgerEntry]) -> None:
        """Write intended moves, and outcomes of earlier ones.

        The log need not be flushed: it survives a kill -9, a power cut may lose its end, and a name in no ledger
        is never deleted. A flush for each tag would cost more than the tag.
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

    def unsettled(self) -> Collection[str]:
        """Read the mirrors with open moves."""
        return {row["mirror"] for row in self._read(select(tables.ledger.c.mirror).where(OPEN).distinct())}

    def _read(self, query: Any) -> Sequence[RowMapping]:
        with storage_errors(self._path), self._engine.connect() as link:
            return link.execute(query).mappings().all()

    def _write(self, change: Callable[[Connection], _T]) -> _T:
        with storage_errors(self._path), self._engine.begin() as link:
            return change(link)


def _of(table: TableClause, **key: str) -> Any:
    return _where(select(table), table, key)


def _where(query: Any, table: TableClause, key: Mapping[str, str]) -> Any:
    return query.where(*(table.c[name] == value for name, value in key.items()))


def _put(link: Connection, table: TableClause, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert or replace rows by their key columns; each row has all columns."""
    if rows:
        link.execute(_putting(table, key), rows)


@cache
def _putting(table: TableClause, key: str) -> TextClause:
    columns = [column.name for column in table.c]
    quoted, values = ", ".join(f'"{name}"' for name in columns), ", ".join(f":{name}" for name in columns)
    changed = ", ".join(f'"{name}" = excluded."{name}"' for name in columns if name not in key.split())
    unique = ", ".join(key.split())
    return text(f"INSERT INTO {table.name} ({quoted}) VALUES ({values}) ON CONFLICT ({unique}) DO UPDATE SET {changed}")  # noqa: S608 - names of our own tables


def _add(link: Connection, record: RunRecord) -> None:
    ran = {name: value for name, value in row_of(record).items() if name != "targets"}
    number = link.execute(insert(tables.runs).values(ran).returning(tables.runs.c.id)).scalar()
    parts = [{"run": number, "position": at, **row_of(entry)} for at, entry in enumerate(record.targets)]
    if parts:
        link.execute(insert(tables.run_targets), parts)


def _advanced(link: Connection, summary: RunSummary) -> Sequence[Mapping[str, Any]]:
    """Return the standings of a mirror and its targets after a run."""
    found = link.execute(_of(tables.standing, mirror=summary.record.mirror)).mappings()
    before = {row["target"]: value_of(Standing, row) for row in found}
    rows = map(row_of, standings_after(before, summary))
    return [{column.name: row[column.name] for column in tables.standing.c} for row in rows]


def _lines(texts: str) -> tuple[str, ...]:
    return tuple(filter(None, texts.split("\n")))
