"""How branches, commits and pull requests become tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.errors import UsageError
from mirrord.plan.naming import LONGEST, build_tags, pull_request_tags, short_commit, tag_of
from mirrord.wire.oci.reference import valid_tag

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("branch", "tag"),
    [
        ("main", "main"),
        ("feature/x", "feature-x"),
        ("Feature//X", "Feature-X"),
        ("fix #12: ä", "fix-12-"),
        (".hidden", "hidden"),
        ("-x-", "x-"),
        ("v1.2_3", "v1.2_3"),
        ("x" * 200, "x" * LONGEST),
    ],
)
def test_tag_of(branch: str, tag: str) -> None:
    """Runs of characters that a tag may not have become one dash; what is too long is cut."""
    assert tag_of(branch) == tag


@pytest.mark.parametrize("branch", ["", "///", "...", "ä"])
def test_nothing_is_left(branch: str) -> None:
    """A branch of which nothing is left is refused, with what may be used."""
    with pytest.raises(UsageError, match="letters, digits"):
        tag_of(branch)


@pytest.mark.parametrize(
    ("branch", "build", "tags"),
    [
        ("main", COMMIT, ("main-0123456", "main")),
        ("main", "abc123", ("main-abc123", "main")),
        ("main", "v1.2-3-gabc", ("main-v1.2-3-gabc", "main")),
        ("feature/x", COMMIT, ("feature-x-0123456", "feature-x")),
        ("x" * 200, COMMIT, ("x" * 120 + "-0123456", "x" * 128)),
        ("main", "a" * 64, ("main-aaaaaaa", "main")),
    ],
)
def test_build_tags(branch: str, build: str, tags: tuple[str, str]) -> None:
    """The tag that stays comes first; a full commit hash is cut to seven digits, and the branch so that it fits."""
    assert build_tags(branch, build) == tags


@pytest.mark.parametrize(
    ("text", "build"),
    [
        (COMMIT, "0123456"),
        (COMMIT[:7], "0123456"),
        (COMMIT[:10], "0123456"),
        (COMMIT[:10].upper(), "0123456"),
        ("1111111111", "1111111"),
        ("a" * 64, "aaaaaaa"),
        ("ABC123", "ABC123"),
        ("v1.2-3-gabcdef0", "v1.2-3-gabcdef0"),
        ("a" * 65, "a" * 65),
    ],
)
def test_short_commit(text: str, build: str) -> None:
    """A commit has one name in tags, however many of its digits are given; what is no commit is not cut."""
    assert short_commit(text) == build


def test_pull_requests() -> None:
    """A pull request's build is `pr-<number>-<build>` and `pr-<number>`."""
    assert pull_request_tags(7, "v1-3-gabc") == ("pr-7-v1-3-gabc", "pr-7")


@given(st.text(min_size=1, max_size=300), st.integers(1, LONGEST))
def test_every_tag_is_valid(text: str, room: int) -> None:
    """Whatever a branch is called: a valid tag of at most `room` characters, or a refusal; and again the same."""
    try:
        tag = tag_of(text, room)
    except UsageError:
        return
    assert valid_tag(tag)
    assert len(tag) <= room
    assert tag_of(tag, room) == tag


@given(st.text(max_size=300), st.text(max_size=300))
def test_every_build_has_two_valid_tags(branch: str, build: str) -> None:
    """A build has two different valid tags, or is refused."""
    try:
        stays, moves = build_tags(branch, build)
    except UsageError:
        return
    assert valid_tag(stays)
    assert valid_tag(moves)
    assert stays != moves


@pytest.mark.parametrize("branch", ["pr-7", "pr/7", "pr-7-fix", "pr-7/merge"])
def test_a_branch_never_gets_the_tags_of_a_pull_request(branch: str) -> None:
    """A branch whose tag would be that of a pull request is refused, with both in the message."""
    with pytest.raises(
        UsageError, match=rf"branch {branch} .* pr-7 and tags that begin with it belong to pull request 7"
    ):
        build_tags(branch, COMMIT)


@pytest.mark.parametrize("branch", ["pr", "pr-", "pr-fix", "pr-7x", "my-pr-7", "7/merge"])
def test_other_branches_with_pr_in_them(branch: str) -> None:
    """What merely looks like it is a branch like any other."""
    assert build_tags(branch, COMMIT)[1] == tag_of(branch)
