"""Runs a command's coroutine, and ends it in good order when a signal says so."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress
from typing import Any, Final, TypeVar

from mirrord.wire.secret import bug

_T = TypeVar("_T")
PAUSE: Final = 5.0
"""Seconds after which work that failed by a bug begins anew."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


async def cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task, and wait until it has ended; raises what else it ended with."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def lasting(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do what never ends: a bug in it is said, and it begins anew after a pause."""
    while True:
        try:
            return await work()
        except Exception as error:  # noqa: BLE001 - a task that ends without a word is missed when it is needed
            asyncio.get_running_loop().call_exception_handler({"message": bug(error)})
        await asyncio.sleep(PAUSE)


def run(work: Coroutine[Any, Any, _T], *, plain: bool = False) -> _T:
    """Run a coroutine to its end on uvloop, or on asyncio's own loop, which is there at once (`plain`).

    SIGTERM and SIGHUP cancel it as Ctrl-C does: what it started (git's process groups) ends with it, and what it did is
    remembered; then it is SystemExit with 128 and the signal's number. `work` may hear of signals itself, by a
    handler of its own. A SIGHUP that whoever started us wants ignored (`nohup`) stays so.
    """
    signals: list[int] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        with closing(asyncio.Runner(loop_factory=None if plain else _uvloop)) as runner:
            try:
                _make_loop(runner)
            except BaseException:
                work.close()  # it was not begun
                raise
            return runner.run(_ending(work, signals))()
    except asyncio.CancelledError:
        if not signals:
            raise
        raise SystemExit(128 + signals[0]) from None
    finally:
        for number, handler in before.items():  # uvloop leaves handlers of its closed loop, which ignore signals
            signal.signal(number, handler)


def _make_loop(runner: asyncio.Runner) -> None:
    """Make the loop. A Ctrl-C meanwhile counts when it is made: one that is half made cannot be closed.

    (To block the signal would not do: the kernel then hands it to another thread, and Python to this one.)
    """
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        runner.get_loop()
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)


async def _ending(work: Coroutine[Any, Any, _T], signals: list[int]) -> Callable[[], _T]:
    """Return what returns the result: in the end `asyncio.Runner` writes out the task, and with it what it returned.

    (It puts back the handler of SIGINT, and `signal` first makes a message of the old one, which holds the task.)
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None

    def end(number: int) -> None:
        if not signals:  # the next ones do not keep it from cleaning up
            task.cancel()
        signals.append(number)

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, end, number)
    result = await work
    return lambda: result


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop  # noqa: PLC0415 - what runs on a plain loop does not pay for it

    return uvloop.new_event_loop()
