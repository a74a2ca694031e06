"""Where blobs can be mounted from."""

from __future__ import annotations

from mirrord.model.digest import Digest
from mirrord.syncer.values import BlobLocations

ONE, TWO, THREE = (Digest.of(text) for text in (b"1", b"2", b"3"))


def test_another_repository_of_the_same_host() -> None:
    """Only another repository at the same host is a candidate, and the latest one."""
    known = BlobLocations()
    known.saw("ghcr.io", ONE, "team/a")
    assert known.other("ghcr.io", ONE, "team/b") == "team/a"
    assert known.other("ghcr.io", ONE, "team/a") is None
    assert known.other("quay.io", ONE, "team/b") is None
    assert known.other("ghcr.io", TWO, "team/b") is None
    known.saw("ghcr.io", ONE, "team/b")
    assert known.other("ghcr.io", ONE, "team/c") == "team/b"


def test_bounded() -> None:
    """What was seen longest ago is forgotten first."""
    known = BlobLocations(most=2)
    for digest in (ONE, TWO, ONE, THREE):
        known.saw("h", digest, "a")
    assert [known.other("h", digest, "b") for digest in (ONE, TWO, THREE)] == ["a", None, "a"]
