"""Regular expressions keep their meaning: the same tags match before and after."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mirrord.errors import UsageError
from mirrord.importing.ranges import LOOSE_VERSION, NOT_LOOSE
from mirrord.importing.regexes import framed, searched, split
from mirrord.patterns import compiled

TAGS = (
    "1.0",
    "1.2-rc1",
    "10",
    "2.0",
    "3.2",
    "v2",
    "latest",
    "v1.2.3",
    "v1.2.3-alpine",
    "a|b",
    "ab",
    "b",
    "sha256-0",
    "",
)


def takes(pattern: str, tag: str) -> bool:
    """Whether mirrord takes a tag: a pattern between slashes matches all of it."""
    assert pattern[0] == pattern[-1] == "/"
    return compiled(pattern[1:-1]).fullmatch(tag)


def test_the_trap_of_regsync_is_kept() -> None:
    """`1|2` is what begins with 1 or ends with 2, as regsync 0.11.7 copies it."""
    assert framed("1|2") == "/1.*|.*2/"
    assert [tag for tag in TAGS if takes(framed("1|2"), tag)] == ["1.0", "1.2-rc1", "10", "3.2", "v2"]


KNOWN = {
    r"v?\d+\.\d+\.\d+": r"/v?\d+\.\d+\.\d+/",
    "latest": "/latest/",
    "(1|2)": "/(1|2)/",
    "a|b|c": "/a.*|.*b.*|.*c/",
    "[|]a": "/[|]a/",
    r"a\|b": r"/a\|b/",
    r"\Qa|b\E": r"/\Qa|b\E/",
    "[]|]x": "/[]|]x/",
    "[[:alpha:]|]": "/[[:alpha:]|]/",
    "^a$": "/^a$/",
    "a|": "/a.*|.*/",
    "(?i)RC|x": "/(?i)RC.*|.*x/",
}


@pytest.mark.parametrize(("text", "pattern"), KNOWN.items())
def test_framed_patterns(text: str, pattern: str) -> None:
    """Only a `|` outside of groups, classes and quotes parts the pattern."""
    assert framed(text) == pattern
    assert split(text) == (".*|" in pattern)


SEARCHED = {
    "^v1$": "/v1/",
    "^v1": "/v1.*/",
    "v1$": "/.*v1/",
    "v1": "/.*v1.*/",
    "a|b$": "/.*(?:a|b$).*/",
    r"a\$": r"/.*a\$.*/",
    r"a\\$": r"/.*a\\/",
}


@pytest.mark.parametrize(("text", "pattern"), SEARCHED.items())
def test_searched_patterns(text: str, pattern: str) -> None:
    """An anchored pattern is short, and any other one is surrounded by `.*`."""
    assert searched(text) == pattern


PIECES = st.sampled_from(
    [
        "a",
        "b",
        "1",
        ".",
        "-",
        "|",
        "(",
        ")",
        "(?:",
        "[ab]",
        "[^a]",
        "[|]",
        "^",
        "$",
        "*",
        "?",
        "+",
        r"\d",
        r"\.",
        r"\|",
        r"\pL",
        "[[:alpha:]]",
        r"\Qa|b\E",
        r"\Q",
        "(?i)",
        "(?U)",
        "{2}",
        "A",
        r"\z",
        r"\b",
        "[]a]",
        "(?P<n>a)",
        "\\",
        r"\\",
    ]
)
PATTERNS = st.lists(PIECES, max_size=7).map("".join)
SHORT = st.text("abA1.|-", max_size=5)


@given(PATTERNS, st.lists(SHORT, max_size=8))
@example("1|2", list(TAGS))
def test_framed_means_what_go_reads(text: str, tags: list[str]) -> None:
    """`framed` takes exactly the tags in which Go finds `^text$`; where Go refuses, it refuses, too."""
    try:
        meant = compiled(f"^{text}$")
    except UsageError:
        with pytest.raises(ValueError, match=r"\S"):
            framed(text)
        return
    try:
        pattern = framed(text)
    except ValueError:
        assume(r"\Q" in text or "*" in text or "?" in text or "+" in text or "{" in text)
        return
    assert [tag for tag in tags if takes(pattern, tag)] == [tag for tag in tags if meant.search(tag)]


@given(PATTERNS, st.lists(SHORT, max_size=8))
def test_searched_means_what_go_reads(text: str, tags: list[str]) -> None:
    """`searched` takes exactly the tags in which Go finds the text; where Go refuses, it refuses, too."""
    try:
        meant = compiled(text)
    except UsageError:
        with pytest.raises(ValueError, match=r"\S"):
            searched(text)
        return
    try:
        pattern = searched(text)
    except ValueError:
        assume(r"\Q" in text)
        return
    assert [tag for tag in tags if takes(pattern, tag)] == [tag for tag in tags if meant.search(tag)]


@given(st.text("v019.-_a", max_size=6))
def test_what_is_no_version_for_regsync(tag: str) -> None:
    """Each tag is either a version or none, as regsync parses: `v`, numbers with dots, a suffix after a dash."""
    numbers, _, _ = tag.removeprefix("v").partition("-")
    version = all(part.isdecimal() for part in numbers.split("."))
    assert takes(LOOSE_VERSION, tag) == version
    assert takes(NOT_LOOSE, tag) == (not version and tag != "")
