"""One look at the source, and at those targets whose record is not enough."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from mirrord.errors import MirrordError, RefusedError, StorageError, TransportError, UnreachableError
from mirrord.files import storage_errors
from mirrord.model.digest import Digest
from mirrord.model.memory import Memory
from mirrord.plan.differ import names_to_ask
from mirrord.plan.moving import Evidence, undated
from mirrord.plan.offer import Offer
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.image.kept import open_local, open_target
from mirrord.syncers.image.names import source_reference, spec_of, target_place
from mirrord.syncers.image.plan import ImageSource, ImageSurvey, at_targets
from mirrord.syncers.image.spec import CopySpec
from mirrord.syncers.image.upstream.layout import LayoutSource, build_offers, builds, open_image, single
from mirrord.syncers.image.upstream.registry import Question, RegistrySource, offers
from mirrord.transfer.fanout import Workers
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.created import created_at
from mirrord.wire.oci.layout import blob_name

PATIENCE = 10.0  # seconds for one answer of a target; a dead one must not hold up the others
LOOKS = 8  # names that are asked for at one target at once


@dataclass(frozen=True, slots=True)
class _Look:
    target: str
    held: Mapping[str, str | None]
    error: MirrordError | None = None


async def survey(mirror: Mirror, services: Services, memory: Memory, now: datetime) -> ImageSurvey:
    """Find out what is offered and, where the record is not enough, what the targets hold.

    Raises:
        MirrordError: the source as a whole cannot be read.
    """
    problems: list[str] = []
    missing: list[str] = []
    memory = await _evident(mirror, services, memory)
    found, sources = await _source(mirror, services, memory, problems, missing)
    if isinstance(mirror.spec, CopySpec):  # people know the one image as they wrote it
        found = [replace(offer, item=replace(offer.item, name=mirror.spec.text)) for offer in found]
        sources = dict.fromkeys([mirror.spec.text], *sources.values())
    names: dict[str, frozenset[str]] = {}
    for some, targets in at_targets(mirror, found):
        names |= names_to_ask(some, targets, memory, now=now, trust=mirror.trust)
    looks = await asyncio.gather(*(_held(target, names[target.name], mirror, services) for target in mirror.targets))
    held = {(look.target, name): digest for look in looks for name, digest in look.held.items()}
    unasked = {look.target: str(look.error) for look in looks if look.error}
    unreachable = {
        look.target: look.error
        for look in looks
        if isinstance(look.error, UnreachableError) and isinstance(mirror.spec, CopySpec)
    }
    created, failed = await _created(found, Evidence(now, memory, held), mirror, services)
    held = {key: digest for key, digest in held.items() if key[0] not in failed}
    return ImageSurvey(
        tuple(found),
        sources,
        held,
        created,
        {**unasked, **failed},
        unreachable,
        memory,
        tuple(problems),
        tuple(missing),
    )


async def _created(
    found: list[Offer], evidence: Evidence, mirror: Mirror, services: Services
) -> tuple[Mapping[str, datetime | None], Mapping[str, str]]:
    """Find out when that was made which stands where a build shall go, and nobody knows who put it there.

    Returns:
        Digest → when it was made, and targets that could not be asked, with the reason.
    """
    targets = {target.name: target for target in mirror.targets}
    created: dict[str, datetime | None] = {}
    failed: dict[str, str] = {}
    for name, digest in sorted(undated(found, tuple(targets), evidence)):
        try:
            if digest not in created:
                created[digest] = await _created_there(targets[name], Digest(digest), mirror, services)
        except TransportError as error:
            failed[name] = str(error)
    return created, failed


async def _created_there(target: Target, digest: Digest, mirror: Mirror, services: Services) -> datetime | None:
    place = open_local(mirror, services) if target.name == LOCAL else open_target(mirror, target, services)
    return await created_at(place, digest) if place else None


async def _source(
    mirror: Mirror, services: Services, memory: Memory, problems: list[str], missing: list[str]
) -> tuple[list[Offer], Mapping[str, ImageSource]]:
    spec = spec_of(mirror)
    source = spec.source
    frozen = spec.immutable if mirror.publication else ()
    alone = isinstance(spec, CopySpec)
    if source.repository:
        reference = source_reference(mirror)
        repository = Repository(services.http, reference)
        names = [target.name for target in mirror.targets]
        fixed = () if mirror.publication else spec.immutable  # it speaks of tags of the mirror's own source
        question = Question(reference, source, fixed, names, memory, mirror.publication, frozen, alone)
        found = await offers(repository, question)
        problems += found.problems
        missing += found.missing
        return [*found.offers], dict.fromkeys((one.item.name for one in found.offers), RegistrySource(repository))
    with storage_errors(str(source.layouts or source.archive or source.layout)):
        return await _files(mirror, services, missing)


async def _files(
    mirror: Mirror, services: Services, missing: list[str]
) -> tuple[list[Offer], Mapping[str, ImageSource]]:
    """Look at a source on this machine."""
    spec = spec_of(mirror)
    source = spec.source
    frozen = spec.immutable if mirror.publication else ()
    if source.layouts:
        pairs = await asyncio.to_thread(
            lambda folder: [*build_offers(builds(folder, missing), missing)], source.layouts
        )
        return [offer for offer, _ in pairs], {
            offer.item.name: LayoutSource(build.layout, build.descriptor) for offer, build in pairs
        }
    layout, root = await open_image(source, services.scratch)
    nameless = isinstance(spec, CopySpec)
    offer = await asyncio.to_thread(single, layout, root, source, mirror.publication, frozen, nameless=nameless)
    return [offer], {offer.item.name: LayoutSource(layout, root)}


async def _evident(mirror: Mirror, services: Services, memory: Memory) -> Memory:
    """Leave out what the record says of folders of ours and a look proves wrong: our own disk needs no belief."""
    remembered: dict[str, set[str]] = {}
    for (name, _), known in memory.items():
        remembered.setdefault(name, set()).add(known.digest)
    lost: set[tuple[str, str]] = set()
    for target in mirror.targets:
        digests = remembered.get(target.name, set())
        if target.name == LOCAL and (local := open_local(mirror, services)) is not None:
            lost |= {(LOCAL, digest) for digest in digests if not await local.has_manifest(Digest(digest))}
        elif target.name != LOCAL and isinstance(folder := target_place(mirror, target), Path):
            lost |= {(target.name, digest) for digest in await asyncio.to_thread(_gone, folder, digests)}
    kept = {key: known for key, known in memory.items() if (key[0], known.digest) not in lost}
    return Memory(kept, memory.names) if lost else memory


def _gone(folder: Path, digests: Collection[str]) -> Collection[str]:
    return [digest for digest in digests if not (folder / blob_name(Digest(digest))).is_file()]


async def _local(names: Collection[str], mirror: Mirror, services: Services) -> Mapping[str, str | None]:
    """Look up names in the local store; what is linked and not whole is not there."""
    local = open_local(mirror, services)
    if local is None:
        raise StorageError("the local target needs a state directory")
    heads = {name: await local.head_manifest(name) for name in names}
    return {
        name: head.digest if head and await local.has_manifest(head.digest) else None for name, head in heads.items()
    }


async def _held(target: Target, names: Collection[str], mirror: Mirror, services: Services) -> _Look:
    """Ask one target for the names that decide; stop asking at the first failure.

    A name that a registry refuses to speak of counts as not there, as long as it speaks of others: Artifactory denies
    what it does not have (google/go-containerregistry#1691). Its answer to the upload decides.
    """
    if target.name == LOCAL:
        return _Look(target.name, await _local(names, mirror, services))
    place = open_target(mirror, target, services)
    held: dict[str, str | None] = {}
    answered: list[bool] = []

    async def look(name: str) -> None:
        try:
            head = await place.head_manifest(name, PATIENCE)
        except RefusedError:
            answered.append(False)
            if not any(answered) and len(answered) in (LOOKS, len(names)):
                raise
            return
        answered.append(True)
        held[name] = head.digest if head else None

    try:
        await Workers(LOOKS).each(sorted(names), look)
    except MirrordError as error:
        return _Look(target.name, {}, error)
    return _Look(target.name, held)
