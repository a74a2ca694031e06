"""What the front works with besides the caches: processes and walks of its own, few, so that runs keep theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from mirrord.errors import BusyError
from mirrord.syncer.values import Services
from mirrord.syncers.git.front.recent import Recent
from mirrord.syncers.git.front.shelf import AnswerCache
from mirrord.wire.git.command import Git

PROCESSES: Final = 8
WALKS: Final = 2
SECONDS: Final = 30.0
"""For which one waits for a walk, and for which it lasts at most."""


@dataclass(frozen=True, slots=True, eq=False)
class GitFront:
    """One for all requests: `services.once(front_of)`.

    Attributes:
        git: looks into caches, so many processes at once.
        shelf: blobs that were taken out of caches.
        recent: what was found a moment ago.
    """

    git: Git
    shelf: AnswerCache
    recent: Recent = field(default_factory=Recent)
    _walks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WALKS))

    @asynccontextmanager
    async def walk(self) -> AsyncIterator[None]:
        """Be one of the few who walk over a history: that takes seconds, and all else milliseconds.

        Raises:
            BusyError: too many want to.
            TimeoutError: it took too long.
        """
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
    return GitFront(git, AnswerCache(services.scratch / "raw"))
