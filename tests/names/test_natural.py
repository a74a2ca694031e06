"""The order of names: numbers in them count as numbers."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from mirrord.names.natural import natural_key, natural_order

NUMBERS = st.one_of(st.integers(0, 300), st.integers(0, 10**40))
WORDS = st.text(st.characters(exclude_characters="0123456789"), max_size=20)
NAMES = st.text(st.sampled_from("0129.-vaé"), max_size=30)


def parts(name: str) -> list[tuple[str, int]]:
    """Return the characters of a name, each number as one that is equal to the others and then has its value."""
    found = re.findall(r"[0-9]+|[^0-9]", name)
    return [("0", int(one)) if one[0] in "0123456789" else (one, -1) for one in found]


def test_versions() -> None:
    """Versions are in their order, whatever is around the numbers."""
    names = ["main", "v0.9.0", "v0.9.0-rc.2", "v0.9.0-rc.10", "v0.10.0", "v1", "v01.5", "v1.10", "v20260101120000"]
    assert sorted(sorted(names), key=natural_order) == names


@given(NAMES, NAMES)
def test_the_key_sorts_as_text_and_numbers(one: str, other: str) -> None:
    """Texts are compared by character, and numbers at the same place by their value."""
    assert (natural_key(one) < natural_key(other)) == (parts(one) < parts(other))


@given(WORDS, NUMBERS, WORDS, NUMBERS, WORDS)
def test_of_two_numbers_the_greater_one_is_later(before: str, one: int, after: str, other: int, end: str) -> None:
    """Also where more digits follow than any number of a machine has."""
    first, second = f"{before}{one}{after}", f"{before}{other}{end}"
    if one != other:
        assert (natural_key(first) < natural_key(second)) == (one < other)


@given(st.lists(st.text(max_size=400)))
def test_different_names_have_different_places(names: list[str]) -> None:
    """The order is the same wherever it starts from, also of names with zeros in front or of great length."""
    assert sorted(names, key=natural_order) == sorted(sorted(names, reverse=True), key=natural_order)
    assert all(len(natural_key(name)) <= 255 for name in names)


def test_what_is_cut_still_sorts() -> None:
    """Names that differ only far behind have one key, and are sorted as text; a long row of digits takes no time."""
    long = "x" * 300
    assert natural_key(f"{long}2") == natural_key(f"{long}10")
    assert sorted([f"{long}2", f"{long}10"], key=natural_order) == [f"{long}10", f"{long}2"]
    assert natural_key("1" * 1_000_000) > natural_key("9" * 999_999)
