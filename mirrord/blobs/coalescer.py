"""Joins small pieces into large ones, since handling a piece costs more than copying it once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Coalescer:
    """Passes on the pieces of `soon` seconds as one piece of about `size` bytes or more.

    On a line of 25 MB/s pieces have 64 KiB, and hashing, writing and sending them one by one to three targets takes a
    third more CPU time than four together. Leaving the context passes on the rest, also after an error. Cancellation
    does not, because an error of `take` would replace the cancellation.
    """

    def __init__(self, take: Callable[[bytes], None], size: int, soon: float) -> None:
        """Call `take` with joined pieces; its errors are raised by `add` or at the end of the context."""
        self._take, self._size, self._soon = take, size, soon
        self._parts: list[bytes] = []
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None
        self._error: Exception | None = None

    def add(self, data: bytes) -> None:
        """Take one more piece."""
        self._settle()
        self._parts.append(data)
        self._held += len(data)
        if self._held >= self._size:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._soon, self._late)

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Pass on the rest."""
        if error is not None and not isinstance(error, Exception):
            self._drop()
            return
        self._settle()
        self._flush()

    def _late(self) -> None:
        try:
            self._flush()
        except Exception as error:  # noqa: BLE001 - raised by the next call, since a timer has no caller
            self._error = error

    def _drop(self) -> list[bytes]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        parts, self._parts, self._held = self._parts, [], 0
        return parts

    def _flush(self) -> None:
        parts = self._drop()
        if parts:
            self._take(parts[0] if len(parts) == 1 else b"".join(parts))

    def _settle(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
