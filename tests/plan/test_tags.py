"""What a tag says: version, variant, pre-release."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mirrord.plan.tags import TagVersion, read_tag


@pytest.mark.parametrize(
    ("tag", "numbers", "variant", "early"),
    [
        # pullthrough.md §8.3
        ("latest", (), "", ""),
        ("1", (1,), "", ""),
        ("1.25", (1, 25), "", ""),
        ("v1.25.3", (1, 25, 3), "", ""),
        ("1.25-alpine", (1, 25), "alpine", ""),
        ("release-1.2", (1, 2), "release", ""),
        ("controller-v1.5.1", (1, 5, 1), "controller", ""),
        ("2023.01.01", (2023, 1, 1), "", ""),
        ("20230101", (20230101,), "", ""),
        ("v1.0.0-alpha.1", (1, 0, 0), "", "alpha"),
        ("v3.26.1-g1234567", (3, 26, 1), "", "commit"),
        ("1.22.1-20240101120000", (1, 22, 1), "", ""),  # a date is no hash
        ("sha-abc1234", (), "sha", "commit"),
        ("v1.2.3.4", (1, 2, 3, 4), "", ""),
        ("RELEASE.2023-01-01T00-00-00Z", (2023, 1, 1, 0, 0, 0), "RELEASE", ""),
        # peers.md A6
        ("2024.01", (2024, 1), "", ""),
        ("20260101123456789", (20260101123456789,), "", ""),
        ("1.2.3_4", (1, 2, 3), "", ""),
        ("1.2.3-rc1", (1, 2, 3), "", "rc"),
        ("1.2.3-alpine", (1, 2, 3), "alpine", ""),
        ("1e4567f", (), "", "commit"),
        # others
        ("3.14.0a1", (3, 14, 0), "", "a"),
        ("3.14.0rc2-alpine3.20", (3, 14, 0), "alpine3.20", "rc"),
        ("1.2.3-debian-12-r5", (1, 2, 3), "debian-12", ""),
        ("v1.30.2-rc1-k3s1", (1, 30, 2), "", "rc"),
        ("11.8.0-devel-ubuntu22.04", (11, 8, 0), "devel-ubuntu22.04", ""),  # `devel` is not `dev`
        ("main-abc1234", (), "main", "commit"),
        ("nightly-2024.01.01", (2024, 1, 1), "nightly", "nightly"),
        ("nightly", (), "", "nightly"),
        ("1.2.3-SNAPSHOT", (1, 2, 3), "", "snapshot"),
        ("amd64-1.2.3", (1, 2, 3), "amd64", ""),
        ("bookworm", (), "", ""),
        ("v", (), "", ""),
        ("9" * 129, (), "", ""),
    ],
)
def test_what_a_tag_says(tag: str, numbers: tuple[int, ...], variant: str, early: str) -> None:
    """Numbers are exact, a variant is no pre-release, and what looks like a hash is one only if it is no number."""
    found = read_tag(tag)
    assert (found.numbers, found.variant, found.early) == (numbers, variant, early)


@pytest.mark.parametrize(
    "tags",
    [
        ["1.2.3-alpha1", "1.2.3-beta.2", "1.2.3-rc.9", "1.2.3-rc10", "1.2.3", "1.2.3-1", "1.2.3-r10", "1.2.4"],
        ["1.9", "1.10", "1.10.1", "2"],
        ["3.14.0a1", "3.14.0b1", "3.14.0rc1", "3.14"],
        ["1.2.3", "1.2.3.4", "1.2.4"],
        ["20260101123456788", "20260101123456789"],
        ["2023-12-31", "2024-01-02"],
        ["v1.30.2-k3s1", "v1.30.2-k3s2", "v1.30.2-k3s10"],
    ],
)
def test_order(tags: list[str]) -> None:
    """Pre-releases come before their release, revisions after it, and numbers count by value."""
    found = [read_tag(tag) for tag in tags]
    assert sorted(found, key=lambda one: one.order) == found


@given(some.text(alphabet="abcdefgrv0123456789.-_Z\n\udc80", max_size=140))
def test_every_text_is_read(text: str) -> None:
    """No text is refused, and reading it is a function of the text alone."""
    assert isinstance(read_tag(text), TagVersion)
    assert read_tag(text) == read_tag(text)
