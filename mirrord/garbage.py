"""When the interpreter looks for cycles: in short looks while work goes on, and in all it has while nothing runs.

Most of what we make is gone when its last user is, and a look for what is not (a task and its exception, a connection
and its handlers) stops every thread for some 0.2 µs an object. The interpreter's own thresholds (700, 10, 10) look so
often that it costs 6 % of a copy; at 20 000 one look in ten went through 200 000 objects, and a full one in the middle
of a run over 20 000 items and three targets through a million, which is 50 and 160 ms. `bench/deciding.py` measures.
"""

from __future__ import annotations

import gc
from typing import Final

_YOUNG: Final = 5_000  # new objects between two looks at those alone: 2 ms
_OLDER: Final = 10  # of these looks between two at what they left: 10 to 20 ms
_ALL: Final = 1_000  # of those between two full ones: next to never, since `collect` is called


def look_briefly() -> None:
    """Let no look for cycles that the interpreter begins by itself be a long one. To be called once, at first."""
    gc.set_threshold(_YOUNG, _OLDER, _ALL)


def keep() -> None:
    """Look no more at what is there now: what was imported, the configuration. It still goes with its last user."""
    gc.freeze()


def collect() -> None:
    """Look through all that is not kept. To be called when nothing waits for us."""
    gc.collect()
