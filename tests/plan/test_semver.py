"""Versions and ranges, as helm reads them."""

from __future__ import annotations

import random

import pytest

from mirrord.errors import ContentError, UsageError
from mirrord.plan.semver import Constraint, Version, valid_version


@pytest.mark.parametrize(
    "text",
    [
        "1.2.3",
        "0.0.0",
        "1.2.3-rc.1",
        "1.2.3-0a.-",
        "1.2.3+build.01",
        "1.2.3-rc.1+b",
        "v1.2.3",
        "1",
        "1.2",
        "01.2.3",
        "1-rc",
        "18446744073709551615.0.0",
    ],
)
def test_versions(text: str) -> None:
    """Helm's loose grammar takes a `v`, missing parts and leading zeros (bad input 49)."""
    assert str(Version.parse(text)) == text
    assert valid_version(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v",
        "V1.2.3",
        "1.2.3.4",
        "1.2.3-",
        "1.2.3+",
        "1.2.3-rc..1",
        "1.2.3-01",
        "1.2.3-rc_1",
        "latest",
        "1.x",
        " 1.2.3",
        "1.2.3\n",
        "../1.2.3",
        "1.2.3/..",
        "18446744073709551616.0.0",
        "1.2.3-" + "a" * 256,
        "\uff11.2.3",
    ],
    ids=lambda text: f"51-{text[:24]!a}",
)
def test_no_versions(text: str) -> None:
    """What helm does not take as a version is refused, and the message quotes no more than a line of it."""
    assert not valid_version(text)
    with pytest.raises(ContentError, match="not a semantic version") as caught:
        Version.parse(text)
    assert len(str(caught.value)) < 200


def test_order() -> None:
    """Versions sort as in semver 2.0.0 §11, numbers by value and pre-releases before their release."""
    ascending = "0.9.9 1.0.0-1 1.0.0-9 1.0.0-10 1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta.2 1.0.0-beta.11"
    ordered = [*ascending.split(), "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2", "1.10", "v2"]
    shuffled = random.Random(7).sample(ordered, len(ordered))
    assert [str(version) for version in sorted(map(Version.parse, shuffled), key=lambda v: v.order)] == ordered


def test_build_metadata_has_no_precedence() -> None:
    """Versions that differ in build metadata or spelling rank alike, are not the same, and still sort one way."""
    one, two, three = map(Version.parse, ("1.0.0+a", "1.0.0+b", "v1"))
    assert one.precedence == two.precedence == three.precedence
    assert len({one, two, three}) == 3
    assert sorted([three, two, one], key=lambda v: v.order) == [one, two, three]


INSIDE = [
    (">=1.2 <2 || ^3.1", "1.2.0 1.9.9 3.1.0 3.99.0", "1.1.9 2.0.0 3.0.9 4.0.0 1.5.0-rc.1"),
    (">=1.2, <2", "1.2.0 v1.3", "2.0.0"),
    ("=1.2.3", "1.2.3 v1.2.3 1.2.3+build", "1.2.4 1.2.3-rc"),
    ("1.2.3", "1.2.3", "1.2.4"),
    ("!=1.2.3", "1.2.4 1.2.2", "1.2.3"),
    ("!=1.2", "1.3.0 0.1.0", "1.2.0 1.2.9"),
    ("~1.2.3", "1.2.3 1.2.9", "1.2.2 1.3.0"),
    ("~1.2", "1.2.0 1.2.9", "1.3.0 1.1.0"),
    ("~>1", "1.0.0 1.9.0", "2.0.0 0.9.0"),
    ("~0.0.0", "0.0.0 5.0.0", "0.0.0-rc"),
    ("^1.2.3", "1.2.3 1.9.0", "1.2.2 2.0.0"),
    ("^0.2.3", "0.2.3 0.2.9", "0.3.0 1.2.3"),
    ("^0.0.3", "0.0.3", "0.0.4 0.1.3"),
    ("^0.0", "0.0.0 0.0.9", "0.1.0"),
    ("^0", "0.0.0 0.9.0", "1.0.0"),
    ("1.x", "1.0.0 1.9.9", "2.0.0 0.9.0"),
    ("1.2.*", "1.2.0 1.2.9", "1.3.0"),
    ("*", "0.0.0 99.0.0", "1.0.0-rc.1"),
    ("^* , >=X", "0.0.0 99.0.0", "1.0.0-rc.1"),
    (">*||!=*||<x", "", "0.0.0 1.0.0"),
    ("1.2 - 1.4", "1.2.0 1.4.9", "1.1.9 1.5.0"),
    ("1.0.0 - 1.2.0 || 3 - 4.0", "1.2.0 4.0.7 3.0.0", "1.2.1 2.0.0 4.1.0"),
    (">1.2", "1.3.0", "1.2.0 1.2.9"),
    (">1", "2.0.0", "1.9.9"),
    (">1.2.3", "1.2.4", "1.2.3"),
    ("<=1.2", "1.2.9 0.1.0", "1.3.0"),
    ("<1.2", "1.1.9", "1.2.0"),
    ("=>1.2.3 =<1.2.4", "1.2.3 1.2.4", "1.2.5"),
    (">=1.2-0", "1.2.0-rc.1 1.2.0 2.0.0-alpha", "1.1.9"),
    ("^1.2.0-beta.2", "1.2.0-beta.10 1.2.0-rc 1.3.0-alpha 1.9.0", "1.2.0-beta.1 2.0.0-rc"),
    ("<1.0.0 || >=2.0.0-0", "0.9.0 2.0.0-rc", "0.9.0-rc 1.0.0"),
    ("v1.2 - v1.3", "1.3.5", "1.4.0"),
]


@pytest.mark.parametrize(("text", "inside", "outside"), INSIDE, ids=[row[0] for row in INSIDE])
def test_ranges(text: str, inside: str, outside: str) -> None:
    """A range allows what helm's `--version` allows; a pre-release only where its group names one."""
    constraint = Constraint.parse(text)
    assert [version for version in inside.split() if not constraint.allows(Version.parse(version))] == []
    assert [version for version in outside.split() if constraint.allows(Version.parse(version))] == []
    assert str(constraint) == text


def test_prereleases_can_be_asked_for() -> None:
    """Who wants pre-releases gets those within the range, without naming one in it."""
    constraint = Constraint.parse(">=1.2 <2")
    assert constraint.allows(Version.parse("1.3.0-rc.1"), prereleases=True)
    assert not constraint.allows(Version.parse("1.2.0-rc.1"), prereleases=True)
    assert not constraint.allows(Version.parse("1.3.0-rc.1"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "||",
        "1.2 ||",
        "latest",
        ">=",
        ">=1.2<2",
        "1.2.3.4",
        ">>1",
        "=!1",
        "1.2 -1.4",
        "1 - 2 - 3",
        "1,,2",
        "1.2,",
        ">=1.2.3-",
        "1.2.3-01",
        "99999999999999999999",
        "1 " * 300,
        "1||" * 40 + "1",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_no_ranges(text: str) -> None:
    """What is no range is refused with an example of one, however long it is."""
    with pytest.raises(UsageError, match="range of versions") as caught:
        Constraint.parse(text)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        ("1.2.3", True),
        ("=v1.2.3", True),
        ("1.2.3 || >=2", True),
        (">=2 || 1.2.3", True),
        ("1.2", False),
        (">=1.2.3", False),
        ("1.2.3 - 1.2.3", False),
        ("1.2.4", False),
        (">=1 1.2.3", False),
    ],
)
def test_versions_that_a_range_names(text: str, pinned: bool) -> None:
    """A range names a version that it has alone between its `||`; bounds and shorter numbers name none."""
    assert Constraint.parse(text).pins(Version.parse("1.2.3")) is pinned
