"""What is read of the record. Blocking: only threads of the record may call this, where it has several also at once."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import func, select, text, tuple_, union  # noqa: TID251 - this is the door

from mirrord.model.history import Behind, Day, ItemRow, LastRun, Noted, RunRecord, Standing, TargetRecord
from mirrord.model.ledger import LedgerEntry, Settled
from mirrord.model.memory import LastSeen, Memory, NamedBuild
from mirrord.model.request import AskRecord
from mirrord.names.natural import natural_order
from mirrord.record import tables
from mirrord.record.database import Database
from mirrord.record.requests import OPEN_REQUESTS
from mirrord.record.standings import KEPT_DAYS
from mirrord.record.statements import rows_with, where
from mirrord.record.tables import sort_of, value_of
from mirrord.record.verified import VERIFIED, verified_of

OPEN: Final = text("outcome = 'open'")
"""Selects open entries; a literal, so that the partial index is used."""

_MIRRORS: Final = 64  # of which the days are kept in memory, some 30 kB each


class Reading:
    """The record in an open database, to be read."""

    def __init__(self, database: Database) -> None:
        """Read this database."""
        self.database = database
        self._read = database.read
        self._days: dict[str, Sequence[Day]] = {}  # of mirrors that were read last, until their next run

    def memory(self, mirror: str) -> Memory:
        """Read the recorded state of the targets of `mirror`."""
        known = {
            (row["target"], row["item"]): value_of(LastSeen, row)
            for row in self._read(rows_with(tables.known, mirror=mirror))
        }
        names = self._read(rows_with(tables.names, mirror=mirror))
        return Memory(known, {(row["target"], row["name"]): value_of(NamedBuild, row) for row in names})

    def open_requests(self) -> Sequence[AskRecord]:
        """Read the images that were asked for and have not ended."""
        return [value_of(AskRecord, row) for row in self._read(OPEN_REQUESTS)]

    def request(self, number: str) -> AskRecord | None:
        """Read an image that was asked for."""
        found = self._read(rows_with(tables.asked, id=number))
        return value_of(AskRecord, found[0]) if found else None

    def runs(self, mirror: str, limit: int, before: int | None) -> Sequence[RunRecord]:
        """Read the newest runs, or the newest before a number, newest first."""
        table = tables.runs
        query = rows_with(table, mirror=mirror).order_by(table.c.id.desc()).limit(limit)
        found = self._read(query if before is None else query.where(table.c.id < before))
        parts: dict[int, list[TargetRecord]] = {row["id"]: [] for row in found}
        at_targets = select(tables.run_targets).where(tables.run_targets.c.run.in_(list(parts)))
        for row in self._read(at_targets.order_by(tables.run_targets.c.position)):
            parts[row["run"]].append(value_of(TargetRecord, row))
        return [value_of(RunRecord, row, targets=tuple(parts[row["id"]])) for row in found]

    def days(self, mirror: str) -> Sequence[Day]:
        """Read the days of a mirror, oldest first."""
        if not self.database.alone:
            return self._read_days(mirror)
        found = self._days.get(mirror)
        if found is None:
            found = self._read_days(mirror)
            while len(self._days) >= _MIRRORS:
                del self._days[next(iter(self._days))]
            self._days[mirror] = found
        return found

    def _read_days(self, mirror: str) -> Sequence[Day]:
        newest = rows_with(tables.days, mirror=mirror).order_by(tables.days.c.day.desc()).limit(KEPT_DAYS)
        return [value_of(Day, row) for row in reversed(self._read(newest))]

    def behind(self, mirror: str, limit: int, after: tuple[str, str] | None) -> Sequence[Behind]:
        """Read what its targets lack, the oldest first, or what follows a target and an item.

        It has no column for the order of names: all rows are read, at most `behind.BEHIND` of each target.
        """

        def by_name(target: str, item: str) -> tuple[str, tuple[str, str]]:
            return target, natural_order(item)

        rows = self._read(rows_with(tables.behind, mirror=mirror))
        if after:
            rows = [row for row in rows if by_name(row["target"], row["item"]) > by_name(*after)]
        order = sorted(rows, key=lambda row: (0 if after else row["since"], by_name(row["target"], row["item"])))
        return [value_of(Behind, row) for row in order[:limit]]

    def items(self, mirror: str, limit: int, after: str, find: str) -> Sequence[ItemRow]:
        """Read items by name, with their state at each target."""
        table, behind = tables.known, (sort_of(after), after)
        by_name = table.c.sort, table.c.item
        targets = [row["target"] for row in self._read(rows_with(tables.standing, mirror=mirror)) if row["target"]]
        names = set[str]()
        for target in targets:  # one by one, in the order of the index
            there = where(select(table.c.item), table, {"mirror": mirror, "target": target})
            there = there.where(tuple_(*by_name) > behind)
            if find:
                there = there.where(self.database.contains(table.c.item, find))
            names |= {row["item"] for row in self._read(there.order_by(*by_name).limit(limit))}
        order = sorted(names, key=natural_order)
        found: dict[str, dict[str, LastSeen]] = {item: {} for item in order[:limit]}
        at_them = rows_with(table, mirror=mirror).where(table.c.target.in_(targets), table.c.item.in_(list(found)))
        for row in self._read(at_them):
            found[row["item"]][row["target"]] = value_of(LastSeen, row)
        return [ItemRow(item, at) for item, at in found.items()]

    def standing(self, mirror: str | None) -> Sequence[Standing]:
        """Read the standings of a mirror, or all."""
        of = {} if mirror is None else {"mirror": mirror}
        last = {
            (row["mirror"], row["target"]): value_of(LastRun, row, troubles=_lines(row["troubles"]))
            for row in self._read(rows_with(tables.last_run, **of))
        }
        noted: dict[tuple[str, str], dict[str, Any]] = {}
        for row in self._read(rows_with(tables.noted, **of)):
            noted.setdefault((row["mirror"], ""), {})[row["what"]] = Noted(row["count"], _lines(row["first"]))
        verified = {
            row["mirror"]: verified_of(json.loads(row["facts"]))
            for row in self._read(rows_with(tables.facts, name=VERIFIED, **of))
        }
        found = []
        for row in self._read(rows_with(tables.standing, **of).order_by(*tables.standing.c["mirror", "target"])):
            key = (row["mirror"], row["target"])
            items = max(row["counted"], row["items"])
            found.append(
                value_of(
                    Standing,
                    row,
                    items=items,
                    last=last.get(key),
                    verified=verified.get(key[0], {}).get(key[1]),
                    **noted.get(key, {}),
                )
            )
        return found

    def recall(self, mirror: str, name: str) -> Mapping[str, str]:
        """Read facts."""
        written = self._facts(mirror, name)
        return json.loads(written) if written else {}

    def _facts(self, mirror: str, name: str) -> str | None:
        found = self._read(rows_with(tables.facts, mirror=mirror, name=name))
        return str(found[0]["facts"]) if found else None

    def moves(
        self, mirror: str, *, unsettled: bool, limit: int | None, before: int | None, name: str = ""
    ) -> Sequence[LedgerEntry]:
        """Read entries of the ledger, newest first; those of one name target by target, by the index of names."""
        table = tables.ledger
        query = rows_with(table, mirror=mirror).order_by(table.c.id.desc())
        query = query.where(OPEN) if unsettled else query
        query = query if before is None else query.where(table.c.id < before)
        if name:
            at = [row["target"] for row in self._read(rows_with(tables.standing, mirror=mirror)) if row["target"]]
            query = query.where(table.c.name == name, table.c.target.in_(at))
        return [value_of(LedgerEntry, row) for row in self._read(query if limit is None else query.limit(limit))]

    def newest_moves(self, mirror: str) -> Sequence[LedgerEntry]:
        """Read the newest entry of each name at each place of a target, without those that were undone."""
        table = tables.ledger
        mine = (table.c.mirror == mirror, table.c.outcome != Settled.UNDONE)
        newest = select(func.max(table.c.id)).where(*mine).group_by(table.c.target, table.c.place, table.c.name)
        return [value_of(LedgerEntry, row) for row in self._read(select(table).where(table.c.id.in_(newest)))]

    def brought(self, target: str) -> frozenset[str]:
        """Read the digests before and after all moves at a target that were not undone."""
        table = tables.ledger
        at = (table.c.target == target, table.c.outcome != Settled.UNDONE)
        both = union(*(select(column).where(*at, column.is_not(None)) for column in (table.c.before, table.c.after)))
        return frozenset(next(iter(row.values())) for row in self._read(both))

    def unsettled(self) -> Collection[str]:
        """Read the mirrors with open moves."""
        return {row["mirror"] for row in self._read(select(tables.ledger.c.mirror).where(OPEN).distinct())}


def _lines(texts: str) -> tuple[str, ...]:
    return tuple(filter(None, texts.split("\n")))
