"""Surveys the source, and the targets whose record is not enough."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from mirrord.errors import MirrordError, RefusedError, TransportError, UnreachableError
from mirrord.files import storage_errors
from mirrord.model.digest import Digest
from mirrord.model.memory import NO_MEMORY, Memory
from mirrord.plan.differ import names_to_ask
from mirrord.plan.moving import Evidence, undated
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.image.kept import LocalRepository, open_target
from mirrord.syncers.image.names import OneImage, image_name, source_reference, spec_of
from mirrord.syncers.image.plan.steps import ImageSurvey, SourceListing, at_targets
from mirrord.syncers.image.upstream.layout import all_builds, open_image, single
from mirrord.syncers.image.upstream.registry import offers
from mirrord.transfer.fanout import Workers
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.created import created_at
from mirrord.wire.oci.layout_writer import LayoutWriter

if TYPE_CHECKING:
    from mirrord.plan.restored import Restored
    from mirrord.syncers.image.upstream.later import Later

PATIENCE = 10.0  # seconds for one answer of a place; a dead one must not delay the others
LOOKS = 8  # parallel requests at one place

_Place = Repository | LayoutWriter | LocalRepository


_Held = Mapping[str, str | None] | MirrordError  # digests of names at a target, or why it could not be asked


async def survey(
    mirror: Mirror,
    services: Services,
    memory: Memory,
    now: datetime,
    *,
    dead: dict[str, UnreachableError] | None = None,
    restored: Restored | None = None,
) -> ImageSurvey:
    """Read what is offered and, where the record is not enough, the state of the targets.

    Targets in `dead` are not asked, and those that cannot be reached are added: the surveys of many repositories share
    it. Then the run does not wait for such a target again, neither here nor with each image. They share what is
    `restored`, too, which is read here without it.

    Raises:
        MirrordError: the source as a whole cannot be read.
    """
    if restored is None and services.facts:
        from mirrord.plan.restored import Restored  # noqa: PLC0415 - a copy restores nothing
        from mirrord.syncer.restoring import FACTS  # noqa: PLC0415 - as above

        restored = await asyncio.to_thread(Restored.read, await services.facts.recall(mirror.name, FACTS))
    memory = await _evident({target.name: open_target(mirror, target, services) for target in mirror.targets}, memory)
    memory = await asyncio.to_thread(restored.believed, memory) if restored and restored.released else memory
    listing = await _listing(mirror, services, memory, now)
    if restored and restored.held:
        from mirrord.syncers.image.upstream.restored import with_restored  # noqa: PLC0415 - most mirrors have none

        listing = await asyncio.to_thread(with_restored, mirror, services, listing, restored, now)
    return await look_at_targets(mirror, services, memory, listing, now, dead=dead)


async def look_at_targets(
    mirror: Mirror,
    services: Services,
    memory: Memory,
    listing: SourceListing,
    now: datetime,
    *,
    dead: dict[str, UnreachableError] | None = None,
) -> ImageSurvey:
    """Read, where the record is not enough, what the targets have of what is offered; `dead` is as for `survey`."""
    places = {target.name: open_target(mirror, target, services) for target in mirror.targets}
    if isinstance(mirror.spec, OneImage):  # name the image as the user wrote it
        found = [replace(offer, item=replace(offer.item, name=mirror.spec.text)) for offer in listing.offers]
        listing = replace(listing, offers=found, sources=dict.fromkeys([mirror.spec.text], *listing.sources.values()))
    names = await asyncio.to_thread(_names, mirror, listing, memory, now)
    once = isinstance(mirror.spec, OneImage) or dead is not None  # a target that cannot be reached is not tried again
    dead = {} if dead is None else dead

    async def ask(target: str) -> _Held:
        answer = dead.get(target) or await _held(places[target], names[target]) if names[target] else {}
        if isinstance(answer, UnreachableError):
            dead.setdefault(target, answer)
        return answer

    answers = await asyncio.gather(*map(ask, places))
    held: dict[tuple[str, str], str | None] = {}
    unasked: dict[str, str] = {}
    unreachable: dict[str, MirrordError] = {}
    for target, answer in zip(places, answers, strict=True):
        if not isinstance(answer, MirrordError):
            held |= {(target, name): digest for name, digest in answer.items()}
            continue
        unasked[target] = str(answer)
        if isinstance(answer, UnreachableError) and once:
            unreachable[target] = answer
    # Creation times of unrecorded content under the names of a build.
    created: dict[str, datetime | None] = {}
    failed: dict[str, str] = {}
    asked = await asyncio.to_thread(undated, listing.offers, tuple(places), Evidence(now, memory, held))
    for name, digest in sorted(asked):
        try:
            if digest not in created:
                created[digest] = await created_at(places[name], Digest(digest))
        except TransportError as error:
            failed[name] = str(error)
    held = {key: digest for key, digest in held.items() if key[0] not in failed}
    trusted = await asyncio.to_thread(_without_targets, memory, unasked) if mirror.named else NO_MEMORY
    later = await _later(mirror, listing, places, Evidence(now, trusted, held), services)
    listing = replace(listing, remarks=(*listing.remarks, *later.remarks)) if later else listing
    lacking = later.lacking if later else {}
    not_kept = await _not_kept(mirror, services, now) if mirror.keep else {}
    return ImageSurvey(listing, held, created, {**unasked, **failed}, unreachable, memory, lacking, not_kept)


async def _not_kept(mirror: Mirror, services: Services, now: datetime) -> Mapping[str, tuple[Digest, str]]:
    """Return the names that `local` dropped and would not keep today either."""
    if services.repositories is None or all(target.name != LOCAL for target in mirror.targets) or mirror.publication:
        return {}
    from mirrord.plan.retention import not_kept  # noqa: PLC0415 - a copy keeps nothing

    state = await services.repositories.state(image_name(mirror))
    if state is None or not state.dropped:
        return {}
    gone = {name: (one.digest, one.tagged) for name, one in state.dropped.items()}
    assert mirror.keep
    return await asyncio.to_thread(not_kept, state.tags, state.tagged, gone, mirror.keep, now.timestamp())


async def _later(
    mirror: Mirror, listing: SourceListing, places: Mapping[str, _Place], evidence: Evidence, services: Services
) -> Later | None:
    """Look for signatures of what targets have, if any of them has what was asked for, or is believed to have it."""
    if not (spec_of(mirror).signatures.carried and (evidence.memory or any(evidence.held.values()))):
        return None
    from mirrord.syncers.image.upstream.later import look_for_later  # noqa: PLC0415 - a first copy needs none

    return await look_for_later(mirror, listing, places, evidence, services.facts)


def _names(mirror: Mirror, found: SourceListing, memory: Memory, now: datetime) -> Mapping[str, frozenset[str]]:
    """Return the names to ask each target for."""
    names: dict[str, frozenset[str]] = {}
    for some, targets in at_targets(mirror, found):
        names |= names_to_ask(some, targets, memory, now=now, trust=mirror.trust)
    for target, away in found.restored.asking(memory).items() if found.restored else ():
        names[target] |= frozenset(away)
    return names


async def _listing(mirror: Mirror, services: Services, memory: Memory, now: datetime) -> SourceListing:
    """Return what is offered: what the source has and has signed as the mirror requires, with its platforms."""
    listing = await (_allowed if services.denied else _found)(mirror, services, memory, now)
    lasting = spec_of(mirror).source.repository and not mirror.publication  # what is read again in a later run
    facts = services.facts if lasting else None
    if spec_of(mirror).signatures.require:
        from mirrord.syncers.image.upstream.verified import verified  # noqa: PLC0415 - most mirrors require nothing

        listing = await verified(mirror, listing, facts)
    if not spec_of(mirror).platforms:
        return listing
    from mirrord.syncers.image.upstream.subset import cut_down  # noqa: PLC0415 - most mirrors copy all platforms

    return await cut_down(mirror, listing, facts)


async def _allowed(mirror: Mirror, services: Services, memory: Memory, now: datetime) -> SourceListing:
    """Return what is there of a source and was not taken down; nobody asks a source of which all was."""
    from mirrord.syncers.image.plan.denied import taken_down, wholly_denied, without_denied  # noqa: PLC0415 - as above

    assert services.denied
    if (entry := wholly_denied(mirror, services.denied)) and not mirror.publication:
        return SourceListing((), {}, remarks=(*taken_down({entry.image: entry}),), denied=True)
    listing = await _found(mirror, services, memory, now)
    return await asyncio.to_thread(without_denied, mirror, listing, services.denied)


async def _found(mirror: Mirror, services: Services, memory: Memory, now: datetime) -> SourceListing:
    source = spec_of(mirror).source
    if source.repository:
        repository = Repository(services.http, source_reference(mirror))
        return await offers(repository, mirror, memory, services, now)
    with storage_errors(str(source.layouts or source.archive or source.layout)):
        if source.layouts:
            return await asyncio.to_thread(all_builds, source.layouts)
        layout, root = await open_image(source, services.scratch)
        return await asyncio.to_thread(single, layout, root, mirror)


async def _evident(places: Mapping[str, _Place], memory: Memory) -> Memory:
    """Drop records of local folders that a check disproves: the local disk can be checked directly."""
    own = {name: place for name, place in places.items() if not isinstance(place, Repository)}
    if not own:
        return memory
    known = await asyncio.to_thread(lambda: {(name, seen.digest) for (name, _), seen in memory.items() if name in own})
    lost = {(name, digest) for name, digest in known if not await own[name].has_manifest(Digest(digest))}
    return await asyncio.to_thread(_without, memory, lost) if lost else memory


def _without_targets(memory: Memory, targets: Collection[str]) -> Memory:
    known = {key: seen for key, seen in memory.items() if key[0] not in targets}
    return Memory(known, memory.names)


def _without(memory: Memory, lost: Collection[tuple[str, str]]) -> Memory:
    kept = {key: seen for key, seen in memory.items() if (key[0], seen.digest) not in lost}
    return Memory(kept, memory.names)


async def names_held(
    mirror: Mirror, target: Target, services: Services, names: Collection[str]
) -> Mapping[str, str | None]:
    """Return the digests of names at a target, as far as it reports them.

    Raises:
        UnreachableError: it cannot be asked.
    """
    answer = await _held(open_target(mirror, target, services), names)
    if isinstance(answer, MirrordError):
        raise UnreachableError(str(answer))
    return answer


async def _held(place: _Place, names: Collection[str]) -> _Held:
    """Ask one target for the deciding names; stop at the first failure.

    A denied name counts as missing, as long as the registry reports others: Artifactory denies missing names
    (google/go-containerregistry#1691). Its answer to the upload decides.
    """
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
        return error
    return held
