"""How often somebody may ask. Pure: time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

MOST: Final = 10_000
"""Names whose rate is known; of more, those that asked longest ago are forgotten."""
_HOUR: Final = 3600.0


class AskRates:
    """Knows for each name when it may ask again: all at once at first, then evenly over an hour."""

    def __init__(self) -> None:
        """Know nobody."""
        self._full: OrderedDict[str, float] = OrderedDict()  # by name, when all that it may ask for is free again

    def take(self, names: Iterable[str], an_hour: int, now: float) -> float:
        """Count one image for each name, and return 0; or count nothing, and return after how many seconds to ask.

        Args:
            names: of who asks.
            an_hour: how many images each of them may ask for in an hour.
            now: monotonic time.
        """
        each, names = _HOUR / an_hour, [*names]
        wait = max((self._full.get(name, now) + each - now - _HOUR for name in names), default=0.0)
        if wait > 1e-6:  # rounding
            return wait
        for name in names:
            self._full[name] = max(self._full.get(name, now), now) + each
            self._full.move_to_end(name)
            if len(self._full) > MOST:
                self._full.popitem(last=False)
        return 0.0
