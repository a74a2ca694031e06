"""What of a repository in `local` goes with an image: the tags that are about it, whatever its digest is made by."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.blobs.repositories import ManifestRef, RepositoryState
from mirrord.blobs.uses import UNSEEN, ContentUses, DiskUses
from mirrord.daemon.judging import Owner, judge
from mirrord.model.digest import Digest
from mirrord.model.keep import Keep
from mirrord.plan.retention import DAY, READING
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
    found = judge(state, Owner(Keep(newest=1)), DiskUses(lambda _: tmp_path / "none"), NOW)
    assert found.tags == {"1.0": going, about[going]: signatures[going]}
    assert found.about == {about[going]: going}


@pytest.mark.parametrize("unseen", [0.0, UNSEEN])
def test_uses_that_are_not_known_yet(unseen: float) -> None:
    """A client of another replica may have used content at the last moment of a rule: it stays until that is known."""
    ages = {"2.0": 30 * DAY - 1, "1.9": 30 * DAY + unseen - 1, "1.8": 30 * DAY + unseen}
    images = {tag: Digest.of(tag.encode()) for tag in (*ages, "old", "1.1", "1.2")}
    now, uses = NOW, ContentUses(lambda: now)
    uses.unseen = unseen
    for tag, age in {**ages, "1.2": READING + unseen - 1, "1.1": READING + unseen + 1}.items():
        now = NOW - age
        uses.note(images[tag], manifest=True)
    state = RepositoryState(
        tags={tag: images[tag] for tag in (*ages, "1.1", "1.2")},
        manifests=dict.fromkeys(images.values(), ManifestRef("application/x", 1, ())),
        tagged=dict.fromkeys(images, OLD),
        lost={images["old"]: int(NOW - 30 * DAY - unseen + 1)},
    )
    assert judge(state, Owner(Keep(unused=30 * DAY)), uses, NOW).tags.keys() == {"1.8"}
    assert judge(state, Owner(Keep(newest=0)), uses, NOW).tags.keys() == {*ages, "1.1"}
    assert not judge(state, Owner(Keep(unused=30 * DAY)), uses, NOW).manifests
    assert judge(state, Owner(Keep(unused=30 * DAY)), uses, NOW + 1).manifests.keys() == {images["old"]}
