"""What the record has of verifications."""

from __future__ import annotations

import pytest

from mirrord.record.verified import verified_of


@pytest.mark.parametrize("text", ["", "null", "7", "[]", '"x"', "{}", '{"findings": 1}', "{"])
def test_what_is_damaged_is_nothing(text: str) -> None:
    """A text that is no verification is left out, so that the rest of what is known can be shown."""
    assert verified_of({"one": text}) == {}
