"""A record in memory: fulfils `Store` to the letter (the contract tests say so) and forgets all at the end."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from mirrord import failpoints
from mirrord.errors import StorageError
from mirrord.model.history import RunRecord, Standing
from mirrord.model.ledger import LedgerEntry, Settled
from mirrord.model.memory import LastSeen, Memory, NamedBuild
from mirrord.model.run import Run
from mirrord.record.store import KEEP, MOVES
from mirrord.record.summary import RunSummary, standings_after


class MemoryStore:
    """A `Store` without a disk.

    Attributes:
        broken: set it, and every method raises `StorageError` with this text.
    """

    lost = ""

    def __init__(self, keep: int = KEEP) -> None:
        self.broken = ""
        self._keep = keep
        self._runs: list[RunRecord] = []
        self._known: dict[str, dict[tuple[str, str], LastSeen]] = {}
        self._names: dict[str, dict[tuple[str, str], NamedBuild]] = {}
        self._facts: dict[tuple[str, str], Mapping[str, str]] = {}
        self._ledger: dict[tuple[str, str, str], dict[int, LedgerEntry]] = {}
        self._count = 0
        self._accepted: Counter[str] = Counter()
        self._standing: dict[tuple[str, str], Standing] = {}

    async def memory(self, mirror: str) -> Memory:
        """See `Store.memory`."""
        self._usable()
        return Memory(dict(self._known.get(mirror, {})), dict(self._names.get(mirror, {})))

    async def accept(self, mirror: str) -> int:
        """See `Store.accept`."""
        self._usable()
        self._accepted[mirror] += 1
        return self._accepted[mirror]

    async def add_run(self, run: Run) -> None:
        """See `Store.add_run`."""
        self._usable()
        summary = RunSummary.of(run)
        record = summary.record
        self._runs.append(record)
        for surplus in [entry for entry in self._runs if entry.mirror == run.mirror][: -self._keep]:
            self._runs.remove(surplus)
        known = self._known.setdefault(run.mirror, {})
        for key, value in summary.learned.items():
            known.pop(key, None)
            if value is not None:
                known[key] = value
        self._names.setdefault(run.mirror, {}).update(summary.names)
        before = {target: standing for (mirror, target), standing in self._standing.items() if mirror == run.mirror}
        for after in standings_after(before, summary):
            more: dict[str, Any] = {} if after.target else dict(summary.noted)
            last = summary.last.get(after.target, after.last)
            self._standing[run.mirror, after.target] = replace(after, last=last, **more)

    async def runs(self, mirror: str, limit: int = 20) -> Sequence[RunRecord]:
        """See `Store.runs`."""
        self._usable()
        return [entry for entry in reversed(self._runs) if entry.mirror == mirror][:limit]

    async def standing(self, mirror: str | None = None) -> Sequence[Standing]:
        """See `Store.standing`."""
        self._usable()
        found = [entry for entry in sorted(self._standing.items()) if mirror in (None, entry[0][0])]
        return [replace(entry, items=max(entry.items, self._items(*key))) for key, entry in found]

    async def recall(self, mirror: str, name: str) -> Mapping[str, str]:
        """See `Facts.recall`."""
        self._usable()
        return dict(self._facts.get((mirror, name), {}))

    async def note(self, mirror: str, name: str, facts: Mapping[str, str]) -> None:
        """See `Facts.note`."""
        self._usable()
        self._facts[mirror, name] = dict(facts)

    async def intend(self, entries: Iterable[LedgerEntry]) -> None:
        """See `Store.intend`."""
        self._usable()
        for entry in entries:
            self._count += 1
            self._ledger.setdefault((entry.mirror, entry.target, entry.name), {})[self._count] = entry

    async def settle(self, entries: Iterable[LedgerEntry]) -> None:
        """See `Store.settle`."""
        self._usable()
        for entry in entries:
            mine = self._ledger.get((entry.mirror, entry.target, entry.name), {})
            for number, one in mine.items():
                if one.run == entry.run and one.outcome is Settled.OPEN:
                    mine[number] = replace(one, outcome=entry.outcome)
            newest = [number for number, one in mine.items() if one.outcome is Settled.DONE][-MOVES:]
            for number in [number for number in mine if len(newest) == MOVES and number < newest[0]]:
                if mine[number].outcome is not Settled.OPEN:
                    del mine[number]

    async def moves(self, mirror: str, *, unsettled: bool = False) -> Sequence[LedgerEntry]:
        """See `Store.moves`."""
        self._usable()
        mine = {number: one for key, found in self._ledger.items() if key[0] == mirror for number, one in found.items()}
        newest = [one for _, one in sorted(mine.items(), reverse=True)]
        return [one for one in newest if one.outcome is Settled.OPEN or not unsettled]

    async def unsettled(self) -> Collection[str]:
        """See `Store.unsettled`."""
        self._usable()
        entries = (one for found in self._ledger.values() for one in found.values())
        return {one.mirror for one in entries if one.outcome is Settled.OPEN}

    async def check(self) -> None:
        """See `Store.check`."""
        self._usable()

    async def close(self) -> None:
        """See `Store.close`."""

    def _items(self, mirror: str, target: str) -> int:
        return len({item for place, item in self._known.get(mirror, {}) if target in ("", place)})

    def _usable(self) -> None:
        if self.broken:
            raise StorageError(self.broken)


class FileFacts:
    """Facts in files of a folder, for worlds that are opened again and need nothing else of a record."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def recall(self, mirror: str, name: str) -> Mapping[str, str]:
        """See `Facts.recall`; what a test damaged says nothing."""
        try:
            found = json.loads((self.folder / f"{mirror}.{name}.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    async def note(self, mirror: str, name: str, facts: Mapping[str, str]) -> None:
        """See `Facts.note`."""
        if facts == await self.recall(mirror, name):
            return
        self.folder.mkdir(exist_ok=True)
        file = self.folder / f"{mirror}.{name}.json"
        fresh = self.folder / f"{file.name}.new"
        fresh.write_text(json.dumps(dict(facts)))
        failpoints.hit("facts.noted")
        fresh.rename(file)


def age(file: Path, *lacks: str) -> None:
    """Make a record one of before there were migrations, without some of the tables that came bit by bit."""
    with closing(sqlite3.connect(file)) as link, link:
        for table in ("alembic_version", "facts", "ledger", *lacks):
            link.execute(f"DROP TABLE {table}")
        link.execute("ALTER TABLE standing DROP COLUMN items")
        link.execute("UPDATE schema SET version = 1")
