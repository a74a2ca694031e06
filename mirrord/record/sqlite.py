"""The record in one SQLite file: a single thread owns the connection, so that the event loop never waits for the disk.

Every change is one `BEGIN IMMEDIATE` transaction in a write-ahead log with full synchronisation: after a
kill -9 a run is in the record completely or not at all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from mirrord.errors import StorageError
from mirrord.model.history import Behind, Day, ItemRow, RunRecord, Standing
from mirrord.model.ledger import LedgerEntry
from mirrord.model.memory import Memory
from mirrord.model.request import AskRecord
from mirrord.model.run import Run
from mirrord.record.store import PAGE
from mirrord.record.summary import RunSummary

if TYPE_CHECKING:
    from mirrord.record.rows import Rows

OWED: Final = 100
"""Failed changes kept in memory for a retry; older ones are lost."""
SETTLED: Final = 100
"""Outcomes of moves written at once, or with the run; at most this many names are checked after a crash."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class SqliteStore:
    """A `Store` over one file; `await SqliteStore.open(...)` makes one."""

    def __init__(self, path: Path, relief: Callable[[], bool]) -> None:
        self._path, self._relief = path, relief
        self._owed: deque[Callable[[Rows], None]] = deque(maxlen=OWED)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="record")
        self._rows: Rows | None = None
        self._intents: list[LedgerEntry] = []
        self._settled: list[LedgerEntry] = []
        self._next: asyncio.Future[None] | None = None  # the commit that will include the next intents
        self._committing = asyncio.Lock()
        self.lost = ""

    @classmethod
    async def open(cls, path: Path, now: datetime, relief: Callable[[], bool] = lambda: False) -> SqliteStore:
        """Open or create the record at `path`.

        A damaged file (or one that is not a database) is moved aside to `<name>.corrupt-<time>` and a new record
        is created; `lost` reports that. Mirrors are correct without a record, so this must not stop them. `relief`
        frees space on a full disk, and returns whether it did. StorageError if the file is a directory, cannot be
        read or written, is in use, or comes from a newer mirrord.
        """
        store = cls(path, relief)
        try:
            await store._call(store._open, now)
        except BaseException:
            await store.close()
            raise
        return store

    def _open(self, now: datetime) -> None:
        from mirrord.record.engine import DamagedError  # noqa: PLC0415 - SQLAlchemy costs 0.2 s; `copy` never pays
        from mirrord.record.rows import Rows  # noqa: PLC0415 - likewise

        try:
            self._rows = self._relieved(partial(Rows.open, self._path))
        except DamagedError:
            aside = _set_aside(self._path, now)
            self.lost = f"mirrord.db was damaged and a new one was created; the old one is {aside}"
            self._rows = self._relieved(partial(Rows.open, self._path))

    async def memory(self, mirror: str) -> Memory:
        """See `Store.memory`."""
        return await self._call(self._opened.memory, mirror)

    async def accept(self, mirror: str) -> int:
        """See `Store.accept`."""
        return await self._call(self._relieved, partial(self._opened.accept, mirror))

    async def add_run(self, run: Run) -> None:
        """See `Store.add_run`."""
        settled = self._take_settled()
        await self._call(self._write, self._opened, lambda rows: rows.add_run(RunSummary.of(run), settled))

    async def runs(self, mirror: str, limit: int = 20, before: int | None = None) -> Sequence[RunRecord]:
        """See `Store.runs`."""
        return await self._call(self._opened.runs, mirror, min(limit, PAGE), before)

    async def days(self, mirror: str) -> Sequence[Day]:
        """See `Store.days`."""
        return await self._call(self._opened.days, mirror)

    async def behind(self, mirror: str, limit: int = 100, after: tuple[str, str] | None = None) -> Sequence[Behind]:
        """See `Store.behind`."""
        return await self._call(self._opened.behind, mirror, min(limit, PAGE), after)

    async def items(self, mirror: str, limit: int = 100, after: str = "", find: str = "") -> Sequence[ItemRow]:
        """See `Store.items`."""
        return await self._call(self._opened.items, mirror, min(limit, PAGE), after, find)

    async def standing(self, mirror: str | None = None) -> Sequence[Standing]:
        """See `Store.standing`."""
        return await self._call(self._opened.standing, mirror)

    async def recall(self, mirror: str, name: str) -> Mapping[str, str]:
        """See `Facts.recall`."""
        return await self._call(self._opened.recall, mirror, name)

    async def note(self, mirror: str, name: str, facts: Mapping[str, str]) -> None:
        """See `Facts.note`."""
        await self._call(self._relieved, partial(self._opened.note, mirror, name, facts))

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
        return await self._call(read)

    async def newest_moves(self, mirror: str) -> Sequence[LedgerEntry]:
        """See `Store.newest_moves`."""
        if self._settled:
            await self.intend(())
        return await self._call(self._opened.newest_moves, mirror)

    async def unsettled(self) -> Collection[str]:
        """See `Store.unsettled`."""
        if self._settled:
            await self.intend(())
        return await self._call(self._opened.unsettled)

    async def note_asked(self, request: AskRecord) -> None:
        """See `Store.note_asked`."""
        await self._call(self._relieved, partial(self._opened.note_asked, request))

    async def open_requests(self) -> Sequence[AskRecord]:
        """See `Store.open_requests`."""
        return await self._call(self._opened.open_requests)

    async def request(self, number: str) -> AskRecord | None:
        """See `Store.request`."""
        return await self._call(self._opened.request, number)

    async def _commit(self) -> None:
        async with self._committing:
            intents, self._intents, self._next = self._intents, [], None
            settled = self._take_settled() if len(self._settled) >= SETTLED or not intents else ()
            await self._call(self._relieved, partial(self._opened.move, intents, settled))

    def _take_settled(self) -> Sequence[LedgerEntry]:
        settled, self._settled = self._settled, []
        return settled

    async def check(self) -> None:
        """See `Store.check`."""
        await self._call(self._write, self._opened, None)
        await self._call(self._opened.check)

    async def close(self) -> None:
        """See `Store.close`."""
        if self._settled and self._rows is not None:
            with suppress(StorageError):  # they stay open, and the next run looks what came of them
                await self.intend(())
        if self._rows is not None:
            rows, self._rows = self._rows, None
            await self._call(rows.close)
        self._thread.shutdown(wait=False)

    def _write(self, rows: Rows, change: Callable[[Rows], None] | None) -> None:
        """Make a change after the earlier failed ones; a failed change is kept for a retry."""
        from mirrord.record.engine import UnwritableError  # noqa: PLC0415 - see `_open`

        if change is not None:
            self._owed.append(change)
        while self._owed:
            owed = self._owed.popleft()
            try:
                self._relieved(partial(owed, rows))
            except UnwritableError:
                self._owed.appendleft(owed)
                raise

    def _relieved(self, work: Callable[[], _T]) -> _T:
        """Run `work`; if the disk fails, retry once after `relief`."""
        try:
            return work()
        except StorageError:
            if not self._relief():
                raise
        return work()

    @property
    def _opened(self) -> Rows:
        if self._rows is None:
            raise StorageError(f"{self._path}: the record is closed")
        return self._rows

    async def _call(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run `work` on the record's own thread; once started it completes, even if the caller is cancelled."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*args, **kwargs))
        return await asyncio.shield(future)


def _set_aside(path: Path, now: datetime) -> Path:
    stamp = f"corrupt-{now:%Y%m%dT%H%M%S}"
    aside = path.with_name(f"{path.name}.{stamp}")
    try:
        path.rename(aside)
        for tail in ("-wal", "-shm"):
            beside = path.with_name(path.name + tail)
            if beside.exists():
                beside.rename(aside.with_name(aside.name + tail))
    except OSError as error:
        raise StorageError(f"{path}: damaged, and moving it aside failed: {error.strerror}") from error
    return aside
