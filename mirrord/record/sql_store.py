"""The record in a database: threads of its own use it, so that the event loop never waits for a disk or a network.

One thread makes all changes, in the order in which they were asked for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from mirrord.errors import StorageError
from mirrord.model.history import Behind, Day, ItemRow, RunRecord, Standing
from mirrord.model.ledger import LedgerEntry
from mirrord.model.memory import Memory
from mirrord.model.request import AskRecord
from mirrord.model.run import Run
from mirrord.record.database import Database, UnwritableError
from mirrord.record.store import PAGE
from mirrord.record.summary import RunSummary

if TYPE_CHECKING:
    from mirrord.record.rows import Rows

OWED: Final = 100
"""Failed changes kept in memory for a retry; older ones are lost."""
SETTLED: Final = 100
"""Outcomes of moves written at once, or with the run; at most this many names are checked after a crash."""

_T = TypeVar("_T")


@dataclass(slots=True)
class _Owed:
    """A change that has not been made; it is told whether an earlier try may have made it."""

    change: Callable[[bool], None]
    tried: bool = False


class SqlStore:
    """A `Store` over a database; `open_store` opens one."""

    def __init__(self) -> None:
        self._owed: deque[_Owed] = deque(maxlen=OWED)
        self._changing = self._reading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="record")
        self._rows: Rows | None = None
        self._intents: list[LedgerEntry] = []
        self._settled: list[LedgerEntry] = []
        self._next: asyncio.Future[None] | None = None  # the commit that will include the next intents
        self._committing = asyncio.Lock()
        self.lost = self.replica = ""

    @classmethod
    async def open(cls, make: Callable[[], Database], now: datetime) -> SqlStore:
        """Open or create the record in the database that `make` returns; see `open_store`."""
        store = cls()
        try:
            await store._on(store._changing, lambda: store._open(make(), now))
        except BaseException:
            await store.close()
            raise
        return store

    def _open(self, database: Database, now: datetime) -> None:
        from mirrord.record.rows import Rows  # noqa: PLC0415 - SQLAlchemy costs 0.2 s; `copy` never pays

        try:
            self.lost = _insist(database, lambda _: database.open(now))
        except BaseException:
            database.close()
            raise
        self._rows = Rows(database)
        if database.readers:
            self._reading = ThreadPoolExecutor(database.readers, thread_name_prefix="record-reading")

    @property
    def away(self) -> str:
        """See `Store.away`."""
        return self._rows.database.away if self._rows else ""

    async def memory(self, mirror: str) -> Memory:
        """See `Store.memory`."""
        return await self._read(partial(self._opened.memory, mirror))

    async def accept(self, mirror: str) -> int:
        """See `Store.accept`."""
        return await self._change(lambda rows, _: rows.accept(mirror))

    async def add_run(self, run: Run, *, of: str | None = None) -> None:
        """See `Store.add_run`."""
        settled = self._take_settled()
        rows, replica = self._opened, self.replica if of is None else of

        def change(again: bool) -> None:  # noqa: FBT001 - as every change
            rows.add_run(RunSummary.of(run, replica), settled, again=again or of is not None)

        await self._on(self._changing, lambda: self._make(change))

    async def runs(self, mirror: str, limit: int = 20, before: int | None = None) -> Sequence[RunRecord]:
        """See `Store.runs`."""
        return await self._read(partial(self._opened.runs, mirror, min(limit, PAGE), before))

    async def days(self, mirror: str) -> Sequence[Day]:
        """See `Store.days`."""
        return await self._read(partial(self._opened.days, mirror))

    async def behind(self, mirror: str, limit: int = 100, after: tuple[str, str] | None = None) -> Sequence[Behind]:
        """See `Store.behind`."""
        return await self._read(partial(self._opened.behind, mirror, min(limit, PAGE), after))

    async def items(self, mirror: str, limit: int = 100, after: str = "", find: str = "") -> Sequence[ItemRow]:
        """See `Store.items`."""
        return await self._read(partial(self._opened.items, mirror, min(limit, PAGE), after, find))

    async def standing(self, mirror: str | None = None) -> Sequence[Standing]:
        """See `Store.standing`."""
        return await self._read(partial(self._opened.standing, mirror))

    async def recall(self, mirror: str, name: str) -> Mapping[str, str]:
        """See `Facts.recall`."""
        return await self._read(partial(self._opened.recall, mirror, name))

    async def note(self, mirror: str, name: str, facts: Mapping[str, str]) -> None:
        """See `Facts.note`."""
        await self._change(lambda rows, _: rows.note(mirror, name, facts))

    async def intend(self, entries: Iterable[LedgerEntry]) -> None:
        """See `Store.intend`: intents that arrive during a commit are written by the next one."""
        self._intents += entries
        if self._next is None:
            self._next = asyncio.ensure_future(self._commit())
            self._next.add_done_callback(lambda done: done.cancelled() or done.exception())  # the waiters raise it
        await asyncio.shield(self._next)

    async def settle(self, entries: Iterable[LedgerEntry]) -> None:
        """See `Store.settle`: they are written with a later change; a crash before leaves them open."""
        self._settled += entries

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
        if self._settled:
            await self.intend(())
        most = None if limit is None else min(limit, PAGE)
        read = partial(self._opened.moves, mirror, unsettled=unsettled, limit=most, before=before, name=name)
        return await self._read(read)

    async def newest_moves(self, mirror: str) -> Sequence[LedgerEntry]:
        """See `Store.newest_moves`."""
        if self._settled:
            await self.intend(())
        return await self._read(partial(self._opened.newest_moves, mirror))

    async def brought(self, target: str) -> frozenset[str]:
        """See `Store.brought`."""
        if self._settled:
            await self.intend(())
        return await self._read(partial(self._opened.brought, target))

    async def unsettled(self) -> Collection[str]:
        """See `Store.unsettled`."""
        if self._settled:
            await self.intend(())
        return await self._read(self._opened.unsettled)

    async def note_asked(self, *requests: AskRecord) -> None:
        """See `Store.note_asked`."""
        rows = self._opened
        await self._on(self._changing, lambda: self._make(lambda _: rows.note_asked(*requests)))

    async def open_requests(self) -> Sequence[AskRecord]:
        """See `Store.open_requests`."""
        return await self._read(self._opened.open_requests)

    async def request(self, number: str) -> AskRecord | None:
        """See `Store.request`."""
        return await self._read(partial(self._opened.request, number))

    async def _commit(self) -> None:
        async with self._committing:
            intents, self._intents, self._next = self._intents, [], None
            settled = self._take_settled() if len(self._settled) >= SETTLED or not intents else ()
            await self._change(lambda rows, again: rows.move(intents, settled, again=again))

    def _take_settled(self) -> Sequence[LedgerEntry]:
        settled, self._settled = self._settled, []
        return settled

    async def check(self) -> None:
        """See `Store.check`; a database that is away says so, although changes still wait for it."""
        check, waits = self._opened.database.check, self._reading is not self._changing
        if waits:
            await self._on(self._reading, check)
        await self._on(self._changing, self._make)
        if not waits:
            await self._on(self._changing, check)

    async def close(self) -> None:
        """See `Store.close`."""
        if self._settled and self._rows is not None:
            with suppress(StorageError):  # they stay open, and the next run looks what came of them
                await self.intend(())
        if self._rows is not None:
            rows, self._rows = self._rows, None
            await self._on(self._changing, lambda: self._close(rows.database))
        self._reading.shutdown(wait=False)
        self._changing.shutdown(wait=False)

    def _close(self, database: Database) -> None:
        """Close it once all is read, also for callers who have left: what is read has a connection."""
        if self._reading is not self._changing:
            self._reading.shutdown()
        database.close()

    def _make(self, change: Callable[[bool], None] | None = None) -> None:
        """Make a change after the earlier failed ones; a failed change is kept for a later try."""
        if change is not None:
            self._owed.append(_Owed(change))
        while self._owed:
            owed = self._owed.popleft()
            try:
                _insist(self._opened.database, owed.change, tried=owed.tried)
            except UnwritableError:
                owed.tried = True
                self._owed.appendleft(owed)
                raise

    async def _change(self, change: Callable[[Rows, bool], _T]) -> _T:
        rows = self._opened
        return await self._on(self._changing, lambda: _insist(rows.database, partial(change, rows)))

    async def _read(self, read: Callable[[], _T]) -> _T:
        database = self._opened.database
        return await self._on(self._reading, lambda: _insist(database, lambda _: read()))

    @property
    def _opened(self) -> Rows:
        if self._rows is None:
            raise StorageError("the record is closed")
        return self._rows

    async def _on(self, threads: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        """Do `work` in a thread of the record; once started it completes, even if the caller is cancelled."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(threads, work))


def _insist(database: Database, work: Callable[[bool], _T], *, tried: bool = False) -> _T:
    """Do `work`, and again while that may help; it is told whether an earlier try may have done it."""
    tries = 0
    while True:
        try:
            return work(tried or tries > 0)
        except StorageError as error:
            tries += 1
            if not database.again(error, tries):
                raise
