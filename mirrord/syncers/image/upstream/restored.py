"""Restored names: their content is read wherever it still is, and the source is not needed for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from mirrord.blobs.source import BlobSource
from mirrord.errors import MirrordError, MissingError, TakenDownError
from mirrord.model.digest import Digest
from mirrord.model.memory import LastSeen, Memory
from mirrord.model.plan import Item
from mirrord.names.denied import DeniedEntry
from mirrord.plan.offer import Offer
from mirrord.plan.restored import AWAY, NOTHING, Restored, hold
from mirrord.syncer.port import Syncer
from mirrord.syncer.restoring import Resetting, RestoreWish
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.image.kept import LocalRepository
from mirrord.syncers.image.names import Source, is_many
from mirrord.syncers.image.plan.denied import denied_names
from mirrord.syncers.image.plan.many import ManySurvey, RepositoryPart, about, derived, prefix
from mirrord.syncers.image.plan.steps import ImageSource, ImageSurvey, Referrer, RefusedOffer, SourceListing
from mirrord.syncers.image.upstream.layout import LayoutSource
from mirrord.syncers.image.upstream.local import LocalSource
from mirrord.syncers.image.upstream.referrers import RepositoryReferrers, referrers_apis
from mirrord.syncers.image.upstream.registry import RegistrySource
from mirrord.syncers.image.upstream.survey import PATIENCE, look_at_targets
from mirrord.syncers.image.upstream.whereabouts import NO_DOUBTS, Doubts, Place, places_to_read, whereabouts
from mirrord.transfer.fanout import Workers
from mirrord.transfer.restoring import holding
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.layout import Layout
from mirrord.wire.oci.manifest import Manifest

_Read = TypeVar("_Read")
REPOSITORIES = 4  # of a mirror of many, looked at at once


class _Places:
    """The places of one mirror, opened once."""

    def __init__(self, mirror: Mirror, services: Services, now: datetime, doubts: Doubts = NO_DOUBTS) -> None:
        self._mirror, self._services, self.now, self._doubts = mirror, services, now, doubts
        self._local: dict[str, LocalSource] = {}  # which know what is about each of their images

    @cached_property
    def by_name(self) -> Mapping[str, Place]:
        """Where an image may be, the best one first. Raises as `open_target`."""
        return places_to_read(self._mirror, self._services)

    def of(self, digest: str) -> Mapping[str, Place]:
        """Return where one image may be, the best place first. Raises as `open_target`."""
        return {name: self.by_name[name] for name in self._doubts.order(digest, self.by_name)}

    async def source(self, place: Place, root: Descriptor) -> ImageSource:
        """Return what reads an image, and all that is about it, from one of them."""
        if isinstance(place, Repository):
            apis = self._services.once(referrers_apis)
            return RegistrySource(place, RepositoryReferrers(place, apis, self.now))
        if isinstance(place, LocalRepository):
            return self._local.setdefault(place.repository, LocalSource(self._services, place.repository))
        return LayoutSource(await asyncio.to_thread(Layout.open, Path(place.repository)), root)


class RestoredSource:
    """Reads one image from the first place that has it, and from the next one where that fails."""

    host = repository = ""  # one of several

    def __init__(self, digest: Digest, places: _Places) -> None:
        """Read `digest` from one of `places`; which one that is nobody asks before it is needed."""
        self._digest, self._places = digest, places
        self._chosen: tuple[str, ImageSource] | None = None
        self._errors: dict[str, MirrordError] = {}  # of places that failed; they are not asked again
        self._unlisted: dict[str, MirrordError] = {}  # of those that failed to say what is about images
        self._choosing = asyncio.Lock()

    async def _read(self, read: Callable[[ImageSource], Awaitable[_Read]], *, listing: bool = False) -> _Read:
        """Return what the first place says that has the image and does not fail.

        Raises:
            MirrordError: none has it; where one failed, what it said.
        """
        while True:
            async with self._choosing:
                chosen = self._chosen = self._chosen or await self._choose()
            name, source = chosen
            try:
                return await read(source)
            except MirrordError as error:
                self._errors[name] = error
                if listing:
                    self._unlisted[name] = error
                if self._chosen is chosen:
                    self._chosen = None

    async def _choose(self) -> tuple[str, ImageSource]:
        places = self._places.of(str(self._digest))
        for name, place in places.items():
            if name in self._errors:
                continue
            try:
                head = await place.head_manifest(self._digest, PATIENCE)
                if head is not None:
                    return name, await self._places.source(place, head)
            except MirrordError as error:
                self._errors[name] = error
        raise MissingError(nowhere(self._digest, places, self._errors))

    async def manifest(self, descriptor: Descriptor) -> Manifest:
        """See `ImageSource.manifest`."""
        return await self._read(lambda source: source.manifest(descriptor))

    async def get_blob(self, blob: Descriptor) -> bytes:
        """See `ImageSource.get_blob`."""
        return await self._read(lambda source: source.get_blob(blob))

    async def check_blob(self, blob: Descriptor) -> None:
        """See `ImageSource.check_blob`."""
        await self._read(lambda source: source.check_blob(blob))

    async def blob_source(self, blob: Descriptor) -> BlobSource:
        """See `ImageSource.blob_source`; it is asked for first, since a manifest may outlive its blobs."""

        async def checked(source: ImageSource) -> BlobSource:
            await source.check_blob(blob)
            return await source.blob_source(blob)

        return await self._read(checked)

    async def has_referrers(self) -> bool:
        """See `ImageSource.has_referrers`."""
        return await self._read(lambda source: source.has_referrers())

    async def referrers(self, subject: Digest) -> Sequence[Referrer]:
        """See `ImageSource.referrers`."""
        return await self._read(lambda source: source.referrers(subject), listing=True)

    def ignored(self, subject: Digest) -> Sequence[str]:
        """See `ImageSource.ignored`; what a place did not list may be nowhere else."""
        left = [f"signatures and attestations that only {name} has: {why}" for name, why in self._unlisted.items()]
        return (*(self._chosen[1].ignored(subject) if self._chosen else ()), *left)

    def change(self, digest: Digest) -> str:  # noqa: ARG002 - the port's signature
        """Return "": all is as it was mirrored."""
        return ""


def nowhere(digest: str, asked: Collection[str], errors: Mapping[str, MirrordError]) -> str:
    """Say that no place has an image: those that were asked, and those that could not be."""
    without = [name for name in asked if name not in errors]
    said = [f"not at {', '.join(without)}"] if without else []
    said += [f"{name} could not be asked: {error}" for name, error in errors.items() if name in asked]
    return f"{digest} is nowhere{': ' if said else ''}{'; '.join(said)}"


def with_restored(
    mirror: Mirror, services: Services, listing: SourceListing, restored: Restored, now: datetime
) -> SourceListing:
    """Let restored names override what a source offers, and say so; what was taken down since stays away."""
    alone = mirror.publication is not None
    said = restored.remarks(mirror.name, listing.offers, alone=alone)
    if denied := _denied(mirror, services, restored):
        restored = restored.changed(lambda name, digest: f"{AWAY}{digest}" if (name, digest) in denied else digest)
    kept = _kept(restored, _Places(mirror, services, now))
    return replace(listing, restored=restored, kept=kept, remarks=(*listing.remarks, *said))


def _kept(restored: Restored, places: _Places) -> Mapping[str, ImageSource]:
    return {digest: RestoredSource(Digest.parse(digest), places) for digest in restored.digests}


def resetting(syncer: Syncer) -> Resetting:
    """Return how the names of a kind of images are set back."""

    def variant(wish: RestoreWish) -> Syncer:
        async def survey(mirror: Mirror, services: Services, _: Memory, now: datetime) -> ImageSurvey | ManySurvey:
            return await survey_wish(mirror, services, now, wish)

        return replace(syncer, survey=survey, open=holding(syncer.open, wish, hold))

    return Resetting(variant, where)


async def survey_wish(
    mirror: Mirror, services: Services, now: datetime, wish: RestoreWish, doubts: Doubts = NO_DOUBTS
) -> ImageSurvey | ManySurvey:
    """Find out where the content of a wish is, and what its targets have; the source need not be there.

    What is nowhere is refused. Raises as `open_target`.
    """
    restored = await asyncio.to_thread(NOTHING.holding, wish.names, now)
    if not is_many(mirror):
        return await _survey_one(mirror, services, now, restored, doubts)
    parts = await asyncio.to_thread(restored.apart)
    surveyed: dict[str, tuple[RepositoryPart, ImageSurvey]] = {}
    missing: list[str] = []

    async def look(repository: str) -> None:
        try:
            part = derived(mirror, Source(repository=repository))
            found = await _survey_one(part.mirror, services, now, parts.get(prefix(part), NOTHING), doubts)
        except MirrordError as error:
            missing.append(about(repository, str(error)))
        else:
            surveyed[repository] = part, found

    await Workers(REPOSITORIES).each(sorted(one.removesuffix(":") for one in parts), look)
    return ManySurvey([surveyed[one] for one in sorted(surveyed)], missing=missing)


async def _survey_one(
    mirror: Mirror, services: Services, now: datetime, restored: Restored, doubts: Doubts
) -> ImageSurvey:
    """Survey names of one repository. Nothing of the record is trusted: the targets are asked."""
    places = _Places(mirror, services, now, doubts)
    asked = await asyncio.to_thread(lambda: [Digest.parse(one) for one in restored.digests])
    found = await whereabouts(mirror, services, asked, doubts=doubts)

    def decided() -> tuple[SourceListing, Memory]:
        there = {str(digest): f"restored from {listed(at)}" for digest, at in found.found.items() if at}
        denied = _denied(mirror, services, restored)
        refused: dict[tuple[str, str], RefusedOffer] = {}

        def allow(name: str, digest: str) -> str:
            entry, why = denied.get((name, digest)), ""
            if entry is not None:
                why, code = f"it was taken down, and is not restored: {entry.reason}", TakenDownError.code
            elif not digest.startswith(AWAY) and digest not in there:
                why, code = nowhere(digest, places.of(digest), found.unknown), MissingError.code
            if why:
                at = [target for target, names in restored.held.items() if names.get(name) == digest]
                refused[name, digest] = RefusedOffer(Offer(Item(name, digest), (name,)), why, code, at)
            return "" if why else digest

        left = replace(restored.changed(allow), where=there)
        listing = SourceListing((), {}, refused=[*refused.values()], restored=left, kept=_kept(left, places))
        away = {key: LastSeen(digest, places.now) for key, digest in left.away.items()}
        return listing, Memory(away)  # so that the targets are asked for these, too

    listing, known = await asyncio.to_thread(decided)
    return await look_at_targets(mirror, services, known, listing, now)


def _denied(mirror: Mirror, services: Services, restored: Restored) -> Mapping[tuple[str, str], DeniedEntry]:
    """Return what was taken down of restored names, by name and digest."""
    if not services.denied:
        return {}
    names = {(name, digest) for those in restored.held.values() for name, digest in those.items()}
    return denied_names(mirror, services.denied, (one for one in names if not one[1].startswith(AWAY)))


def listed(names: Sequence[str]) -> str:
    """Write some names as alternatives: `a, b or c`."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


async def where(mirror: Mirror, services: Services, names: Mapping[str, Collection[str]]) -> Mapping[str, str]:
    """Say of digests where they can be read now, a clause each; `names` has the digests of each name."""
    if not is_many(mirror):
        return await _where_one(mirror, services, names)
    repositories: dict[str, dict[str, Collection[str]]] = {}
    for name, digests in names.items():
        repository, _, tag = name.rpartition(":")
        repositories.setdefault(repository, {})[tag] = digests
    said: dict[str, str] = {}

    async def look(repository: str) -> None:
        try:
            part = derived(mirror, Source(repository=repository))
            said.update(await _where_one(part.mirror, services, repositories[repository]))
        except MirrordError as error:
            digests = {digest for those in repositories[repository].values() for digest in those}
            said.update(dict.fromkeys(digests, f"unknown: {error}"))

    await Workers(REPOSITORIES).each(repositories, look)
    return said


async def _where_one(mirror: Mirror, services: Services, names: Mapping[str, Collection[str]]) -> Mapping[str, str]:
    pairs = [(name, digest) for name, digests in names.items() for digest in digests]
    denied = denied_names(mirror, services.denied, pairs) if services.denied else {}
    allowed = {pair[1] for pair in pairs if pair not in denied}
    found = await whereabouts(mirror, services, [Digest.parse(one) for one in sorted(allowed)])
    unsure = f"not found; {', '.join(found.unknown)} could not be asked" if found.unknown else "nowhere"
    said = {digest: f"taken down: {entry.reason}" for (_, digest), entry in denied.items()}
    return said | {str(digest): ", ".join(at) or unsure for digest, at in found.found.items()}
