"""A record in memory: fulfils `Store` to the letter (the contract tests say so) and forgets all at the end."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mirrord import failpoints
from mirrord.errors import StorageError
from mirrord.model.history import Behind, Day, ItemRow, RunRecord, Standing
from mirrord.model.ledger import LedgerEntry, Settled
from mirrord.model.memory import LastSeen, Memory, NamedBuild
from mirrord.model.request import AskRecord
from mirrord.model.run import Run
from mirrord.names.natural import natural_order
from mirrord.record.behind import BEHIND
from mirrord.record.learned import completed
from mirrord.record.standings import KEPT_DAYS, day_after, standings_after
from mirrord.record.store import KEEP, MOVES, PAGE
from mirrord.record.summary import RunSummary
from mirrord.record.verified import VERIFIED, verified_of


class MemoryStore:
    """A `Store` without a disk.

    Attributes:
        broken: set it, and every method raises `StorageError` with this text.
    """

    lost = away = replica = ""

    def __init__(self, keep: int = KEEP) -> None:
        self.broken = ""
        self._keep = keep
        self._runs: list[RunRecord] = []
        self._known: dict[str, dict[tuple[str, str], LastSeen]] = {}
        self._names: dict[str, dict[tuple[str, str], NamedBuild]] = {}
        self._facts: dict[tuple[str, str], Mapping[str, str]] = {}
        self._ledger: dict[tuple[str, str, str], dict[int, LedgerEntry]] = {}
        self._requests: dict[str, AskRecord] = {}
        self._count = 0
        self._accepted: Counter[str] = Counter()
        self._standing: dict[tuple[str, str], Standing] = {}
        self._behind: dict[str, dict[str, Sequence[Behind]]] = {}
        self._days: dict[str, dict[date, Day]] = {}

    async def memory(self, mirror: str) -> Memory:
        """See `Store.memory`."""
        self._usable()
        return Memory(dict(self._known.get(mirror, {})), dict(self._names.get(mirror, {})))

    async def note_asked(self, *requests: AskRecord) -> None:
        """See `Store.note_asked`."""
        self._usable()
        over = {one.id for one in self._requests.values() if one.ended}
        self._requests |= {one.id: one for one in requests if one.id not in over}

    async def open_requests(self) -> Sequence[AskRecord]:
        """See `Store.open_requests`."""
        self._usable()
        return sorted(
            (one for one in self._requests.values() if one.ended is None), key=lambda one: (one.asked, one.id)
        )

    async def request(self, number: str) -> AskRecord | None:
        """See `Store.request`."""
        self._usable()
        return self._requests.get(number)

    async def accept(self, mirror: str) -> int:
        """See `Store.accept`."""
        self._usable()
        self._accepted[mirror] += 1
        return self._accepted[mirror]

    async def add_run(self, run: Run, *, of: str | None = None) -> None:
        """See `Store.add_run`."""
        self._usable()
        summary = RunSummary.of(run, self.replica if of is None else of)
        if of is not None and summary.record in self._runs:
            return
        self._count += 1
        record = replace(summary.record, id=self._count)
        self._runs.append(record)
        for surplus in [entry for entry in self._runs if entry.mirror == run.mirror][: -self._keep]:
            self._runs.remove(surplus)
        known = self._known.setdefault(run.mirror, {})
        sizes = {one.digest: one for one in known.values() if one.size is not None}
        for key, value in summary.learned.items():
            before_it = known.pop(key, None)
            if value is not None:
                known[key] = _kept(before_it, completed(value, sizes) if summary.unmeasured else value)
        self._names.setdefault(run.mirror, {}).update(summary.names)
        before = {target: standing for (mirror, target), standing in self._standing.items() if mirror == run.mirror}
        behind = self._behind.setdefault(run.mirror, {})
        now = summary.lacking.after(behind)
        behind |= {target: lacks[:BEHIND] for target, lacks in now.items()}
        days = self._days.setdefault(run.mirror, {})
        day = day_after(None, summary).day
        days[day] = day_after(days.get(day), summary)
        for old in [one for one in days if one <= day - timedelta(days=KEPT_DAYS)]:
            del days[old]
        for after in standings_after(before, summary, now):
            more: dict[str, Any] = {} if after.target else dict(summary.noted)
            last = summary.last.get(after.target, after.last)
            self._standing[run.mirror, after.target] = replace(after, last=last, **more)

    async def runs(self, mirror: str, limit: int = 20, before: int | None = None) -> Sequence[RunRecord]:
        """See `Store.runs`."""
        self._usable()
        mine = [entry for entry in reversed(self._runs) if entry.mirror == mirror and _older(entry.id, before)]
        return mine[: min(limit, PAGE)]

    async def days(self, mirror: str) -> Sequence[Day]:
        """See `Store.days`."""
        self._usable()
        return [day for _, day in sorted(self._days.get(mirror, {}).items())][-KEPT_DAYS:]

    async def behind(self, mirror: str, limit: int = 100, after: tuple[str, str] | None = None) -> Sequence[Behind]:
        """See `Store.behind`."""
        self._usable()
        found = [one for lacks in self._behind.get(mirror, {}).values() for one in lacks]
        if after:
            later = [
                one for one in found if (one.target, natural_order(one.item)) > (after[0], natural_order(after[1]))
            ]
            return sorted(later, key=lambda one: (one.target, natural_order(one.item)))[: min(limit, PAGE)]
        return sorted(found, key=lambda one: (one.since, one.target, natural_order(one.item)))[: min(limit, PAGE)]

    async def items(self, mirror: str, limit: int = 100, after: str = "", find: str = "") -> Sequence[ItemRow]:
        """See `Store.items`."""
        self._usable()
        found: dict[str, dict[str, LastSeen]] = {}
        for (target, item), seen in sorted(self._known.get(mirror, {}).items()):
            if natural_order(item) > natural_order(after) and _lower(find) in _lower(item):
                found.setdefault(item, {})[target] = seen
        return [ItemRow(item, found[item]) for item in sorted(found, key=natural_order)][: min(limit, PAGE)]

    async def standing(self, mirror: str | None = None) -> Sequence[Standing]:
        """See `Store.standing`."""
        self._usable()
        found = [entry for entry in sorted(self._standing.items()) if mirror in (None, entry[0][0])]
        return [
            replace(
                entry,
                items=max(entry.items, self._items(*key)),
                size=self._size(*key),
                verified=verified_of(self._facts.get((key[0], VERIFIED), {})).get(key[1]),
            )
            for key, entry in found
        ]

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

    async def moves(
        self,
        mirror: str,
        *,
        unsettled: bool = False,
        limit: int | None = None,
        before: int | None = None,
        name: str = "",
    ) -> Sequence[LedgerEntry]:
        """See `Store.moves`."""
        self._usable()
        mine = {number: one for key, found in self._ledger.items() if key[0] == mirror for number, one in found.items()}
        newest = [replace(one, id=number) for number, one in sorted(mine.items(), reverse=True)]
        newest = [one for one in newest if name in ("", one.name)]
        wanted = [one for one in newest if (one.outcome is Settled.OPEN or not unsettled) and _older(one.id, before)]
        return wanted if limit is None else wanted[: min(limit, PAGE)]

    async def newest_moves(self, mirror: str) -> Sequence[LedgerEntry]:
        """See `Store.newest_moves`."""
        found: dict[tuple[str, str, str], LedgerEntry] = {}
        for one in await self.moves(mirror):
            if one.outcome is not Settled.UNDONE:
                found.setdefault((one.target, one.place, one.name), one)
        return list(found.values())

    async def brought(self, target: str) -> frozenset[str]:
        """See `Store.brought`."""
        self._usable()
        entries = (one for found in self._ledger.values() for one in found.values() if one.target == target)
        moves = ((one.before, one.after) for one in entries if one.outcome is not Settled.UNDONE)
        return frozenset(digest for move in moves for digest in move if digest)

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

    def _size(self, mirror: str, target: str) -> int:
        sizes: dict[str, dict[str, int]] = {}
        for (place, _), seen in self._known.get(mirror, {}).items():
            there = sizes.setdefault(place, {})
            there[seen.digest] = max(there.get(seen.digest, 0), seen.size or 0)
        return max((sum(there.values()) for place, there in sizes.items() if target in ("", place)), default=0)

    def _usable(self) -> None:
        if self.broken:
            raise StorageError(self.broken)


def _kept(before: LastSeen | None, now: LastSeen) -> LastSeen:
    """Return what is known now; the same content keeps what was known of it, and its signatures at the same place."""
    if before is None or before.digest != now.digest:
        return now
    now = completed(now, {before.digest: before})
    return replace(now, referrers=before.referrers) if now.referrers is None and now.place == before.place else now


def _older(number: int, before: int | None) -> bool:
    return before is None or number < before


def _lower(text: str) -> str:
    return "".join(one.lower() if one.isascii() else one for one in text)


class FileFacts:
    """Facts in files of a folder, for worlds that are opened again and need nothing else of a record."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def recall(self, mirror: str, name: str) -> Mapping[str, str]:
        """See `Facts.recall`; what a test damaged says nothing."""
        try:
            found = json.loads(self._file(mirror, name).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    async def note(self, mirror: str, name: str, facts: Mapping[str, str]) -> None:
        """See `Facts.note`."""
        if facts == await self.recall(mirror, name):
            return
        self.folder.mkdir(exist_ok=True)
        file = self._file(mirror, name)
        fresh = self.folder / f"{file.name}.new"
        fresh.write_text(json.dumps(dict(facts)))
        failpoints.hit("facts.noted")
        fresh.rename(file)

    def _file(self, mirror: str, name: str) -> Path:
        return self.folder / f"{quote(f'{mirror}.{name}', safe='')}.json"


def before_signatures(file: Path) -> None:
    """Make a record one of before what is known of signatures was recorded."""
    with closing(sqlite3.connect(file)) as link, link:
        link.execute("DROP TABLE asked")
        link.execute("ALTER TABLE runs DROP COLUMN replica")
        link.execute("DROP INDEX known_by_name")
        for name in ("referrers", "signer", "origin", "sort"):
            link.execute(f"ALTER TABLE known DROP COLUMN {name}")
        link.execute("UPDATE alembic_version SET version_num = '0008'")


def before_failing_since(file: Path) -> None:
    """Make a record one of before the first failure of a mirror was recorded."""
    before_signatures(file)
    with closing(sqlite3.connect(file)) as link, link:
        for name in ("failing_since", "first_attempt", "until"):
            link.execute(f"ALTER TABLE standing DROP COLUMN {name}")
        link.execute("UPDATE alembic_version SET version_num = '0004'")


def before_history(file: Path, *lacks: str) -> None:
    """Make a record one of before sizes, days and what is behind were recorded; it has no tables of `lacks`."""
    columns = {
        "known": ("size", "platforms"),
        "last_run": ("sent", "seconds"),
        "standing": ("behind", "behind_since", "counted", "failing_since", "first_attempt", "size", "until"),
    }
    if "known" not in lacks:
        before_signatures(file)
    with closing(sqlite3.connect(file)) as link, link:
        link.execute("DROP INDEX ledger_by_mirror")
        for table in ("behind", "days"):
            link.execute(f"DROP TABLE {table}")
        for table, names in columns.items():
            for name in names if table not in lacks else ():
                link.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
        link.execute("UPDATE alembic_version SET version_num = '0003'")


def age(file: Path, *lacks: str) -> None:
    """Make a record one of before there were migrations, without some of the tables that came bit by bit."""
    before_history(file, *lacks)
    with closing(sqlite3.connect(file)) as link, link:
        for table in ("alembic_version", "facts", "ledger", *lacks):
            link.execute(f"DROP TABLE {table}")
        link.execute("ALTER TABLE standing DROP COLUMN items")
        link.execute("UPDATE schema SET version = 1")
