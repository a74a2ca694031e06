"""Lists of referrers from strangers: read, or refused with one clear error; never anything else."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.errors import ContentError, TooLargeError
from mirrord.model.digest import Digest
from mirrord.wire.oci.descriptor import OCI_MANIFEST
from mirrord.wire.oci.manifest import LIMIT
from mirrord.wire.oci.reference import COSIGN, referrers_tag, subject_tag, valid_tag
from mirrord.wire.oci.referrers import entries_of, read_entries

WHAT = "r.example/a: referrers"
DIGESTS = st.binary(max_size=8).map(Digest.of)
GOOD = st.builds(
    lambda digest, size: {"mediaType": OCI_MANIFEST, "digest": digest, "size": size}, DIGESTS, st.integers(0, 10)
)
KEYS = st.sampled_from(["digest", "size", "mediaType", "x"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner),
    max_leaves=12,
)


@given(st.lists(GOOD | ANYTHING, max_size=12))
def test_each_entry_is_read_or_named(entries: list[object]) -> None:
    """What is a descriptor is found once, in order; a sentence names each other one by its place."""
    found, wrong = read_entries(entries, WHAT)
    assert [one.digest for one in found] == [*dict.fromkeys(one.digest for one in found)]
    good = [entry for entry in entries if isinstance(entry, dict) and entry.get("mediaType") == OCI_MANIFEST]
    assert {entry["digest"] for entry in good if "size" in entry and "digest" in entry} >= {one.digest for one in found}
    places = [text[len(WHAT) :].partition("]")[0] for text in wrong]
    assert len({*places}) == len(wrong)
    assert all(text.startswith(f"{WHAT}[") for text in wrong)


@given(st.binary(max_size=200) | ANYTHING.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_a_list_or_refused(body: bytes) -> None:
    """Bytes that are no index raise ContentError, and nothing else."""
    with contextlib.suppress(ContentError):
        assert isinstance(entries_of(body, WHAT), list)


def test_a_list_has_a_bound() -> None:
    """More bytes than an index may have are not parsed."""
    with pytest.raises(TooLargeError, match="at most"):
        entries_of(b" " * (LIMIT + 1), WHAT)


@given(st.sampled_from(["sha256", "sha512"]), st.binary(max_size=8))
def test_the_tag_of_a_subject_is_one(algorithm: str, data: bytes) -> None:
    """Every digest has the tag of the specification's Referrers Tag Schema: 64 digits at most; two have two.

    With cosign's suffixes it is valid, too, and each says whose it is, also with all digits that a tag has room for.
    """
    digest = Digest.of(data, algorithm)
    tag = referrers_tag(digest)
    assert tag == f"{algorithm}-{digest.hex[:64]}"
    for name in (tag, *(tag + end for end in COSIGN), f"{algorithm}-{digest.hex}"[:128]):
        assert valid_tag(name)
        assert subject_tag(name) == tag


@pytest.mark.parametrize("tag", ["v1", "sha256-", f"sha256-{'0' * 63}", f"sha256-{'0' * 65}", f"sha512-{'g' * 64}"])
def test_other_tags_are_about_nothing(tag: str) -> None:
    """What only looks like the tag of a list of referrers has no subject."""
    assert subject_tag(tag) == ""
