"""Finds out what a mirror does not want any more at its targets: the survey of `mirrord prune`."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from mirrord.errors import MirrordError, MissingError, UnreachableError, UnsupportedError
from mirrord.model.digest import Digest
from mirrord.model.memory import Memory
from mirrord.plan.prune import doomed, looked, loss, may_go, of_same_content
from mirrord.plan.restored import Restored
from mirrord.plan.unwanted import Key, PruneSurvey, Unwanted, Wants, divided
from mirrord.syncer.restoring import FACTS as RESTORED
from mirrord.syncer.values import LOCAL, Mirror, PruneWish, Services, Target
from mirrord.syncers.image.kept import open_target
from mirrord.syncers.image.names import Source, is_many, places, source_reference, spec_of
from mirrord.syncers.image.plan.many import derived
from mirrord.syncers.image.upstream.many import REPOSITORIES, wanted_parts
from mirrord.syncers.image.upstream.registry import select_tags
from mirrord.syncers.image.upstream.survey import LOOKS, PATIENCE
from mirrord.syncers.image.upstream.whereabouts import whereabouts
from mirrord.transfer.fanout import Workers
from mirrord.transfer.pruning import claims, note_unwanted, unwanted_since
from mirrord.wire.oci.client import Repository

_GONE: Final = "the mirror does not name this repository any more"


async def survey_prune(
    wish: PruneWish, mirror: Mirror, services: Services, memory: Memory, now: datetime
) -> PruneSurvey:
    """List the source and the targets, and ask for what may be removed: one HEAD there, and one at each other place.

    Raises:
        UnsupportedError: the source is no registry.
        MirrordError: the source as a whole cannot be read.
    """
    source = spec_of(mirror).source
    if source.layout or source.archive or source.layouts:
        what = "its source is no registry, so that nothing says which tags it has not any more"
        raise UnsupportedError(f"{mirror.name} cannot be pruned: {what}")
    moves = await services.ledger.newest()
    wants, unread = await _wants(mirror, services, moves, now)
    facts = await services.facts.recall(mirror.name, RESTORED) if services.facts else {}
    restored = await asyncio.to_thread(Restored.read, facts)
    survey = PruneSurvey(wish, wants, moves, memory, restored.to_stay, unread=unread, after=spec_of(mirror).prune.after)
    survey = await _listed(mirror, services, survey)
    origin, _ = places(mirror)
    survey = replace(survey, since=await unwanted_since(mirror, services, origin))
    lost = await asyncio.to_thread(loss, survey, spec_of(mirror).prune.max_loss)
    if lost:
        return replace(survey, lost=lost)
    await note_unwanted(mirror, services, origin, await asyncio.to_thread(looked, survey, now))
    survey = replace(survey, claims=await claims(mirror, services, await asyncio.to_thread(survey.items)))
    going = await asyncio.to_thread(lambda: list(may_go(survey, now)))
    same = await asyncio.to_thread(lambda: list(of_same_content(survey, going)))
    survey = await _held(services, survey, [*going, *same])
    return await _found(mirror, services, survey, now)


async def _wants(
    mirror: Mirror, services: Services, moves: Mapping[Key, object], now: datetime
) -> tuple[Mapping[str, Wants], Sequence[str]]:
    """Return what is wanted of each repository, and a sentence for each that cannot be read."""
    if not is_many(mirror):
        return {"": await _wanted(mirror, services, now)}, ()
    wanted = await wanted_parts(mirror, services)
    found: dict[str, Wants] = {}
    unread: list[str] = [wanted.lost] if wanted.lost else []
    names = defaultdict[str, set[str]](set)
    for part in wanted.parts:
        if part.reference.digest and part.reference.tag:
            names[part.reference.name].add(part.reference.tag)
    failed = set[str]()

    async def look(repository: str, part: Mirror) -> None:
        try:
            one = await _wanted(part, services, now)
        except MirrordError as error:
            unread.append(f"{repository}: its tags stay: {error}")
            failed.add(repository)
        else:
            found[repository] = replace(one, names=one.names | names[repository])

    parts = {part.reference.name: part.mirror for part in wanted.parts if not part.reference.digest}
    await Workers(REPOSITORIES).each(parts.items(), lambda one: look(*one))
    gone = {divided(name, many=True)[0] for _, name in moves} - found.keys() - failed
    if wanted.lost or wanted.problems:  # a repository that was left out for these may still be meant
        gone &= names.keys()
    for repository in gone:
        mine = derived(mirror, Source(repository=repository)).mirror
        found[repository] = Wants(mine, frozenset(names[repository]), otherwise=_GONE)
    return found, unread


async def _wanted(mirror: Mirror, services: Services, now: datetime) -> Wants:
    """List one repository. Raises as `select_tags`."""
    source, reference = spec_of(mirror).source, source_reference(mirror)
    repository = Repository(services.http, reference)
    selection = await select_tags(repository, replace(mirror, explain=True), services.facts, now)
    tags = [reference.tag if ":" in tag else tag for tag in selection.tags]
    names = frozenset(source.names or filter(None, tags))
    listed = None if selection.listed is None else frozenset(selection.listed)
    why = {one.tag: f"not mirrored any more: {one.why}" for one in selection.verdicts if not one.chosen}
    otherwise = "the source does not have it any more" if listed is not None else "the mirror does not name it any more"
    return Wants(mirror, names, listed, why, otherwise, empty=listed is not None and not listed)


def _targets(mirror: Mirror) -> Iterator[Target]:
    """Yield the targets that are pruned; what `local` keeps is decided by its own keys."""
    return (target for target in mirror.targets if target.name != LOCAL)


async def _listed(mirror: Mirror, services: Services, survey: PruneSurvey) -> PruneSurvey:
    """List the tags at each target; a target that cannot be reached is asked once."""
    there: dict[Key, Collection[str]] = {}
    trouble: dict[Key, MirrordError] = {}
    dead: dict[str, UnreachableError] = {}

    async def look(key: Key) -> None:
        name, repository = key
        part = survey.wants[repository].mirror
        target = next(one for one in part.targets if one.name == name)
        place = open_target(part, target, services)
        try:
            if name in dead:
                raise dead[name]
            there[key] = frozenset([tag async for tag in place.tags()]) if isinstance(place, Repository) else ()
        except MissingError:
            there[key] = ()
        except MirrordError as error:
            trouble[key] = error
            if isinstance(error, UnreachableError):
                dead[name] = error

    keys = [(target.name, repository) for target in _targets(mirror) for repository in survey.wants]
    await Workers(LOOKS).each(keys, look)
    local = {key: entry for key, entry in survey.moves.items() if key[0] != LOCAL}
    return replace(survey, moves=local, there=there, trouble=trouble)


async def _held(services: Services, survey: PruneSurvey, going: Sequence[Unwanted]) -> PruneSurvey:
    """Ask the targets what the names stand for that may be removed, and others that have their content."""
    held: dict[Key, Digest | None] = {}
    trouble = dict(survey.trouble)

    async def look(one: Unwanted) -> None:
        key = one.target, one.repository
        if key in trouble:
            return
        part = survey.wants[one.repository].mirror
        target = next(target for target in part.targets if target.name == one.target)
        try:
            head = await open_target(part, target, services).head_manifest(one.tag, PATIENCE)
        except MirrordError as error:
            trouble[key] = error
        else:
            held[one.key] = head.digest if head else None

    await Workers(LOOKS).each(going, look)
    return replace(survey, held=held, trouble=trouble)


async def _found(mirror: Mirror, services: Services, survey: PruneSurvey, now: datetime) -> PruneSurvey:
    """Ask where the content of doomed names can be read besides; `local` does not count where `keep` may drop it."""
    without = [LOCAL] if mirror.keep else []
    digests = defaultdict[str, set[Digest]](set)
    for one, digest in await asyncio.to_thread(lambda: list(doomed(survey, now))):
        digests[one.repository].add(digest)
    found: dict[tuple[str, Digest], Sequence[str]] = {}

    async def look(repository: str, those: Collection[Digest]) -> None:
        at = await whereabouts(survey.wants[repository].mirror, services, those, without=without)
        found.update({(repository, digest): names for digest, names in at.found.items()})

    await Workers(REPOSITORIES).each(digests.items(), lambda one: look(*one))
    return replace(survey, found=found)
