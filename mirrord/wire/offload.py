"""Reading what strangers sent, away from the event loop when it is long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, TypeVarTuple

from mirrord.wire.http.message import KIB

_Parts = TypeVarTuple("_Parts")
_Result = TypeVar("_Result")

SHORT: Final = 256 * KIB  # some milliseconds of JSON
_THREADS: Final = ThreadPoolExecutor(1, "read")  # one after the other: in memory, a document takes many times its bytes


async def offload(size: int, read: Callable[[*_Parts], _Result], *parts: *_Parts) -> _Result:
    """Return what `read(*parts)` returns, and let others go on meanwhile when there are more than `SHORT` bytes."""
    if size <= SHORT:
        return read(*parts)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, read, *parts)
