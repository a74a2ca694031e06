"""A repository of a registry as a source."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final

from mirrord.blobs.source import BlobSource, embedded
from mirrord.errors import ContentError, MirrordError, MissingError, RefusedError
from mirrord.model.digest import Digest
from mirrord.model.memory import Memory
from mirrord.model.plan import Item, TagVerdict
from mirrord.plan.offer import Build, Offer, named, remembered
from mirrord.plan.select import is_glob, listed_verdicts, matches, select, unmatched
from mirrord.syncer.values import Facts, Mirror, Services
from mirrord.syncers.image.names import OneImage, frozen, spec_of
from mirrord.syncers.image.plan.steps import Referrer, SourceListing, check_reached, shared_code
from mirrord.syncers.image.upstream.referrers import RepositoryReferrers, referrers_apis
from mirrord.transfer.fanout import Workers
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.manifest import ROOM, Held, Manifest
from mirrord.wire.oci.paging import LeftOut
from mirrord.wire.oci.reference import Reference

AT_ONCE: Final = 64  # tags or images; the host's `requests` limits parallel requests


class RegistrySource:
    """Reads manifests and blobs of one repository, and what is about them."""

    def __init__(self, repository: Repository, about: RepositoryReferrers | None = None, room: int = 0) -> None:
        """Read from `repository`; without `about` nothing is about its manifests.

        Of what is about them, and of small blobs, up to `room` bytes are read only once.
        """
        self._repository, self._about, self._held = repository, about, Held(room)
        self.host, self.repository = repository.host, repository.repository
        self._referrers: set[Digest] = set()

    async def manifest(self, descriptor: Descriptor) -> Manifest:
        """GET a manifest by digest."""
        digest = descriptor.digest
        if held := await self._held.manifest(digest):
            return held
        manifest = await self._repository.get_manifest(digest)
        if digest in self._referrers:
            self._held.hold(digest, manifest.body, manifest.media_type)
        return manifest

    async def get_blob(self, blob: Descriptor) -> bytes:
        """GET a small blob."""
        data = self._held.blob(blob.digest)
        if data is None:
            data = await self._repository.get_blob(blob)
            self._held.hold(blob.digest, data)
        return data

    def change(self, digest: Digest) -> str:  # noqa: ARG002 - the port's signature
        """Return "": all is as the registry has it."""
        return ""

    async def check_blob(self, blob: Descriptor) -> None:
        """Ask by HEAD, and by GET where that does not say; embedded data has to be the blob's."""
        if blob.data is not None and Digest.of(blob.data, blob.digest.algorithm) == blob.digest:
            return
        with contextlib.suppress(RefusedError):
            if await self._repository.has_blob(blob):
                return
        async with self._repository.open_blob(blob):
            return

    async def blob_source(self, blob: Descriptor) -> BlobSource:
        """Return the blob's embedded data if present (image-spec, descriptor.md), else a GET."""
        name, blob = self._repository.reference.name, self._held.embedded(blob)
        if blob.data is not None:
            return BlobSource(blob.digest, blob.size, embedded(blob.data), name=f"{name}, embedded")
        opened = partial(self._repository.open_blob, blob)
        return BlobSource(blob.digest, blob.size, opened, name=name, origin=self._repository.reference.domain)

    async def has_referrers(self) -> bool:
        """Return whether the registry has the API, or any tag that is about a manifest."""
        return self._about is not None and await self._about.may_have()

    async def referrers(self, subject: Digest) -> Sequence[Referrer]:
        """Return what is about a manifest. Raises as `RepositoryReferrers.of`."""
        found = await self._about.of(subject) if self._about else ()
        self._referrers.update(one.descriptor.digest for one in found)
        return found

    def ignored(self, subject: Digest) -> Sequence[str]:
        """Return what was left out of that."""
        return self._about.ignored(subject) if self._about else ()


@dataclass(frozen=True, slots=True)
class TagSelection:
    """Which tags are asked for."""

    tags: Sequence[str]
    required: Sequence[str]  # those that the configuration names and that therefore have to exist, and its globs
    remarks: Sequence[str] = ()
    verdicts: Sequence[TagVerdict] = ()
    heads: Mapping[str, Descriptor] = field(default_factory=dict)  # what is known of them already
    pushed: Mapping[str, datetime] = field(default_factory=dict)  # of those that may be settled
    listed: Collection[str] | None = None  # all tags of the repository, if they were listed


async def offers(
    repository: Repository, mirror: Mirror, memory: Memory, services: Services, now: datetime
) -> SourceListing:
    """Find the selected tags: no listing for literals, one HEAD for each tag, none for a settled one.

    Raises:
        TransportError: none could be checked, because the registry is unreachable or throttles.
        MirrordError: the only requested one could not be checked.
    """
    left_out = LeftOut()
    selection = await select_tags(repository, mirror, services.facts, now, left_out)
    answers: dict[str, Offer | MirrordError] = {}
    are_final = await _final(mirror, services.facts) if selection.pushed else None

    async def look(tag: str) -> None:
        known = _settled(repository.reference, mirror, memory, tag, selection.pushed.get(tag))
        if known and are_final and not are_final(known.item.digest):
            known = None
        answers[tag] = known or await _offer(repository, mirror, memory, tag, selection.heads.get(tag))

    await Workers(AT_ONCE).each(selection.tags, look)
    found = {tag: answers[tag] for tag in selection.tags}
    alone = isinstance(mirror.spec, OneImage)
    about = RepositoryReferrers(repository, services.once(referrers_apis), now, selection.listed)
    source = RegistrySource(repository, about, ROOM if spec_of(mirror).signatures.require else 0)
    listing = await asyncio.to_thread(_listing, source, found, selection.required, alone=alone)
    problems = (*_not_tags(repository, left_out), *listing.problems)
    remarks, verdicts = selection.remarks, selection.verdicts if mirror.explain else ()
    missing = (*_emptied(repository, selection.listed, memory), *listing.missing)
    return replace(listing, problems=problems, missing=missing, remarks=remarks, verdicts=verdicts)


def _emptied(repository: Repository, listed: Collection[str] | None, memory: Memory) -> Iterator[str]:
    """Yield a sentence about a repository that lists no tag at all, where some were mirrored before."""
    if listed is not None and not listed and memory:
        before = len({item for _, item in memory})
        yield f"{repository.reference.name}: lists no tags at all; what was mirrored ({before}) stays as it is"


def _not_tags(repository: Repository, left_out: LeftOut) -> Iterator[str]:
    """Yield a sentence about what a registry lists as tags and nobody can ask for."""
    if left_out.count:
        names = "name that is no tag" if left_out.count == 1 else "names that are no tags"
        yield f"{repository.reference.name}: the list of tags has {left_out.count} {names}: {left_out}"


async def _final(mirror: Mirror, facts: Facts | None) -> Callable[[str], bool]:
    """Return what says whether a recorded digest is that of an image with the platforms of the mirror."""
    from mirrord.syncers.image.upstream.cuts import known_cuts  # noqa: PLC0415 - a copy needs none

    return (await known_cuts(mirror, facts)).are_final


async def select_tags(
    repository: Repository, mirror: Mirror, facts: Facts | None, now: datetime, left_out: LeftOut | None = None
) -> TagSelection:
    """List the tags of a repository, where the mirror does not name all that it wants, and choose from them.

    Raises:
        MirrordError: they cannot be listed, or dates that decide not be found.
    """
    source, reference = spec_of(mirror).source, repository.reference
    if source.choice:
        from mirrord.syncers.image.upstream.choosing import TagDates, choose_tags  # noqa: PLC0415 - a copy needs none

        dates = TagDates(repository, facts, mirror.name)
        chosen = await choose_tags(repository, source.choice, dates, now, left_out)
        return TagSelection(
            chosen.tags, (), chosen.remarks, chosen.verdicts, chosen.heads, chosen.pushed, chosen.listed
        )
    patterns = source.tags or (str(reference.digest or reference.tag or "latest"),)
    literals = [pattern for pattern in patterns if not is_glob(pattern)]
    if len(literals) == len(patterns):
        return TagSelection(literals, patterns, verdicts=listed_verdicts((), patterns) if mirror.explain else ())
    listed = [tag async for tag in repository.tags(left_out)]

    def select_listed() -> TagSelection:
        tags = [*dict.fromkeys((*literals, *select(listed, patterns)))]
        verdicts = listed_verdicts(listed, patterns) if mirror.explain else ()
        return TagSelection(tags, patterns, tuple(unmatched(listed, patterns)), verdicts, listed=listed)

    return await asyncio.to_thread(select_listed)


def _listing(
    source: RegistrySource, found: Mapping[str, Offer | MirrordError], patterns: Sequence[str], *, alone: bool
) -> SourceListing:
    """Sort the results of all tags; `alone` means a single image (`mirrord copy`). Raises as `offers`."""
    failures = [(tag, error) for tag, error in found.items() if isinstance(error, MirrordError)]
    if alone and failures:
        raise failures[0][1]
    check_reached([error for _, error in failures], len(found))
    usable = tuple(offer for offer in found.values() if isinstance(offer, Offer))
    # A listed tag that is missing or not an image: wrong at the source.
    bad = (MissingError, ContentError)
    wrong = {tag for tag, error in failures if usable and tag not in patterns and isinstance(error, bad)}
    return SourceListing(
        usable,
        dict.fromkeys((offer.item.name for offer in usable), source),
        tuple(f"{tag}: {error}" for tag, error in failures if tag in wrong),
        tuple(f"{tag}: {error}" for tag, error in failures if tag not in wrong),
        code=shared_code(error for tag, error in failures if tag not in wrong),
    )


async def _offer(
    repository: Repository, mirror: Mirror, memory: Memory, tag: str, head: Descriptor | None
) -> Offer | MirrordError:
    reference, spec = repository.reference, spec_of(mirror)
    # Tags of the mirror's own source may be declared as immutable.
    fixed = mirror.publication is None and matches(tag, spec.immutable)
    if fixed and (known := _recorded(reference, mirror, memory, tag, fixed=True)):
        return replace(known, settled=True)
    try:
        head = head or await repository.head_manifest(tag)
        if head is None:
            if isinstance(spec, OneImage):
                joint, kind = ("@", "digest") if ":" in tag else (":", "tag")
                raise MissingError(f"{reference.name}{joint}{tag}: no such image; check the name and the {kind}")
            raise MissingError(f"{reference.name}:{tag} does not exist")
    except MirrordError as error:
        return error
    return _named(reference, mirror, tag, head.digest, fixed=fixed)


def _named(reference: Reference, mirror: Mirror, tag: str, digest: Digest, *, fixed: bool) -> Offer:
    """Offer the image of a tag or digest of the source; a digest alone has no name at the targets."""
    spec = spec_of(mirror)
    called = reference.tag if ":" in tag else tag
    names = spec.source.names or ((called,) if called else ())
    item = Item(spec.source.names[0] if spec.source.names else tag, digest)
    return named(item, names, Build(publication=mirror.publication), frozen(mirror), fixed=fixed)


def _settled(reference: Reference, mirror: Mirror, memory: Memory, tag: str, pushed: datetime | None) -> Offer | None:
    """Return the offer from the record if every target had it long after it was pushed; see `Choice.settled`.

    The time of the record counts, not that of the run: what was pushed during a pause of mirrord is in no record.
    """
    choice = spec_of(mirror).source.choice
    if pushed is None or choice is None or choice.settled is None:
        return None
    seen = [memory.get((target.name, tag)) for target in mirror.targets]
    if any(one is None or (one.at - pushed).total_seconds() <= choice.settled for one in seen):
        return None
    return _recorded(reference, mirror, memory, tag, fixed=False)


def _recorded(reference: Reference, mirror: Mirror, memory: Memory, tag: str, *, fixed: bool) -> Offer | None:
    """Return the offer from the record alone: one digest, recorded at every target."""
    names, targets = spec_of(mirror).source.names, [target.name for target in mirror.targets]
    digests = {seen.digest for target in targets if (seen := memory.get((target, names[0] if names else tag)))}
    if len(digests) != 1:
        return None
    offer = _named(reference, mirror, tag, Digest.parse(digests.pop()), fixed=fixed)
    return offer if all(remembered(offer, target, memory) for target in targets) else None
