"""A repository of a registry as a source."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from mirrord.blobs.source import BlobSource, sized
from mirrord.errors import ContentError, MirrordError, MissingError, TransportError
from mirrord.model.digest import Digest
from mirrord.model.memory import Memory
from mirrord.model.plan import Item
from mirrord.plan.offer import Build, Offer, named, remembered
from mirrord.plan.select import is_glob, matches, select
from mirrord.syncers.image.upstream.embedded import embedded
from mirrord.transfer.fanout import Workers
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.manifest import Manifest
from mirrord.wire.oci.reference import Reference

if TYPE_CHECKING:
    from mirrord.syncer.values import Publication
    from mirrord.syncers.image.spec import Source

AT_ONCE = 64  # tags asked for; how many of them at once at the host its `requests` says


class RegistrySource:
    """Reads manifests and blobs of one repository."""

    def __init__(self, repository: Repository) -> None:
        """Read from `repository`."""
        self._repository = repository

    async def manifest(self, descriptor: Descriptor) -> Manifest:
        """GET a manifest by digest."""
        return await self._repository.get_manifest(descriptor.digest)

    async def wanted(self, blob: Descriptor) -> BlobSource:
        """Offer the blob's embedded data where there is some (image-spec, descriptor.md), else a GET."""
        name = self._repository.reference.name
        if blob.data is not None:
            return BlobSource(blob.digest, blob.size, embedded(blob.data), name=f"{name}, embedded")
        opened = sized(blob.size, partial(self._repository.open_blob, blob))
        return BlobSource(blob.digest, blob.size, opened, name=name)


@dataclass(frozen=True, slots=True)
class Question:
    """What to look for at a registry source.

    Attributes:
        reference: the repository, perhaps with a tag or a digest.
        source: the mirror's `from:`.
        immutable: globs of tags that never move.
        targets: names of the mirror's targets.
        memory: what the record says.
        publication: the publish that asks for it, or None.
        frozen: globs of names at the targets that never move, whatever asks for them.
        alone: nothing but this one image is asked for: what keeps it from being found is the error of the run.
    """

    reference: Reference
    source: Source
    immutable: Sequence[str]
    targets: Sequence[str]
    memory: Memory
    publication: Publication | None = None
    frozen: Sequence[str] = ()
    alone: bool = False

    @property
    def patterns(self) -> tuple[str, ...]:
        """Literals and globs to look for."""
        return self.source.tags or (str(self.reference.digest or self.reference.tag or "latest"),)

    def names(self, found: str) -> tuple[str, ...]:
        """Return what a tag or a digest of the source is called at the targets; a digest alone has no name."""
        if self.source.names:
            return self.source.names
        called = self.reference.tag if ":" in found else found
        return (called,) if called else ()


@dataclass(frozen=True, slots=True)
class RegistryListing:
    """What a registry source has of what was looked for.

    Attributes:
        offers: tags that are there.
        problems: tags that the registry lists and that are wrong there, one sentence each.
        missing: tags that were asked for by name and are not there, and those that could not be found out.
    """

    offers: tuple[Offer, ...]
    problems: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


async def offers(repository: Repository, question: Question) -> RegistryListing:
    """Find the wanted tags: no listing for literals, one HEAD for each tag, none for a settled one.

    Raises:
        TransportError: not a single one could be found out, because the registry is not there or asks for patience.
        MirrordError: the only one that is asked for could not.
    """
    patterns = question.patterns
    tags = [pattern for pattern in patterns if not is_glob(pattern)]
    if len(tags) < len(patterns):
        listed = [tag async for tag in repository.tags()]
        chosen = await asyncio.to_thread(select, listed, patterns)
        tags += [tag for tag in chosen if tag not in tags]
    answers: dict[str, Offer | MirrordError] = {}

    async def look(tag: str) -> None:
        answers[tag] = await _offer(repository, question, tag)

    await Workers(AT_ONCE).each(tags, look)
    found = [answers[tag] for tag in tags]
    failures = [(tag, error) for tag, error in zip(tags, found, strict=True) if isinstance(error, MirrordError)]
    unsaid = question.alone or all(isinstance(error, TransportError) for _, error in failures)
    if failures and len(failures) == len(found) and unsaid:
        raise failures[0][1]
    usable = tuple(offer for offer in found if isinstance(offer, Offer))
    wrong = {tag for tag, error in failures if usable and tag not in patterns and _wrong(error)}
    return RegistryListing(
        usable,
        tuple(f"{tag}: {error}" for tag, error in failures if tag in wrong),
        tuple(f"{tag}: {error}" for tag, error in failures if tag not in wrong),
    )


def _wrong(error: MirrordError) -> bool:
    """Whether it tells of a tag that is wrong at the source: it is listed and not there, or it is no image."""
    return isinstance(error, MissingError | ContentError)


async def _offer(repository: Repository, question: Question, tag: str) -> Offer | MirrordError:
    fixed = matches(tag, question.immutable)
    if fixed and (settled := _settled(question, tag)):
        return settled
    try:
        head = await repository.head_manifest(tag)
        if head is None:
            if question.alone:
                raise MissingError(f"{question.reference}: there is no such image; is the tag right?")
            raise MissingError(f"{question.reference.name}:{tag} is not there")
    except MirrordError as error:
        return error
    return _named(question, tag, head.digest, fixed=fixed)


def _named(question: Question, tag: str, digest: Digest, *, fixed: bool) -> Offer:
    """Offer what a tag stands for."""
    item = Item(question.source.names[0] if question.source.names else tag, digest)
    return named(item, question.names(tag), Build(publication=question.publication), question.frozen, fixed=fixed)


def _settled(question: Question, tag: str) -> Offer | None:
    """Return the offer that the record alone can make: one digest, seen at every target."""
    item = question.source.names[0] if question.source.names else tag
    digests = {known.digest for target in question.targets if (known := question.memory.get((target, item)))}
    if len(digests) != 1:
        return None
    offer = replace(_named(question, tag, Digest.parse(digests.pop()), fixed=True), settled=True)
    return offer if _everywhere(offer, question.targets, question.memory) else None


def _everywhere(offer: Offer, targets: Iterable[str], memory: Memory) -> bool:
    return all(remembered(offer, target, memory) for target in targets)
