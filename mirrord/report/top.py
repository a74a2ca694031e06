"""The most frequent of many names, counted in bounded memory. Pure."""

from __future__ import annotations

from collections.abc import Sequence


class TopNames:
    """Counts names by the space-saving algorithm (Metwally et al., 2005).

    A name that is more frequent than 1 of `room` is always among them. A count may be too high by that of a name whose
    place it took, and is never too low.
    """

    def __init__(self, room: int) -> None:
        """Count at most `room` names at a time."""
        self._room = room
        self._counts: dict[str, int] = {}

    def add(self, name: str) -> None:
        """Count a name once more; a new one takes the place of a rarest one where there is no room."""
        before = self._counts.get(name)
        if before is None and len(self._counts) >= self._room:
            rarest = min(self._counts, key=self._counts.__getitem__)
            before = self._counts.pop(rarest)
        self._counts[name] = (before or 0) + 1

    def first(self, most: int) -> Sequence[tuple[str, int]]:
        """Return the most frequent names with their counts, at most `most`."""
        return sorted(self._counts.items(), key=lambda one: (-one[1], one[0]))[:most]
