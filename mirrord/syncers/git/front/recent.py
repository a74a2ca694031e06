"""What was found a moment ago, for who asks the same: a crowd that wants one thing costs one look."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Any, Final, TypeVar, cast

SECONDS: Final = 1.0
"""For which an answer is remembered."""
MOST: Final = 256
_T = TypeVar("_T")


class Recent:
    """Answers by question; an error is for those only who asked while it came about."""

    def __init__(self, seconds: float = SECONDS, most: int = MOST) -> None:
        """Remember at most so many answers, for so long."""
        self._seconds, self._most = seconds, most
        self._tasks: dict[Hashable, asyncio.Future[Any]] = {}

    async def get(self, question: Hashable, find: Callable[[], Awaitable[_T]]) -> _T:
        """Return the answer, which `find` gives when nobody asked just now; who leaves takes it from nobody."""
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
