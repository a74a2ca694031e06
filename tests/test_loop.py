"""The loop that a command runs on."""

from __future__ import annotations

import pytest

from mirrord.daemon.loop import run


class _Long:
    """A result that takes long to write out: the steps and receipts of thousands of tags."""

    def __repr__(self) -> str:
        """Fail."""
        raise AssertionError("the result was written out")


@pytest.mark.parametrize("plain", [True, False])
def test_a_result_is_handed_on_and_not_written_out(plain: bool) -> None:
    """What a command returns comes back as it is, and nobody makes text of it: with 10 000 tags that takes seconds."""
    result = _Long()

    async def work() -> _Long:
        return result

    assert run(work(), plain=plain) is result
