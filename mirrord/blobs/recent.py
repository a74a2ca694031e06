"""The bytes of a blob that several readers want, in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

REREAD: Final = 16  # pieces of a file that readers share


class RereadPieces:
    """The last pieces that were read from the file, for others that are as far behind: clients that begin together."""

    def __init__(self) -> None:
        """Begin empty."""
        self._pieces: OrderedDict[int, bytes] = OrderedDict()

    def get(self, at: int, read: Callable[[], bytes]) -> bytes:
        """Return the piece that begins at byte `at`; read it if it is not there."""
        data = self._pieces.pop(at, None) or read()
        self._pieces[at] = data
        if len(self._pieces) > REREAD:
            self._pieces.popitem(last=False)
        return data

    def clear(self) -> None:
        """Drop them all."""
        self._pieces.clear()


class RecentPieces:
    """Contiguous pieces of a blob, oldest first."""

    def __init__(self) -> None:
        """Begin empty."""
        self._pieces: list[tuple[int, bytes]] = []  # with the offset of each; an empty deque takes 600 bytes

    @property
    def size(self) -> int:
        """Return their size in bytes."""
        return sum(len(data) for _, data in self._pieces)

    def add(self, at: int, data: bytes) -> None:
        """Add a piece that begins at byte `at`."""
        self._pieces.append((at, data))

    def find(self, at: int, until: int) -> bytes | None:
        """Return the bytes of a piece from `at` to `until`; None if `at` is not in memory."""
        for begin, data in self._pieces:
            end = min(begin + len(data), until)
            if begin <= at < end:
                return data if (begin, end) == (at, at + len(data)) else data[at - begin : end - begin]
        return None

    def forget(self, until: int) -> None:
        """Drop the pieces that end before byte `until`."""
        count = 0
        while count < len(self._pieces) and self._pieces[count][0] + len(self._pieces[count][1]) <= until:
            count += 1
        del self._pieces[:count]

    def clear(self) -> None:
        """Drop them all."""
        self._pieces.clear()
