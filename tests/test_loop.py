"""The loop that a command runs on."""

from __future__ import annotations

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
