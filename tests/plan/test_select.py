"""Which tags are wanted."""

from __future__ import annotations

import pytest

from mirrord.plan.select import is_glob, listed_verdicts, matches, select, unmatched

OFFERED = ("latest", "main", "v1", "v1.1", "v2-rc1", "V3", "sha256-abc.sig")


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["*"], ("latest", "main", "v1", "v1.1", "v2-rc1", "V3")),
        (["v*"], ("v1", "v1.1", "v2-rc1")),
        (["[vV]?"], ("v1", "V3")),
        (["v?.?", "m*"], ("main", "v1.1")),
        (["v[!1]*"], ("v2-rc1",)),
        (["main"], ()),
        (["sha256-*"], ("sha256-abc.sig",)),
        (["sha256-*", "v1*"], ("v1", "v1.1", "sha256-abc.sig")),
        (["x*"], ()),
        ([], ()),
    ],
    ids=str,
)
def test_select(patterns: list[str], found: tuple[str, ...]) -> None:
    """Globs choose among what is offered, in its order; literals are asked for by name, signatures by their own."""
    assert select(OFFERED, patterns) == found


def test_each_once() -> None:
    """A registry that lists a tag twice, or two globs that want it, give it once."""
    assert select(["v1", "v1"], ["v*", "*1"]) == ("v1",)


@pytest.mark.parametrize(("text", "glob"), [("v1", False), ("v*", True), ("v?", True), ("v[12]", True), ("v]", False)])
def test_is_glob(text: str, glob: bool) -> None:
    """`*`, `?` and `[` make a pattern."""
    assert is_glob(text) is glob


@pytest.mark.parametrize(
    ("name", "patterns", "found"),
    [("v1", ["v1"], True), ("v1", ["v"], False), ("v1", ["V*"], False), ("v1x", ["v?"], False), ("[a", ["[a"], True)],
)
def test_matches(name: str, patterns: list[str], found: bool) -> None:
    """A literal wants exactly itself, a glob the whole name, and case counts."""
    assert matches(name, patterns) is found


def test_a_glob_that_matches_nothing_is_named() -> None:
    """Each such glob gets a sentence with the number of tags seen and the first of them; literals and others none."""
    assert list(unmatched(OFFERED, ["v*", "none", "v3.3O.*", "sha256-x*"])) == [
        "no tag matches v3.3O.*; 7 tags seen, such as latest, main, v1",
        "no tag matches sha256-x*; 7 tags seen, such as latest, main, v1",
    ]
    assert list(unmatched([], ["v*"])) == ["no tag matches v*; 0 tags seen"]


def test_tags_about_content_by_sha512_are_no_versions() -> None:
    """A tag that is about a manifest is selected by a pattern that begins so, whatever the algorithm of its digest."""
    tags = ["v1", "sha512-abc", "sha512-abc.sig"]
    assert select(tags, ["*"]) == ("v1",)
    assert select(tags, ["sha512-*"]) == ("sha512-abc", "sha512-abc.sig")
    assert [one.chosen for one in listed_verdicts(tags, ["*"])] == [True, False, False]
