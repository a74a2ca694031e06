"""When the cycle collector runs: briefly during work, fully while nothing runs.

Most objects are freed by reference counting. A collection of cycles (a task and its exception, a connection and its
handlers) stops every thread for some 0.2 µs an object. The default thresholds (700, 10, 10) cost 6 % of a copy. At
20 000 one collection in ten visited 200 000 objects, and a full one in a run over 20 000 items and three targets a
million, which is 50 and 160 ms. `bench/deciding.py` measures this.
"""

from __future__ import annotations

import gc
from typing import Final

_YOUNG: Final = 5_000  # new objects between two collections of the youngest: 2 ms
_OLDER: Final = 10  # of these between two of the middle generation: 10 to 20 ms
_ALL: Final = 1_000  # of those between two full ones: rare, since `collect` is called


def look_briefly() -> None:
    """Keep automatic collections short. To be called once, first."""
    gc.set_threshold(_YOUNG, _OLDER, _ALL)


def keep() -> None:
    """Exclude all present objects (imports, configuration) from collections; reference counting still frees them."""
    gc.freeze()


def collect() -> None:
    """Run a full collection. To be called while idle."""
    gc.collect()
