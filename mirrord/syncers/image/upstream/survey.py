"""One look at the source, and at those targets whose record is not enough."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from mirrord.blobs.holding import whole
from mirrord.blobs.links import Linked
from mirrord.errors import MirrordError, RefusedError, StorageError
from mirrord.memory import Memory
from mirrord.plan.differ import Offer, believed, names_to_check
from mirrord.syncer import LOCAL, Mirror, Services, Target
from mirrord.syncers.image.names import image_name, source_reference, spec_of, target_reference
from mirrord.syncers.image.plan import ImageSource, ImageSurvey
from mirrord.syncers.image.upstream.layout import LayoutSource, build_offers, builds, single
from mirrord.syncers.image.upstream.registry import Question, RegistrySource, offers
from mirrord.transfer.fanout import together
from mirrord.wire.oci.archive import open_archive
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.layout import Layout

PATIENCE = 10.0  # seconds for one look at a target; a dead one must not hold up the others
LOOKS = 8  # at one target at once: the patience is for the target's answer, not for our own queue


@dataclass(frozen=True, slots=True)
class _Look:
    target: str
    held: Mapping[str, str]
    error: str = ""


async def survey(mirror: Mirror, services: Services, memory: Memory, now: datetime) -> ImageSurvey:
    """Find out what is offered and, where the record is not enough, what the targets hold.

    Raises:
        MirrordError: the source as a whole cannot be read.
    """
    problems: list[str] = []
    missing: list[str] = []
    memory = await asyncio.to_thread(_evident, mirror, services, memory)
    found, sources = await _source(mirror, services, memory, problems, missing)
    asked = {target.name: _asked(found, target.name, memory, now, mirror.trust) for target in mirror.targets}
    looks = await asyncio.gather(*(_held(target, asked[target.name], mirror, services) for target in mirror.targets))
    held = {(look.target, name): digest for look in looks for name, digest in look.held.items()}
    unasked = {look.target: look.error for look in looks if look.error}
    return ImageSurvey(tuple(found), sources, held, unasked, memory, tuple(problems), tuple(missing))


def _asked(found: list[Offer], target: str, memory: Memory, now: datetime, trust: float) -> frozenset[str]:
    """Return the names at a target that decide, where the record is not enough."""
    return frozenset(
        name
        for offer in found
        if not believed(offer, target, memory, now=now, trust=trust)
        for name in names_to_check(offer, target, memory)
    )


async def _source(
    mirror: Mirror, services: Services, memory: Memory, problems: list[str], missing: list[str]
) -> tuple[list[Offer], Mapping[str, ImageSource]]:
    spec = spec_of(mirror)
    source = spec.source
    if source.repository:
        reference = source_reference(mirror)
        repository = Repository(services.http, reference, services.http.book)
        names = [target.name for target in mirror.targets]
        found = await offers(repository, Question(reference, source, spec.immutable, names, memory))
        problems += found.problems
        missing += found.missing
        return [*found.offers], dict.fromkeys((one.item.name for one in found.offers), RegistrySource(repository))
    if source.layouts:
        pairs = await asyncio.to_thread(
            lambda folder: [*build_offers(builds(folder, missing), missing)], source.layouts
        )
        return [offer for offer, _ in pairs], {
            offer.item.name: LayoutSource(build.layout, build.descriptor) for offer, build in pairs
        }
    if source.archive:
        archive = await open_archive(source.archive, services.scratch, source.tag)
        offer = await asyncio.to_thread(single, archive.layout, archive.root, source)
        return [offer], {offer.item.name: LayoutSource(archive.layout, archive.root)}
    assert source.layout is not None
    layout = await asyncio.to_thread(Layout.open, source.layout, services.scratch)
    root = layout.resolve(source.tag)
    offer = await asyncio.to_thread(single, layout, root, source)
    return [offer], {offer.item.name: LayoutSource(layout, root)}


def _evident(mirror: Mirror, services: Services, memory: Memory) -> Memory:
    """Leave out what the record says of the local store and a look proves wrong: our own disk needs no belief."""
    remembered = {known.digest for (target, _), known in memory.items() if target == LOCAL}
    if services.links is None or services.blobs is None or not remembered:
        return memory
    linked = services.links.get(image_name(mirror)) or Linked()
    lost = {digest for digest in remembered if not whole(linked, services.blobs, digest)}
    kept = {key: known for key, known in memory.items() if key[0] != LOCAL or known.digest not in lost}
    return Memory(kept, memory.names)


def _local(names: Collection[str], mirror: Mirror, services: Services) -> Mapping[str, str]:
    """Look up names in the local store; what is linked and not whole is not there."""
    if services.links is None or services.blobs is None:
        raise StorageError("the local target needs a state directory")
    linked = services.links.get(image_name(mirror)) or Linked()
    known: Mapping[str, str] = {**{digest: digest for digest in linked.manifests}, **linked.tags}
    return {name: known[name] for name in names if name in known and whole(linked, services.blobs, known[name])}


async def _held(target: Target, names: Collection[str], mirror: Mirror, services: Services) -> _Look:
    """Ask one target for the names that decide; stop asking at the first failure.

    A name that a registry refuses to speak of counts as not there, as long as it speaks of others: Artifactory denies
    what it does not have (google/go-containerregistry#1691). Its answer to the upload decides.
    """
    if target.name == LOCAL:
        return _Look(target.name, await asyncio.to_thread(_local, names, mirror, services))
    repository = Repository(services.http, target_reference(mirror, target), services.http.book, push=True)
    held: dict[str, str] = {}
    answered: list[bool] = []
    slots = asyncio.Semaphore(LOOKS)

    async def look(name: str) -> None:
        try:
            async with slots, asyncio.timeout(PATIENCE):
                head = await repository.head_manifest(name)
        except RefusedError:
            answered.append(False)
            if not any(answered) and len(answered) in (LOOKS, len(names)):
                raise
            return
        answered.append(True)
        if head:
            held[name] = head.digest

    try:
        await together(*(look(name) for name in sorted(names)))
    except TimeoutError:
        return _Look(target.name, {}, f"no answer within {PATIENCE:.0f} s")
    except MirrordError as error:
        return _Look(target.name, {}, str(error))
    return _Look(target.name, held)
