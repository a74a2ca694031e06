"""Images of a source, cut down to some platforms: an index that has others, too, becomes one with only these."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mirrord.errors import ContentError, MirrordError, MissingError
from mirrord.model.digest import Digest
from mirrord.plan.offer import Offer
from mirrord.plan.select import is_glob
from mirrord.syncer.values import Facts, Mirror
from mirrord.syncers.image.names import OneImage, spec_of
from mirrord.syncers.image.plan.steps import ImageSource, Referrer, SourceListing, check_reached, code_with
from mirrord.syncers.image.upstream.cuts import Cut, known_cuts, note_name
from mirrord.syncers.image.upstream.registry import AT_ONCE
from mirrord.transfer.fanout import Workers
from mirrord.wire.oci.descriptor import INDEXES, Descriptor
from mirrord.wire.oci.document import check_spelling, read_object
from mirrord.wire.oci.manifest import ROOM, Held, Manifest
from mirrord.wire.oci.platform import PLATFORM_KEYS, Platform, parse_platform, platform_of
from mirrord.wire.oci.subset import subset_of
from mirrord.wire.offload import offload

if TYPE_CHECKING:
    from mirrord.blobs.source import BlobSource

_SHOWN: Final = 20  # platforms in a sentence


async def cut_down(mirror: Mirror, listing: SourceListing, facts: Facts | None) -> SourceListing:
    """Offer only the platforms of the mirror. An index costs a GET, which the transfer uses too, and a known one none.

    An image without any of them is missing; one that a pattern chose is a problem.

    Raises:
        TransportError: none could be read, because the source is unreachable or throttles.
        MirrordError: the image of a copy cannot be read, or has none of them.
    """
    cuts = await known_cuts(mirror, facts)
    wanted = [parse_platform(text) for text in spec_of(mirror).platforms]
    made: dict[int, SubsetSource] = {}
    sources = {
        name: made.setdefault(id(source), SubsetSource(source, wanted)) for name, source in listing.sources.items()
    }
    found: dict[str, Cut | MirrordError] = {}
    noted = {"": cuts.key}
    origins: dict[str, str] = {}  # digest of an offer whose index is changed → that of its index at the source

    async def look(offer: Offer) -> None:
        origin = cuts.origin(offer.item.digest)
        source = sources[offer.item.name]
        try:
            cut = cuts.known.get(origin) or (None if offer.settled else await source.look(Digest.parse(origin)))
        except MirrordError as error:
            found[offer.item.digest] = error
            return
        if cut is not None:
            source.add(origin, cut)
            found[offer.item.digest], noted[origin] = cut, cut.note()
        if origin != (cut.digest if cut else offer.item.digest):
            origins[offer.item.digest] = origin

    by_content = {(id(listing.sources[one.item.name]), one.item.digest): one for one in listing.offers}
    await Workers(AT_ONCE).each(by_content.values(), look)
    if facts:
        await facts.note(mirror.name, note_name(mirror), noted)
    made_of = {one.item.name: origins[one.item.digest] for one in listing.offers if one.item.digest in origins}
    return await asyncio.to_thread(_listing, mirror, replace(listing, sources=sources, origins=made_of), found)


def _listing(mirror: Mirror, listing: SourceListing, found: Mapping[str, Cut | MirrordError]) -> SourceListing:
    """Offer what is left of each image. Raises as `cut_down`."""
    errors = [error for error in found.values() if isinstance(error, MirrordError)]
    check_reached(errors, len(found))
    source, alone = spec_of(mirror).source, isinstance(mirror.spec, OneImage)
    chosen = source.choice is not None or any(map(is_glob, source.tags))
    offers: list[Offer] = []
    lacking = set[str]()
    problems, missing = [*listing.problems], dict[str, MirrordError]()
    for offer in listing.offers:
        item = offer.item
        cut = found.get(item.digest)
        error = cut if isinstance(cut, MirrordError) else None
        if isinstance(cut, Cut):
            if cut.digest and (offer.names or alone or cut.digest == item.digest):
                size = item.size if cut.digest == item.digest else None
                offers.append(replace(offer, item=replace(item, digest=cut.digest, size=size)))
                continue
            why = _without(mirror, cut)
            error = MissingError(f"{mirror.spec.text}: {why}" if isinstance(mirror.spec, OneImage) else why)
            lacking.add(item.name)
        if error is None:  # what never moves is as the record has it
            offers.append(offer)
            continue
        if alone:
            raise error
        bad = chosen and item.name not in source.tags and isinstance(error, MissingError | ContentError)
        if bad:
            problems.append(f"{item.name}: {error}")
        else:
            missing[f"{item.name}: {error}"] = error
    if lacking and len(lacking) == len(listing.offers) and not missing:
        wanted = ", ".join(spec_of(mirror).platforms)
        nothing = f"none of the images that are chosen has {wanted} ({len(lacking)}); correct platforms:"
        missing[nothing] = MissingError(nothing)
    code = code_with(listing, missing.values())
    return replace(listing, offers=offers, problems=problems, missing=[*listing.missing, *missing], code=code)


def _without(mirror: Mirror, cut: Cut) -> str:
    """Say why nothing of an image is mirrored."""
    if cut.digest:
        return "with some of its platforms it is another image, without a name; write its tag before the @, or names:"
    more = f" and {cut.count - len(cut.had)} more" if cut.count > len(cut.had) else ""
    key, wanted = (
        "--platform" if isinstance(mirror.spec, OneImage) else "platforms:",
        ", ".join(spec_of(mirror).platforms),
    )
    return f"has none of the platforms {wanted}; it has {', '.join(cut.had)}{more}; correct {key}"


class SubsetSource:
    """Reads the images of another source as if they had only some platforms."""

    def __init__(self, source: ImageSource, wanted: Sequence[Platform]) -> None:
        """Read from `source`."""
        self._source, self._wanted = source, wanted
        self.host, self.repository = source.host, source.repository
        self.has_referrers = source.has_referrers
        self._changed: dict[str, tuple[Digest, Cut]] = {}
        self._about: dict[Digest, int] = {}  # how many signatures an index that was changed has
        self._held = Held(ROOM)  # manifests and configs

    async def look(self, digest: Digest) -> Cut:
        """Read an image of the source, and return what is left of it.

        Raises:
            MirrordError: it cannot be read, or not be understood.
        """
        manifest = await self._source.manifest(Descriptor("", digest, 0))
        if manifest.media_type in INDEXES:
            subset = await offload(len(manifest.body), subset_of, manifest, self._wanted)
            manifest, kept, had = subset.manifest, len(subset.kept), subset.had
        else:
            platform = await self._platform(manifest)
            had = (platform,) if platform else ()
            kept = sum(any(one.takes(each) for one in self._wanted) for each in had)
        self._held.hold(manifest.digest, manifest.body, manifest.media_type)
        return Cut(manifest.digest if kept or not had else "", kept, len(had), tuple(map(str, had[:_SHOWN])))

    def add(self, origin: str, cut: Cut) -> None:
        """Take note of what is left of an image of the source."""
        if cut.digest not in ("", origin):
            self._changed[cut.digest] = Digest.parse(origin), cut

    def change(self, digest: Digest) -> str:
        """Say what of an index was changed."""
        if digest not in self._changed:
            return ""
        origin, cut = self._changed[digest]
        said, count = f"index changed: {cut.kept} of {cut.count} platforms", self._about.get(origin)
        if count == 1:
            return f"{said}; the signature or attestation of the source's index does not fit it"
        if count:
            return f"{said}; the {count} signatures and attestations of the source's index do not fit it"
        return said if count == 0 else f"{said}; any signature or attestation of the source's index does not fit it"

    async def manifest(self, descriptor: Descriptor) -> Manifest:
        """Return a changed index, or read what is as the source has it.

        Raises:
            MirrordError: it cannot be read.
        """
        digest = descriptor.digest
        if held := await self._held.manifest(digest):
            return held
        if digest not in self._changed:
            return await self._source.manifest(descriptor)
        whole = await self._source.manifest(Descriptor("", self._changed[digest][0], 0))
        subset = await offload(len(whole.body), subset_of, whole, self._wanted)
        if subset.manifest.digest != digest:
            raise ContentError(f"{digest}: is not what is left of {whole.digest}; the next run makes it again")
        return subset.manifest

    async def get_blob(self, blob: Descriptor) -> bytes:
        """Read a small blob."""
        data = self._held.blob(blob.digest)
        return await self._source.get_blob(blob) if data is None else data

    async def check_blob(self, blob: Descriptor) -> None:
        """Check that the source has a blob, unless it was made here."""
        await self._source.check_blob(self._held.embedded(blob))

    async def blob_source(self, blob: Descriptor) -> BlobSource:
        """Return the source of a blob, without reading it."""
        return await self._source.blob_source(self._held.embedded(blob))

    async def referrers(self, subject: Digest) -> Sequence[Referrer]:
        """Return what is about a manifest; what is about an index that was changed is only counted.

        Raises as `ImageSource.referrers`.
        """
        if subject not in self._changed:
            return await self._source.referrers(subject)
        origin = self._changed[subject][0]
        self._about[origin] = len(await self._source.referrers(origin))
        return ()

    def ignored(self, subject: Digest) -> Sequence[str]:
        """Return what was left out of that because it is wrong."""
        return () if subject in self._changed else self._source.ignored(subject)

    async def _platform(self, manifest: Manifest) -> Platform | None:
        """Return what an image without an index runs on, by its config; None for what is no image."""
        config = manifest.config
        if config is None:
            return None
        data = await self.get_blob(config)
        self._held.hold(config.digest, data)
        return await offload(len(data), _config_platform, data)


def _config_platform(data: bytes) -> Platform | None:
    try:
        config = read_object(data, "config")
    except ContentError:
        return None  # of no image
    check_spelling(config, PLATFORM_KEYS, "config")
    return platform_of(config)
