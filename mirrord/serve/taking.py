"""Whether a client takes what is sent to it: asked of the kernel, which asks us for more much later.

A connection counts as writable when a third of its buffer is free. At 2 kB/s that takes minutes, in which nothing seems
to move; but what the other side acknowledged has left the buffer.
"""

from __future__ import annotations

import termios
from fcntl import ioctl
from typing import Final

STALL: Final = 120.0
"""A client that takes nothing for this many seconds is let go."""


class ConnectionProgress:
    """What is known of one connection. Times are seconds of one clock."""

    def __init__(self, descriptor: int, now: float) -> None:
        """Look at a connected socket, which stays open as long as anybody asks."""
        self._descriptor = descriptor
        self._queued, self._moved = -1, now

    def sent(self, now: float) -> None:
        """Note that the connection took something."""
        self._moved = now

    def stopped(self, now: float, stall: float) -> bool:
        """Say whether nothing moved for `stall` seconds, as far as whoever asks now and then can see.

        Raises:
            OSError: there is no connection any more.
        """
        queued = int.from_bytes(ioctl(self._descriptor, termios.TIOCOUTQ, bytes(4)), "little")
        if queued != self._queued:
            self._queued, self._moved = queued, now
        return now - self._moved > stall
