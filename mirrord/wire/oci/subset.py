"""The index that is left of another one for some platforms. Pure: the same bytes and platforms give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from mirrord.errors import ContentError
from mirrord.model.digest import Digest
from mirrord.wire.oci.descriptor import read_descriptors
from mirrord.wire.oci.document import check_spelling, mapping, read_object, sequence
from mirrord.wire.oci.manifest import MOST_VALUES, Manifest
from mirrord.wire.oci.platform import PLATFORM_KEYS, Platform, platform_of

PLATFORMS: Final = "dev.mirrord.platforms"
"""Annotation of a changed index: the platforms that it still has."""

ORIGIN: Final = "dev.mirrord.origin"
"""Annotation of a changed index: the digest of the index that it was made of."""

_ABOUT: Final = "vnd.docker.reference.digest"  # of an attestation of buildx: the entry that it is about


@dataclass(frozen=True, slots=True)
class Subset:
    """What platforms leave of an index.

    Attributes:
        manifest: the index with what is left; the given one if nothing is left out, or nothing would be left.
        kept: the platforms that are wanted.
        had: all that the given index names, each once, in its order.
    """

    manifest: Manifest
    kept: tuple[Platform, ...]
    had: tuple[Platform, ...]


def subset_of(index: Manifest, wanted: Collection[Platform]) -> Subset:
    """Return what is left of an index for the platforms that are wanted.

    What names no platform stays: an artifact, an index in it, or an attestation (`unknown/unknown`), unless that is
    about an entry that is left out. All else of the index stays as it is, but for two annotations that mark it.

    Raises:
        ContentError: it cannot be understood in one way.
        TooLargeError: with the annotations it is too large.
    """
    what = f"manifest {index.digest}"
    document = dict(read_object(index.body, what, MOST_VALUES))
    entries = sequence(document.get("manifests"), f"{what}: manifests")
    listed = read_descriptors(entries, f"{what}: manifests")
    named = [_named(entry, f"{what}: manifests[{number}]: platform") for number, entry in enumerate(entries)]
    had = tuple(dict.fromkeys(one for one in named if one))
    kept = tuple(one for one in had if any(each.takes(one) for each in wanted))
    if not kept or len(kept) == len(had):
        return Subset(index, kept, had)
    stays = frozenset(kept)
    both = list(zip(listed, named, strict=True))
    lost = {one.digest for one, platform in both if platform and platform not in stays}
    lost -= {one.digest for one, platform in both if platform in stays}
    document["manifests"] = [
        entry
        for entry, (one, platform) in zip(entries, both, strict=True)
        if (platform in stays if platform else one.annotations.get(_ABOUT) not in lost)
    ]
    marks = {PLATFORMS: ",".join(map(str, kept)), ORIGIN: index.digest}
    document["annotations"] = {**mapping(document.get("annotations"), f"{what}: annotations"), **marks}
    try:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise ContentError(f"{what}: a number in it is too large to be written again; mirror all platforms") from error
    body = text.encode(errors="backslashreplace")  # half a surrogate pair stays an escape
    return Subset(Manifest.parse(body, index.media_type, Digest.of(body, index.digest.algorithm)), kept, had)


def _named(entry: object, what: str) -> Platform | None:
    written = mapping(mapping(entry, what).get("platform"), what)
    check_spelling(written, PLATFORM_KEYS, what)
    return platform_of(written)
