"""What the front remembers in bounded memory."""

from __future__ import annotations

from mirrord.model.digest import Digest
from mirrord.syncers.image.through.remembered import KnownBlobs, LastUsed
from mirrord.wire.oci.descriptor import Descriptor


def test_the_least_recently_used_is_forgotten() -> None:
    """An entry that is read or replaced stays, and the one that was not used for longest goes."""
    entries = LastUsed[str, int](3)
    for number, key in enumerate("abc"):
        entries.put(key, number)
    assert entries.get("a") == 0
    entries.put("b", 4)
    entries.put("d", 3)
    assert [entries.get(key) for key in "abcd"] == [0, 4, None, 3]


def test_a_manifest_does_not_take_back_what_upstream_has_shown() -> None:
    """A blob that upstream showed in a repository stays shown there when a manifest names it again."""
    known, one = KnownBlobs(), Descriptor("application/octet-stream", Digest.of(b"one"), 3)
    known.named("a/b", [one])
    assert (known.size("a/b", one.digest), known.shown("a/b", one.digest)) == (3, False)
    known.saw("a/b", one.digest, 3)
    known.named("a/b", [one])
    assert (known.size("a/b", one.digest), known.shown("a/b", one.digest)) == (3, True)
    assert (known.size("a/c", one.digest), known.shown("a/c", one.digest)) == (None, False)
