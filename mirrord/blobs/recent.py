"""The bytes of blobs that several readers want, in memory."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

WHOLE: Final = 1 << 20
"""Size of parts with which pieces are passed on as they are, however long: that costs least CPU."""
TOGETHER: Final = 50 << 20
"""Bytes that all readers hold at once, about: each may be at another place."""
APART: Final = 16 << 20
"""Bytes that one reader of each blob holds at once, about: readers of one blob that keep up share what they hold."""
SHARED: Final = 16 << 20
"""Most of those that are kept for others."""
_READ: Final = 1 << 18  # bytes that are read from a file at once
_SMALLEST: Final = 32 << 10


class ReaderMemory:
    """What the readers of all blobs have in memory together: many of them, each at another place, hold no more.

    Attributes:
        kept: bytes that are kept for other readers of the same blob, which are as far behind.
    """

    def __init__(self) -> None:
        """Begin without readers."""
        self._readers = Counter[object]()  # of each blob
        self._all = 0
        self._shared: OrderedDict[tuple[object, int], bytes] = OrderedDict()
        self.kept = 0

    @contextmanager
    def reader(self, blob: object) -> Iterator[None]:
        """Count one more reader of a blob; the last one drops its pieces."""
        self._readers[blob] += 1
        self._all += 1
        try:
            yield
        finally:
            self._readers[blob] -= 1
            self._all -= 1
            if not self._readers[blob]:
                del self._readers[blob]
                self.forget(blob)

    @property
    def part(self) -> int:
        """How many bytes each reader gets at once: `WHOLE`, or fewer if there are many."""
        part, blobs = WHOLE, len(self._readers)
        while part > _SMALLEST and (part * blobs > APART or min(part, _READ) * self._all > TOGETHER):
            part //= 2
        return part

    def share(self, blob: object, at: int, get: Callable[[], bytes]) -> bytes:
        """Return the piece of a blob that begins at byte `at`; get it if it is not kept."""
        data = self._shared.pop((blob, at), b"")
        self.kept -= len(data)
        data = data or get()
        if self._readers[blob] > 1:
            self._shared[blob, at] = data
            self.kept += len(data)
            while self.kept > SHARED:
                self.kept -= len(self._shared.popitem(last=False)[1])
        return data

    def forget(self, blob: object) -> None:
        """Drop the pieces of a blob."""
        for key in [key for key in self._shared if key[0] is blob]:
            self.kept -= len(self._shared.pop(key))


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

    def cut(self, begin: int) -> None:
        """Drop what is before byte `begin`."""
        self.forget(begin)
        if self._pieces and self._pieces[0][0] < begin:
            at, data = self._pieces[0]
            self._pieces[0] = begin, data[begin - at :]

    def clear(self) -> None:
        """Drop them all."""
        self._pieces.clear()
