"""How much may be lost before a run stops."""

from __future__ import annotations

import pytest

from mirrord.plan.guards import some, too_much


@pytest.mark.parametrize(
    ("lost", "total", "max_loss", "spared", "stops"),
    [
        (0, 10, 0.2, 1, False),
        (2, 10, 0.2, 1, False),
        (3, 10, 0.2, 1, True),
        (1, 2, 0.2, 1, False),
        (2, 2, 0.2, 1, True),
        (1, 1, 0.2, 1, False),
        (1, 1, 0.2, 0, True),
        (1, 100, 0.0, 1, True),
        (0, 100, 0.0, 1, False),
        (9, 9, 1.0, 1, False),
        (0, 0, 0.2, 0, False),
    ],
)
def test_how_much_may_be_lost(lost: int, total: int, max_loss: float, spared: int, stops: bool) -> None:
    """A share may be lost, and one of several however few there are; with 0 none."""
    assert bool(too_much(lost, total, max_loss, spared=spared)) is stops


def test_names_of_many() -> None:
    """A sentence names five of many, in order, and says that there are more."""
    assert some({"b", "a"}) == "a, b"
    assert some([f"n{number}" for number in range(9)]) == "n0, n1, n2, n3, n4 …"
