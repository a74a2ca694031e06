"""What came last of a blob, in memory."""

from __future__ import annotations

from collections import deque


class RecentPieces:
    """Pieces of a blob that follow one another, the oldest first."""

    def __init__(self) -> None:
        """Begin with none."""
        self._pieces: deque[tuple[int, bytes]] = deque()  # and the number of the first byte of each

    @property
    def size(self) -> int:
        """Return how many bytes they have."""
        return sum(len(data) for _, data in self._pieces)

    def add(self, at: int, data: bytes) -> None:
        """Keep a piece that begins at byte `at`."""
        self._pieces.append((at, data))

    def find(self, at: int, until: int) -> bytes | None:
        """Return what of a piece lies between byte `at` and byte `until`; None when `at` is not in memory."""
        for begin, data in self._pieces:
            end = min(begin + len(data), until)
            if begin <= at < end:
                return data if (begin, end) == (at, at + len(data)) else data[at - begin : end - begin]
        return None

    def forget(self, until: int) -> None:
        """Drop the pieces that end before byte `until`."""
        while self._pieces and self._pieces[0][0] + len(self._pieces[0][1]) <= until:
            self._pieces.popleft()

    def clear(self) -> None:
        """Drop them all."""
        self._pieces.clear()
