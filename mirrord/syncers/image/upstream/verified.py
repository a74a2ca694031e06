"""Lets through only images that are signed by whom the mirror requires, before anything of them is read or copied.

What is verified is the digest that the source has under a name, index or image, and that digest is what is copied. It
is noted, so that the next run asks for nothing; the notes end with the keys that they were made with.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mirrord.errors import ContentError, MirrordError, MissingError, TooLargeError
from mirrord.model.digest import Digest
from mirrord.plan.offer import Offer
from mirrord.syncer.values import Facts, Mirror
from mirrord.syncers.image.names import places
from mirrord.syncers.image.plan.steps import (
    ImageSource,
    Referrer,
    RefusedOffer,
    SourceListing,
    check_reached,
    code_with,
)
from mirrord.syncers.image.upstream.cuts import known_cuts
from mirrord.syncers.image.upstream.signers import signers_of
from mirrord.transfer.fanout import Workers
from mirrord.wire.cosign import bundle, simple
from mirrord.wire.cosign.judgement import Judgement, heaviest, judge, unreadable
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.reference import SIGNATURE

if TYPE_CHECKING:
    from mirrord.wire.cosign.judgement import Signers
    from mirrord.wire.cosign.signature import Signature

FORM: Final = "1"
"""Of how signatures are verified: notes of another one do not count."""
MOST: Final = 100
"""Signatures of one image that are looked at."""
_FACTS: Final = "signed"
_AT_ONCE: Final = 8  # images
_STAYS: Final = "not copied, and what is there under that name stays"

_Found = Judgement | MirrordError


async def verified(mirror: Mirror, listing: SourceListing, facts: Facts | None) -> SourceListing:
    """Refuse the offers that nobody signed who has to. A signature costs two requests, a noted image none.

    Raises:
        ConfigError: a key cannot be read.
        TransportError: no signature can be fetched, because the source is unreachable or throttles.
    """
    signers = await asyncio.to_thread(signers_of, mirror)
    policy = hashlib.sha256(f"{FORM} {signers.fingerprint}".encode()).hexdigest()
    noted = await facts.recall(mirror.name, _name(mirror)) if facts else {}
    known = noted if noted.get("") == policy else {}
    origins = (await known_cuts(mirror, facts)).made  # the record has digests of indexes that were changed on the way
    subjects = {one.item.digest: origins.get(one.item.digest, one.item.digest) for one in listing.offers}
    found: dict[tuple[int, str], _Found] = {}

    async def look(key: tuple[int, str], source: ImageSource) -> None:
        try:
            found[key] = (
                Judgement(known[key[1]]) if key[1] in known else await judge_all(source, Digest(key[1]), signers)
            )
        except MirrordError as error:
            found[key] = error

    keys = {one.item.name: (id(listing.sources[one.item.name]), subjects[one.item.digest]) for one in listing.offers}
    wanted = {key: listing.sources[name] for name, key in keys.items()}
    await Workers(_AT_ONCE).each(wanted, lambda key: look(key, wanted[key]))
    if facts:
        signed = {key[1]: one.signer for key, one in found.items() if isinstance(one, Judgement) and one.signer}
        await facts.note(mirror.name, _name(mirror), {"": policy, **signed})
    return _sorted(listing, {name: found[key] for name, key in keys.items()})


def _name(mirror: Mirror) -> str:
    return f"{_FACTS}:{places(mirror)[0]}"


def _sorted(listing: SourceListing, found: Mapping[str, _Found]) -> SourceListing:
    """Divide the offers of a listing by what was found. Raises as `verified`."""
    errors = [one for one in found.values() if isinstance(one, MirrordError)]
    check_reached(errors, len(found))
    offers: list[Offer] = []
    refused: list[RefusedOffer] = []
    missing = [*listing.missing]
    signers: dict[str, str] = {}
    for offer in listing.offers:
        name, one = offer.item.name, found[offer.item.name]
        if isinstance(one, MirrordError):
            missing.append(f"{name}: its signatures cannot be fetched: {one}")
        elif one.signer:
            offers.append(offer)
            signers[name] = one.signer
        else:
            refused.append(RefusedOffer(offer, f"{one.reason}; {_STAYS}", one.code))
    code = code_with(listing, errors) or ("signature_missing" if errors and not listing.missing else "")
    return replace(listing, offers=offers, missing=missing, refused=refused, signers=signers, code=code)


async def judge_all(source: ImageSource, subject: Digest, signers: Signers) -> Judgement:
    """Return who signed a manifest, or why nobody counts. One signature that verifies is enough.

    Raises:
        MirrordError: none that could be fetched counts, and one could not be fetched.
    """
    found: list[Judgement] = []
    errors: list[MirrordError] = []
    left = MOST
    for referrer in await source.referrers(subject):
        if left <= 0:
            break
        try:
            layers = await _layers(source, referrer, subject)
        except MirrordError as error:
            errors.append(error)
            continue
        for layer in layers[:left]:
            left -= 1
            try:
                signature = await _signature(source, layer, subject)
            except MirrordError as error:
                errors.append(error)
                continue
            if signature is None:
                continue
            one = await asyncio.to_thread(judge, subject, signature, signers)
            if one.signer:
                return one
            found.append(one)
    for failure in errors:
        if not isinstance(failure, ContentError | MissingError):
            raise failure
    heavy = heaviest([*map(unreadable, errors), *found])
    return heavy if left > 0 else replace(heavy, reason=f"{heavy.reason}; only {MOST} signatures were looked at")


async def _layers(source: ImageSource, referrer: Referrer, subject: Digest) -> Sequence[Descriptor]:
    """Return the layers that may be signatures; nothing of other artifacts.

    Raises:
        MirrordError: the manifest of a signature cannot be read.
    """
    kind, of_cosign_2 = referrer.descriptor.artifact_type, referrer.tag.endswith(SIGNATURE)
    if (referrer.tag and not of_cosign_2) or (kind and not referrer.tag and not _signs(kind)):
        return ()
    manifest = await source.manifest(referrer.descriptor)
    if not referrer.tag:
        kind = manifest.artifact_type or (manifest.blobs[0].media_type if manifest.blobs else "")
        if not _signs(kind) or not manifest.is_about(subject):
            return ()
        of_cosign_2 = kind == simple.ARTIFACT
    if of_cosign_2:
        return await asyncio.to_thread(simple.payloads, manifest)
    return [one for one in manifest.blobs if bundle.is_bundle(one.media_type)]


def _signs(kind: str) -> bool:
    """Whether an artifact of this type may be a signature."""
    return kind == simple.ARTIFACT or bundle.is_bundle(kind)


async def _signature(source: ImageSource, layer: Descriptor, subject: Digest) -> Signature | None:
    """Read one signature; of the image itself only what a signature of its bytes needs.

    Raises:
        MirrordError: it cannot be read, or is none.
    """
    if not bundle.is_bundle(layer.media_type):
        body = await _blob(source, layer, simple.LIMIT)
        return await asyncio.to_thread(simple.read_simple, body, layer.annotations)
    body = await _blob(source, layer, bundle.LIMIT)
    of_bytes = await asyncio.to_thread(bundle.signs_manifest, body)
    manifest = await source.manifest(Descriptor("", subject, 0)) if of_bytes else None
    return await asyncio.to_thread(bundle.read_bundle, body, manifest)


async def _blob(source: ImageSource, blob: Descriptor, limit: int) -> bytes:
    if blob.size > limit:
        raise TooLargeError(f"{blob.digest}: {blob.size} bytes; a signature has {limit} at most")
    return await source.get_blob(blob)
