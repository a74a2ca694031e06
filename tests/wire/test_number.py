"""Numbers that others wrote."""

import pytest

from mirrord.wire.number import whole


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("9" * 18, 10**18 - 1), ("12", 12)])
def test_numbers_are_read(text: str, number: int) -> None:
    """Plain digits, up to those that 63 bits hold."""
    assert whole(text) == number


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "-1", "+1", "1.0", "1e3", "0x1", "1_0", "²", "٣", "①", "9" * 19, "9" * 5000, "1\n", "\0"]
)
def test_everything_else_is_none(text: str) -> None:
    """What `int` and `str.isdigit` disagree about, and what `int` refuses for its length (A9: 5000 digits)."""
    assert whole(text) is None
    assert whole("123456", 5) is None
