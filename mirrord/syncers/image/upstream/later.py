"""Signatures that were added to an image after it was mirrored.

They are looked for when a target is asked for the image's name anyway, and nothing was to do for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mirrord.errors import ContentError, MirrordError, MissingError, RefusedError
from mirrord.model.digest import Digest
from mirrord.plan.offer import Held, Offer
from mirrord.syncer.values import Facts, Mirror
from mirrord.syncers.image.kept import LocalRepository
from mirrord.syncers.image.names import places
from mirrord.syncers.image.plan.steps import ImageSource, Referrer, SourceListing, at_targets
from mirrord.transfer.fanout import Workers
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.layout_writer import LayoutWriter
from mirrord.wire.oci.referrers import may_set

Place = Repository | LayoutWriter | LocalRepository

AT_ONCE: Final = 16  # images; the host's `requests` limits parallel requests
MOST: Final = 100  # platforms of one image whose signatures are looked for
_FACTS: Final = "children"


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
    mirror: Mirror, listing: SourceListing, targets: Mapping[str, Place], held: Held, facts: Facts | None
) -> Later:
    """Compare what is about the images of a source with what their targets have.

    A source that lists referrers costs a request for each manifest, a target one for each signature of the source. The
    platforms of an image are those that were noted when it was copied; without a note only what is about the image
    itself is looked for, since a GET of a manifest spends the quota of Docker Hub.
    """
    there: dict[tuple[str, str], tuple[Offer, list[str]]] = {}
    for offers, names in at_targets(mirror, listing.offers):
        for offer in offers:
            asked = offer.names or (offer.item.digest,)
            for target in names:
                if any(held.get((target, name)) == offer.item.digest for name in asked):
                    there.setdefault((offer.item.name, offer.item.digest), (offer, []))[1].append(target)
    children = await _noted(mirror, listing.offers, facts)
    lacking: dict[tuple[str, str], int] = {}
    troubles: list[str] = []

    async def look(one: tuple[Offer, list[str]]) -> None:
        offer, there_at = one
        try:
            digest = Digest.parse(offer.item.digest)
            source = listing.sources[offer.item.name]
            about = await _about(source, digest, children.get(digest, ()))
        except MirrordError as error:
            troubles.append(f"signatures that were added to {offer.item.name} could not be looked for: {error}")
            return
        for target in there_at:
            if count := sum([await _lacks(targets[target], source, *one) for one in about]):
                lacking[target, offer.item.name] = count

    await Workers(AT_ONCE).each(there.values(), look)
    return Later(lacking, troubles[:1])


def _fact(mirror: Mirror) -> str:
    return f"{_FACTS}:{places(mirror)[0]}"


async def note_children(mirror: Mirror, facts: Facts | None, read: Mapping[str, Sequence[str]]) -> None:
    """Note which manifests are in the images that a run has read, for `look_for_later` of the next one.

    Raises:
        StorageError: it cannot be noted.
    """
    if facts and (found := {digest: " ".join(children[:MOST]) for digest, children in read.items() if children}):
        await facts.note(mirror.name, _fact(mirror), {**await facts.recall(mirror.name, _fact(mirror)), **found})


async def _noted(mirror: Mirror, offers: Sequence[Offer], facts: Facts | None) -> Mapping[str, Sequence[Digest]]:
    """Return what was noted of the images that are offered, and forget the others."""
    known = await facts.recall(mirror.name, _fact(mirror)) if facts else {}
    kept = {one.item.digest: known[one.item.digest] for one in offers if one.item.digest in known}
    if facts and len(kept) < len(known):
        await facts.note(mirror.name, _fact(mirror), kept)
    return {digest: [Digest.parse(child) for child in text.split()] for digest, text in kept.items()}


async def _about(source: ImageSource, digest: Digest, children: Sequence[Digest]) -> Sequence[tuple[Digest, Referrer]]:
    """Return what a source has about an image and its platforms. Raises as `ImageSource.referrers`."""
    found = [(digest, one) for one in await source.referrers(digest)]
    if not await source.has_referrers():
        return found
    for child in children:
        found += [(child, one) for one in await source.referrers(child)]
    return found


async def _lacks(place: Place, source: ImageSource, subject: Digest, referrer: Referrer) -> bool:
    """Whether a target lacks what a run would bring; what cannot be asked counts as there.

    What a run would leave out again is not lacking: what is listed and not there, or is about something else, and a tag
    of cosign with signatures that only the target has.
    """
    digest, tag = referrer.descriptor.digest, referrer.tag
    try:
        head = await place.head_manifest(tag or digest)
    except MirrordError:
        return False
    if head is not None and head.digest == digest:
        return False
    try:
        manifest = await source.manifest(referrer.descriptor)
        return await may_set(place, tag, manifest) if tag else manifest.is_about(subject)
    except (RefusedError, ContentError) as error:
        return not isinstance(error, MissingError)
    except MirrordError:
        return False
