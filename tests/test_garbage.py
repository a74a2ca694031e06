"""Looks for cycles: short ones while work goes on, and what never goes is looked at no more."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from mirrord import garbage


@pytest.fixture
def looks() -> Iterator[Counter[int]]:
    """Count the interpreter's own looks, by generation, as the service has them."""
    before, counts = gc.get_threshold(), Counter[int]()

    def count(phase: str, info: dict[str, Any]) -> None:
        counts[info["generation"]] += phase == "start"

    gc.collect()
    garbage.look_briefly()
    gc.callbacks.append(count)
    yield counts
    gc.callbacks.remove(count)
    gc.set_threshold(*before)


def test_a_long_run_is_never_looked_through_as_a_whole(looks: Counter[int]) -> None:
    """A million values that stay, as a run over many items makes them, cost many short looks and no full one."""
    values = [[number] for number in range(1_000_000)]
    assert len(values) == 1_000_000
    assert looks[0] > 100
    assert 10 < looks[1] < looks[0]
    assert looks[2] == 0


def test_what_is_kept_is_not_looked_at(looks: Counter[int]) -> None:
    """What is there when the service is ready is in no later look; what comes afterwards is, and goes by it."""
    garbage.keep()
    assert gc.get_freeze_count() > 10_000
    loop: list[Any] = []
    loop.append(loop)
    del loop
    assert len(gc.get_objects()) < 1_000
    garbage.collect()
    assert looks[2] == 1
