"""Signatures that were added to an image after it was mirrored.

They are looked for when a target is asked for the name of an image anyway, and nothing was to do for it. When people
ask for a run, they are looked for at once: also where the record is trusted that the target has the image.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mirrord.errors import ContentError, MirrordError, MissingError, RefusedError
from mirrord.model.digest import Digest
from mirrord.plan.moving import Evidence
from mirrord.plan.offer import Offer, remembered
from mirrord.syncer.values import Facts, Mirror
from mirrord.syncers.image.kept import LocalRepository
from mirrord.syncers.image.names import OneImage, places
from mirrord.syncers.image.plan.steps import ImageSource, Referrer, SourceListing, at_targets
from mirrord.transfer.fanout import Workers
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.layout_writer import LayoutWriter
from mirrord.wire.oci.referrers import may_set

Place = Repository | LayoutWriter | LocalRepository

AT_ONCE: Final = 16  # images; the host's `requests` limits parallel requests
MOST: Final = 100  # platforms of one image whose signatures are looked for
MOST_ABOUT: Final = 1000  # signatures and attestations of one image that are compared
_FACTS: Final = "children"

_Listed = tuple[Digest, Referrer]  # a manifest, and what is listed about it


@dataclass(frozen=True, slots=True)
class Later:
    """What targets lack of what is about images that they have.

    Attributes:
        lacking: (target, item) → how many signatures and attestations are not there.
        remarks: why some could not be looked for.
    """

    lacking: Mapping[tuple[str, str], int] = field(default_factory=dict)
    remarks: Sequence[str] = ()


async def look_for_later(
    mirror: Mirror,
    listing: SourceListing,
    targets: Mapping[str, Place],
    evidence: Evidence,
    facts: Facts | None,
) -> Later:
    """Compare what is about the images of a source with what their targets have.

    A source that lists referrers costs a request for each manifest, a target one for each signature of the source. The
    platforms of an image are those that were noted when it was copied; without a note only what is about the image
    itself is looked for, since a GET of a manifest spends the quota of Docker Hub. A copy of one image reads it.

    Args:
        mirror: what is mirrored.
        listing: what its source offers.
        targets: by name.
        evidence: what they answered, and what is believed of names that they were not asked for.
        facts: where the platforms of images are noted.
    """
    there = await asyncio.to_thread(_there, mirror, listing, evidence)
    noted = await _noted(mirror, listing.offers, facts)
    lacking: dict[tuple[str, str], int] = {}
    troubles: list[str] = []

    async def look(one: tuple[Offer, list[str]]) -> None:
        offer, there_at = one
        try:
            digest = Digest.parse(offer.item.digest)
            source = listing.sources[offer.item.name]
            children = [Digest.parse(child) for child in noted.get(digest, "").split()]
            about = await _about(source, digest, children, read=isinstance(mirror.spec, OneImage))
            for target in there_at:
                if count := await _lacking(targets[target], source, about):
                    lacking[target, offer.item.name] = count
        except MirrordError as error:
            troubles.append(f"signatures that were added to {offer.item.name} could not be looked for: {error}")

    await Workers(AT_ONCE).each(there.values(), look)
    return Later(lacking, troubles[:1])


def _there(
    mirror: Mirror, listing: SourceListing, evidence: Evidence
) -> Mapping[tuple[str, str], tuple[Offer, list[str]]]:
    """Return each image of the source that is at a target, and the targets that have it."""
    there: dict[tuple[str, str], tuple[Offer, list[str]]] = {}
    for some, targets in at_targets(mirror, listing):
        for offer in (one for one in some if not one.restored):  # what is about a restored one came with it
            for target in targets:
                if _is_there(offer, target, evidence):
                    there.setdefault((offer.item.name, offer.item.digest), (offer, []))[1].append(target)
    return there


def _is_there(offer: Offer, target: str, evidence: Evidence) -> bool:
    """Whether a target has an image, as it answered, or else as is believed of it."""
    named, held = offer.names or (offer.item.digest,), evidence.held
    answers = [held[target, name] for name in named if (target, name) in held]
    return offer.item.digest in answers if answers else remembered(offer, target, evidence.memory)


def _fact(mirror: Mirror) -> str:
    return f"{_FACTS}:{places(mirror)[0]}"


async def note_children(mirror: Mirror, facts: Facts | None, read: Mapping[str, Sequence[str]]) -> None:
    """Note which manifests are in the images that a run has read, for `look_for_later` of the next one.

    Raises:
        StorageError: it cannot be noted.
    """
    if facts and (found := {digest: " ".join(children[:MOST]) for digest, children in read.items() if children}):
        await facts.note(mirror.name, _fact(mirror), {**await facts.recall(mirror.name, _fact(mirror)), **found})


async def _noted(mirror: Mirror, offers: Sequence[Offer], facts: Facts | None) -> Mapping[str, str]:
    """Return what was noted of the images that are offered, and forget the others."""
    known = await facts.recall(mirror.name, _fact(mirror)) if facts else {}
    kept = await asyncio.to_thread(_of_offers, offers, known)
    if facts and len(kept) < len(known):
        await facts.note(mirror.name, _fact(mirror), kept)
    return kept


def _of_offers(offers: Sequence[Offer], known: Mapping[str, str]) -> Mapping[str, str]:
    return {one.item.digest: known[one.item.digest] for one in offers if one.item.digest in known}


async def _about(source: ImageSource, digest: Digest, children: Sequence[Digest], *, read: bool) -> Sequence[_Listed]:
    """Return what a source has about an image and its platforms, which are read from it if asked to.

    Raises as `ImageSource.referrers`, and as `ImageSource.manifest` if the platforms are read.
    """
    found = [(digest, one) for one in await source.referrers(digest)]
    if not await source.has_referrers():
        return found
    if read:
        image = await source.manifest(Descriptor("", digest, 0))
        children = [child.digest for child in image.children if child.is_manifest][:MOST]
    for child in children:
        found += [(child, one) for one in await source.referrers(child)]
    return found


async def _lacking(place: Place, source: ImageSource, about: Sequence[_Listed]) -> int:
    """Return how much a target lacks of what is about an image, and of what is about that in turn.

    Only what is about something costs a request here. Raises as `ImageSource.referrers`.
    """
    count, seen, left = 0, set[tuple[Digest, str]](), [*about]
    while left and len(seen) < MOST_ABOUT:
        subject, one = left.pop()
        key = one.descriptor.digest, one.tag
        if key in seen:
            continue
        lacks = await _lacks(place, source, subject, one)
        if lacks is None:  # the same may be listed where it is right
            continue
        seen.add(key)
        count += lacks
        left += [(one.descriptor.digest, further) for further in await source.referrers(one.descriptor.digest)]
    return count


async def _lacks(place: Place, source: ImageSource, subject: Digest, referrer: Referrer) -> bool | None:
    """Whether a target lacks what a run would bring; None for what a run would leave out again.

    That is what is listed and not there, or is about something else, and a tag of cosign with signatures that only the
    target has. What cannot be asked counts as there.
    """
    digest, tag = referrer.descriptor.digest, referrer.tag
    try:
        head = await place.head_manifest(tag or digest)
    except MirrordError:
        return None
    if head is not None and head.digest == digest:
        return False
    try:
        manifest = await source.manifest(referrer.descriptor)
        fits = await may_set(place, tag, manifest) if tag else manifest.is_about(subject)
    except (RefusedError, ContentError) as error:
        return None if isinstance(error, MissingError) else True
    except MirrordError:
        return None
    return True if fits else None
