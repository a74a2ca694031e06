"""How often somebody may ask."""

from __future__ import annotations

import pytest

from mirrord.asking.rates import MOST, AskRates


def test_all_of_an_hour_at_once_and_then_evenly() -> None:
    """Who asked for all of an hour waits for a share of the hour for each further one."""
    rates = AskRates()
    assert [rates.take(["a"], 4, 100.0) for _ in range(4)] == [0.0] * 4
    assert rates.take(["a"], 4, 100.0) == pytest.approx(900.0)
    assert rates.take(["b"], 4, 100.0) == 0.0
    assert rates.take(["a"], 4, 999.0) == pytest.approx(1.0)
    assert rates.take(["a"], 4, 1000.0) == 0.0
    assert rates.take(["a"], 4, 1000.0) == pytest.approx(900.0)


def test_each_name_counts_and_nothing_counts_for_who_is_refused() -> None:
    """A token behind several addresses, and an address with several tokens, have one limit each."""
    rates = AskRates()
    assert rates.take(["token a", "198.51.100.1"], 1, 0.0) == 0.0
    assert rates.take(["token a", "198.51.100.2"], 1, 0.0) == pytest.approx(3600.0)
    assert rates.take(["token b", "198.51.100.1"], 1, 0.0) == pytest.approx(3600.0)
    assert rates.take(["token b", "198.51.100.2"], 1, 0.0) == 0.0  # neither was counted when it was refused
    assert rates.take([], 1, 0.0) == 0.0  # the operator


def test_names_are_bounded() -> None:
    """Many addresses cost no more memory; who asked longest ago is forgotten."""
    rates = AskRates()
    for number in range(MOST + 1):
        assert rates.take([f"{number}"], 1, 0.0) == 0.0
    assert len(rates._full) == MOST
    assert rates.take(["0"], 1, 0.0) == 0.0
    assert rates.take([f"{MOST}"], 1, 0.0) > 0
