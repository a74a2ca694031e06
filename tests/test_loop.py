"""The loop that a command runs on."""

from __future__ import annotations

import asyncio
import signal

import pytest

from mirrord.daemon.loop import run


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
