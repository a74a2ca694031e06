"""Refs: their names, as git itself judges them, and fingerprints of states."""

from __future__ import annotations

import subprocess

import pytest

from mirrord.wire.git.refs import Refs, valid_oid, valid_ref

NAMES = (
    "refs/heads/main", "refs/heads/-x", "refs/heads/feature/x", "refs/tags/v1.0", "refs/heads/HEAD", "refs/heads/@",
    "refs/heads/a;b$(id)", "refs/heads/--upload-pack=x", "refs/heads/ä", "refs/heads/..", "refs/heads/a..b",
    "refs/heads/.a", "refs/heads/a/.b", "refs/heads/a.lock", "refs/heads/a.lock/b", "refs/heads/a.", "refs/heads/a/",
    "refs/heads//a", "refs/heads/a b", "refs/heads/a\nb", "refs/heads/a~1", "refs/heads/a^", "refs/heads/a:b",
    "refs/heads/a?", "refs/heads/a*", "refs/heads/a[b", "refs/heads/a\\b", "refs/heads/a@{b", "refs/heads/\x7f",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_58_names(name: str) -> None:
    """Bad input 58: a name is valid here exactly when `git check-ref-format` says so."""
    judged = subprocess.run(["git", "check-ref-format", name], check=False)
    assert valid_ref(name) == (judged.returncode == 0)


@pytest.mark.parametrize(
    "name", ["main", "HEAD", "refs/stash", "refs/heads", "/refs/heads/x", "refs/heads/" + "x" * 99_999]
)
def test_58_short_and_long_names(name: str) -> None:
    """Bad input 58: only full names of a sane length are taken."""
    assert not valid_ref(name)


def test_object_ids() -> None:
    """An object id is whole and in lower case, of either hash."""
    assert valid_oid("a" * 40)
    assert valid_oid("0" * 64)
    assert not any(map(valid_oid, ("a" * 39, "A" * 40, "a" * 41, "g" * 40, "", "a" * 40 + "\n")))


def test_fingerprints() -> None:
    """Equal states have equal fingerprints, whatever the order and what is known of tags; every change shows."""
    one = Refs({"refs/heads/a": "1" * 40, "refs/tags/b": "2" * 40}, "refs/heads/a")
    same = Refs({"refs/tags/b": "2" * 40, "refs/heads/a": "1" * 40}, "refs/heads/a", {"refs/tags/b": "3" * 40})
    assert one == same
    assert one.fingerprint == same.fingerprint
    others = [
        Refs(one.refs, "refs/heads/b"),
        Refs(one.refs),
        Refs({"refs/heads/a": "1" * 40}, "refs/heads/a"),
        Refs({**one.refs, "refs/heads/a": "4" * 40}, "refs/heads/a"),
        Refs({}),
    ]
    assert len({other.fingerprint for other in [one, *others]}) == 6


def test_names_that_are_no_utf8() -> None:
    """A name of bytes that are no UTF-8 has a fingerprint like every other."""
    assert Refs({"refs/heads/\udcff": "1" * 40}).fingerprint != Refs({"refs/heads/\udcfe": "1" * 40}).fingerprint
