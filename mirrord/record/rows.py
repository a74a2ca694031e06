"""Rows in and out of the tables. Blocking: only the record's own thread may call this."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, RowMapping, delete, func, insert, select  # noqa: TID251 - this is the door

from mirrord import failpoints
from mirrord.errors import StorageError
from mirrord.model.history import LastRun, Noted, RunRecord, Standing, TargetRecord
from mirrord.model.memory import LastSeen, Memory, NamedBuild
from mirrord.model.run import Result
from mirrord.record import tables
from mirrord.record.engine import open_engine, storage_errors
from mirrord.record.store import KEEP
from mirrord.record.summary import advance

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MOMENTS = ("created", "ahead", "published")
_T = TypeVar("_T")


class Rows:
    """One open database."""

    def __init__(self, path: Path, engine: Engine, keep: int = KEEP) -> None:
        self._path = path
        self._engine = engine
        self._keep = keep

    @classmethod
    def open(cls, path: Path) -> Rows:
        """Open, check and, when it is new, make the tables.

        Raises:
            DamagedError: it is damaged, or no database.
            StorageError: anything else that keeps it from being used; it comes from a newer mirrord.
        """
        engine = open_engine(path)
        rows = cls(path, engine)
        try:
            rows._write(rows._adopt)
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
        query = select(tables.known).where(tables.known.c.mirror == mirror)
        known = {
            (row["target"], row["item"]): LastSeen(row["digest"], _when(row["at"]), row["place"])
            for row in self._read(query)
        }
        rows = self._read(select(tables.names).where(tables.names.c.mirror == mirror))
        return Memory(known, {(row["target"], row["name"]): _named(row) for row in rows})

    def accept(self, mirror: str) -> int:
        """Count a publish."""

        def change(link: Connection) -> int:
            table = tables.publishes
            last = link.execute(select(table.c.number).where(table.c.mirror == mirror)).scalar()
            number = int(last or 0) + 1
            link.execute(delete(table).where(table.c.mirror == mirror))
            link.execute(insert(table).values(mirror=mirror, number=number))
            return number

        return self._write(change)

    def add_run(
        self,
        record: RunRecord,
        learned: Mapping[tuple[str, str], LastSeen | None],
        names: Mapping[tuple[str, str], NamedBuild],
        last: Mapping[str, LastRun],
        noted: Mapping[str, Noted],
    ) -> None:
        """Write one run, its targets, what it proved, and the standings that follow; all or nothing."""

        def change(link: Connection) -> None:
            row = _row_of(record)
            number = link.execute(insert(tables.runs).values(row)).inserted_primary_key
            assert number is not None
            for position, entry in enumerate(record.targets):
                link.execute(insert(tables.run_targets).values(run=number[0], position=position, **asdict(entry)))
            for (target, item), known in learned.items():
                _learn(link, record.mirror, target, item, known)
                failpoints.hit("record.receipt")
            for (target, _), named in names.items():
                _name(link, record.mirror, target, named)
            for part in (None, *record.targets):
                _advance(link, record, part)
            for target, done in last.items():
                _keep_last(link, record.mirror, target, done)
            for what, texts in noted.items():
                _keep_noted(link, record.mirror, what, texts)
            self._trim(link, record.mirror)

        self._write(change)

    def runs(self, mirror: str, limit: int) -> Sequence[RunRecord]:
        """Read the newest runs, newest first."""
        table = tables.runs
        found = self._read(select(table).where(table.c.mirror == mirror).order_by(table.c.id.desc()).limit(limit))
        numbers = [row["id"] for row in found]
        parts: dict[int, list[TargetRecord]] = {number: [] for number in numbers}
        query = select(tables.run_targets).where(tables.run_targets.c.run.in_(numbers))
        for row in self._read(query.order_by(tables.run_targets.c.position)):
            fields = {key: value for key, value in row.items() if key not in ("run", "position", "result")}
            parts[row["run"]].append(TargetRecord(result=Result(row["result"]), **fields))
        return [_record(row, tuple(parts[row["id"]])) for row in found]

    def standing(self) -> Sequence[Standing]:
        """Read all standings with the number of items known at each."""
        counts = self._read(
            select(tables.known.c.mirror, tables.known.c.target, func.count().label("items")).group_by(
                tables.known.c.mirror, tables.known.c.target
            )
        )
        items = {(row["mirror"], row["target"]): int(row["items"]) for row in counts}
        distinct = self._read(
            select(tables.known.c.mirror, func.count(tables.known.c.item.distinct()).label("items")).group_by(
                tables.known.c.mirror
            )
        )
        items |= {(row["mirror"], ""): int(row["items"]) for row in distinct}
        last = {(row["mirror"], row["target"]): _last_run(row) for row in self._read(select(tables.last_run))}
        noted: dict[tuple[str, str], dict[str, Any]] = {}
        for row in self._read(select(tables.noted)):
            noted.setdefault((row["mirror"], ""), {})[row["what"]] = Noted(row["count"], _lines(row["first"]))
        query = select(tables.standing).order_by(tables.standing.c.mirror, tables.standing.c.target)
        found = [_standing(row, items.get((row["mirror"], row["target"]), 0)) for row in self._read(query)]
        return [
            replace(entry, last=last.get(key), **noted.get(key, {}))
            for entry in found
            for key in ((entry.mirror, entry.target),)
        ]

    def _adopt(self, link: Connection) -> None:
        """Make missing tables, or refuse those of a newer version."""
        tables.metadata.create_all(link)
        version = link.execute(select(tables.schema.c.version)).scalar()
        if version is None:
            link.execute(insert(tables.schema).values(version=tables.SCHEMA))
        elif version > tables.SCHEMA:
            raise StorageError(
                f"{self._path}: written by a newer mirrord (schema {version}, this one knows {tables.SCHEMA}); "
                "start that version, or move the file away and lose only history"
            )

    def _trim(self, link: Connection, mirror: str) -> None:
        table = tables.runs
        newest = select(table.c.id).where(table.c.mirror == mirror).order_by(table.c.id.desc())
        oldest = link.execute(newest.offset(self._keep).limit(1)).scalar()
        if oldest is not None:
            link.execute(delete(table).where(table.c.mirror == mirror, table.c.id <= oldest))

    def _read(self, query: Any) -> Sequence[RowMapping]:
        with storage_errors(self._path), self._engine.connect() as link:
            return link.execute(query).mappings().all()

    def _write(self, change: Callable[[Connection], _T]) -> _T:
        with storage_errors(self._path), self._engine.begin() as link:
            return change(link)


def _learn(link: Connection, mirror: str, target: str, item: str, known: LastSeen | None) -> None:
    table = tables.known
    link.execute(delete(table).where(table.c.mirror == mirror, table.c.target == target, table.c.item == item))
    if known is not None:
        row = {"mirror": mirror, "target": target, "item": item, "digest": known.digest}
        link.execute(insert(table).values(row | {"at": _micros(known.at), "place": known.place}))


def _name(link: Connection, mirror: str, target: str, named: NamedBuild) -> None:
    table = tables.names
    link.execute(delete(table).where(table.c.mirror == mirror, table.c.target == target, table.c.name == named.name))
    fields = asdict(named) | {"mirror": mirror, "target": target, "at": _micros(named.at)}
    fields |= {key: None if fields[key] is None else _micros(fields[key]) for key in _MOMENTS}
    link.execute(insert(table).values(fields))


def _named(row: RowMapping) -> NamedBuild:
    fields: dict[str, Any] = {key: value for key, value in row.items() if key not in ("mirror", "target")}
    fields |= {key: None if fields[key] is None else _when(fields[key]) for key in _MOMENTS}
    return NamedBuild(**fields | {"at": _when(row["at"])})


def _advance(link: Connection, record: RunRecord, entry: TargetRecord | None) -> None:
    table, target = tables.standing, entry.target if entry else ""
    mine = (table.c.mirror == record.mirror, table.c.target == target)
    row = link.execute(select(table).where(*mine)).mappings().first()
    part = entry or record
    after = advance(
        _standing(row, 0) if row else Standing(record.mirror, target),
        part.result,
        record.finished,
        part.code,
        part.error,
    )
    fields = asdict(after)
    del fields["items"], fields["last"], fields["problems"], fields["remarks"]
    for name in ("last_success", "last_attempt"):
        fields[name] = None if fields[name] is None else _micros(fields[name])
    link.execute(delete(table).where(*mine))
    link.execute(insert(table).values(fields))


def _keep_last(link: Connection, mirror: str, target: str, last: LastRun) -> None:
    table = tables.last_run
    link.execute(delete(table).where(table.c.mirror == mirror, table.c.target == target))
    fields = asdict(last) | {"mirror": mirror, "target": target, "troubles": "\n".join(last.troubles)}
    link.execute(insert(table).values(fields))


def _keep_noted(link: Connection, mirror: str, what: str, texts: Noted) -> None:
    table = tables.noted
    link.execute(delete(table).where(table.c.mirror == mirror, table.c.what == what))
    row = {"mirror": mirror, "what": what, "count": texts.count, "first": "\n".join(texts.first)}
    link.execute(insert(table).values(row))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split("\n")))


def _last_run(row: RowMapping) -> LastRun:
    counts = {name: row[name] for name in ("done", "deleted", "kept", "refused", "failed")}
    return LastRun(troubles=_lines(row["troubles"]), **counts)


def _row_of(record: RunRecord) -> dict[str, object]:
    fields = asdict(replace(record, targets=()))
    del fields["targets"]
    return fields | {"started": _micros(record.started), "finished": _micros(record.finished)}


def _record(row: RowMapping, targets: tuple[TargetRecord, ...]) -> RunRecord:
    fields: dict[str, Any] = {key: value for key, value in row.items() if key != "id"}
    fields |= {"started": _when(row["started"]), "finished": _when(row["finished"]), "result": Result(row["result"])}
    return RunRecord(targets=targets, **fields)


def _standing(row: RowMapping, items: int) -> Standing:
    fields: dict[str, Any] = dict(row)
    for name in ("last_success", "last_attempt"):
        fields[name] = None if row[name] is None else _when(row[name])
    fields["result"] = None if row["result"] is None else Result(row["result"])
    return Standing(items=items, **fields)


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _when(micros: int) -> datetime:
    return _EPOCH + micros * _MICROSECOND
