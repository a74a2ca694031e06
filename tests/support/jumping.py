"""An event loop whose clock jumps to whatever is next: hours pass at once, and are counted exactly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class JumpingLoop(asyncio.SelectorEventLoop):
    """Waits for nothing but threads: where a loop would sleep, its clock goes to the next timer at once.

    Attributes:
        now: the time, in seconds.
    """

    def __init__(self) -> None:
        """Begin at 0."""
        super().__init__()
        self.now = 0.0
        self._threads = 0
        self._wait = self._selector.select  # type: ignore[attr-defined]  # typeshed does not show it
        self._selector.select = self._jump  # type: ignore[attr-defined]  # typeshed does not show it

    def _jump(self, timeout: float | None = None) -> Any:
        if self._threads:
            return self._wait(None if timeout is None or timeout > 0 else 0)  # the end of a thread wakes it
        self.now += timeout or 0.0
        return self._wait(0)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]  # its type variables
        """Run in a thread, during which no time passes."""
        done: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)
        self._threads += 1
        done.add_done_callback(self._returned)
        return done

    def _returned(self, _: object) -> None:
        self._threads -= 1

    def time(self) -> float:
        """Return the time of this clock."""
        return self.now
