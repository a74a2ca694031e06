"""The most frequent names are found in bounded memory, whatever else is counted."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mirrord.report.top import TopNames


@given(st.lists(st.sampled_from("abcdefghijklmnop"), max_size=300), st.integers(1, 8))
def test_frequent_names_are_never_lost(names: list[str], room: int) -> None:
    """A name that is more frequent than one of `room` is there; a count is never too low, and there are never more."""
    top, real = TopNames(room), Counter(names)
    for name in names:
        top.add(name)
    found = dict(top.first(100))
    assert len(found) <= room
    assert {name for name, count in real.items() if count > len(names) / room} <= set(found)
    assert all(count >= real[name] for name, count in found.items())
    assert sum(found.values()) == len(names)


def test_order() -> None:
    """The most frequent name comes first, and of two alike the first one by name; no more than were asked for."""
    top = TopNames(10)
    for name in "banana":
        top.add(name)
    assert top.first(2) == [("a", 3), ("n", 2)]
