"""What of a repository in `local` goes with an image: the tags that are about it, whatever its digest is made by."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.blobs.repositories import ManifestRef, RepositoryState
from mirrord.blobs.uses import ContentUses
from mirrord.daemon.judging import Owner, judge
from mirrord.model.digest import Digest
from mirrord.model.keep import Keep
from mirrord.wire.oci.reference import referrers_tag

NOW = 1_800_000_000.0
OLD = int(NOW - 90 * 86400)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("end", ["", ".sig", ".att"])
@pytest.mark.parametrize("digits", [64, 121])
def test_what_is_about_an_image_goes_with_it(tmp_path: Path, algorithm: str, end: str, digits: int) -> None:
    """Lists of referrers and what cosign keeps go with their image, and stay with it.

    A digest by sha512 is longer than a tag: the specification says its first 64 digits, and some write more.
    """
    going, staying = (Digest.of(text, algorithm) for text in (b"going", b"staying"))
    about = {image: f"{image.algorithm}-{image.hex[:digits]}"[: 128 - len(end)] + end for image in (going, staying)}
    assert digits > 64 or end or about[going] == referrers_tag(going)
    signatures = {image: Digest.of(name.encode()) for image, name in about.items()}
    state = RepositoryState(
        tags={"1.0": going, "1.1": staying} | {about[image]: digest for image, digest in signatures.items()},
        manifests=dict.fromkeys((going, staying, *signatures.values()), ManifestRef("application/x", 1, ())),
        tagged=dict.fromkeys(("1.0", "1.1", *about.values()), OLD),
    )
    found = judge(state, Owner(Keep(newest=1)), ContentUses(lambda _: tmp_path / "none"), NOW)
    assert found.tags == {"1.0": going, about[going]: signatures[going]}
    assert found.about == {about[going]: going}
