"""What all requests to the front share: processes and walks of its own, few, so that runs keep theirs, and answers.

A crowd that wants one thing costs one look. Blobs that were taken out of a cache lie in files by object id, so many
bytes of them: whoever sends a file needs no memory for it, and a part costs a part. A file that is removed while it is
sent is sent to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from mirrord.errors import BusyError
from mirrord.files import beside, storage_errors
from mirrord.keyedlock import KeyedLock
from mirrord.syncer.values import Services
from mirrord.wire.git.command import Git

PROCESSES: Final = 8
WALKS: Final = 2
SECONDS: Final = 30.0
"""For which one waits for a walk, and for which it lasts at most."""
REMEMBERED: Final = 1.0
"""Seconds for which an answer is remembered."""
MOST: Final = 256
BUDGET: Final = 256 << 20
AT_ONCE: Final = 2  # blobs in memory on their way to a file
_T = TypeVar("_T")


class RecentAnswers:
    """Answers by question; an error is for those only who asked while it came about."""

    def __init__(self, seconds: float = REMEMBERED, most: int = MOST) -> None:
        """Remember at most so many answers, for so long."""
        self._seconds, self._most = seconds, most
        self._tasks: dict[Hashable, asyncio.Future[Any]] = {}

    async def get(self, question: Hashable, find: Callable[[], Awaitable[_T]]) -> _T:
        """Return the recent answer, or that of `find`; a caller that is cancelled does not cancel it for others."""
        task = self._tasks.get(question)
        if task is None:
            task = self._tasks[question] = asyncio.ensure_future(find())
            task.add_done_callback(partial(self._found, question))
        return cast("_T", await asyncio.shield(task))

    def _found(self, question: Hashable, task: asyncio.Future[Any]) -> None:
        if task.cancelled() or task.exception() or len(self._tasks) > self._most:
            del self._tasks[question]
        else:
            asyncio.get_running_loop().call_later(self._seconds, self._tasks.pop, question)


class BlobFiles:
    """Files of one folder, which may be empty or missing at any time."""

    def __init__(self, folder: Path, budget: int = BUDGET) -> None:
        """Use `folder` for so many bytes."""
        self._folder, self._budget = folder, budget
        self._free = asyncio.Semaphore(AT_ONCE)
        self._turns = KeyedLock()
        self._putting = threading.Lock()  # of threads: who is cancelled leaves one behind that still writes

    async def file(self, oid: str, read: Callable[[], Awaitable[bytes]]) -> Path:
        """Return a file with what `read` gives, asked if there is none. Raises StorageError, and as `read`."""
        path = self._folder / oid
        async with self._turns.hold(oid):
            if not await asyncio.to_thread(_used, path):
                async with self._free:
                    await asyncio.to_thread(self._put, path, await read())
        return path

    def _put(self, path: Path, data: bytes) -> None:
        with self._putting, storage_errors(str(self._folder)):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.scandir(self._folder) as entries:
                files = sorted((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in entries)
            total = len(data) + sum(size for _, size, _ in files)
            for _, size, old in files:
                if total <= self._budget:
                    break
                Path(old).unlink(missing_ok=True)
                total -= size
            fresh = beside(path)
            try:
                fresh.write_bytes(data)
                fresh.replace(path)
            finally:
                fresh.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, eq=False)
class GitFront:
    """One for all requests: `services.once(front_of)`."""

    git: Git  # looks into caches, so many processes at once
    blobs: BlobFiles  # that were taken out of caches
    recent: RecentAnswers = field(default_factory=RecentAnswers)  # what was found a moment ago
    _walks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WALKS))

    @asynccontextmanager
    async def walk(self) -> AsyncIterator[None]:
        """Be one of few who walk over a history: it takes seconds. Raises BusyError (too many), TimeoutError."""
        try:
            async with asyncio.timeout(SECONDS):
                await self._walks.acquire()
        except TimeoutError as error:
            raise BusyError("too many ask for old commits or single objects; try again later") from error
        try:
            async with asyncio.timeout(SECONDS):
                yield
        finally:
            self._walks.release()


def front_of(services: Services) -> GitFront:
    """Return what all requests share; it looks into caches only, and so needs no later rules for hosts."""
    git = Git(services.scratch / "git-home", services.http.book, at_once=PROCESSES)
    return GitFront(git, BlobFiles(services.scratch / "raw"))


def _used(path: Path) -> bool:
    """Note that a file was used; say whether it is there."""
    with contextlib.suppress(OSError):
        os.utime(path)
        return True
    return False
