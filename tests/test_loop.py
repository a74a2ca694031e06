"""The loop that a command runs on."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading

import pytest

from mirrord.daemon.loop import cancelled, lasting, run


class _Long:
    """A result that takes long to write out, as the steps and receipts of thousands of tags do."""

    def __init__(self) -> None:
        """Count how often that is done."""
        self.written = 0

    def __repr__(self) -> str:
        """Write it out."""
        self.written += 1
        return "all of it"


@pytest.mark.parametrize("plain", [True, False])
def test_a_result_is_returned_and_not_written_out(plain: bool) -> None:
    """A command's result is returned as it is, and nothing makes text of it: with 10 000 tags that takes seconds."""
    result = _Long()

    async def work() -> _Long:
        return result

    assert run(work(), plain=plain) is result
    assert result.written == 0


@pytest.mark.parametrize("plain", [True, False])
def test_signals_are_as_before(plain: bool) -> None:
    """After the loop a signal does again what it did before it; none of them is ignored from then on."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    run(asyncio.sleep(0), plain=plain)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)] == before


@pytest.mark.parametrize("threads", [0, 4])
def test_ctrl_c_waits_until_the_loop_is_made(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """One that comes while the loop is made ends the command, and leaves no loop that is half made.

    With other threads too: any of them may be given the signal.
    """
    made: list[asyncio.AbstractEventLoop] = []

    def factory() -> asyncio.AbstractEventLoop:
        os.kill(os.getpid(), signal.SIGINT)
        made.append(asyncio.new_event_loop())
        return made[-1]

    monkeypatch.setattr("mirrord.daemon.loop._uvloop", factory)
    work, over = asyncio.sleep(0), threading.Event()
    others = [threading.Thread(target=over.wait) for _ in range(threads)]
    for thread in others:
        thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(work)
    finally:
        over.set()
        for thread in others:
            thread.join()
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED
    assert [loop.is_closed() for loop in made] == [True]


async def test_what_lasts(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Work that fails by a bug is said and begins anew; it ends when it is cancelled."""
    monkeypatch.setattr("mirrord.daemon.loop.PAUSE", 0)
    begun, third = 0, asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise RuntimeError("unexpected")
        third.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(lasting(work))
    async with asyncio.timeout(30):
        await third.wait()
        await cancelled(task)
    assert begun == 3
    assert [record.getMessage() for record in caplog.records] == ["a bug: RuntimeError('unexpected')"] * 2
