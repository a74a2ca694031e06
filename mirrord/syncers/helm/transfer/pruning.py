"""Finds out which chart versions at targets nobody wants any more: the survey of `mirrord prune`."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

from mirrord.errors import ContentError, MirrordError, MissingError
from mirrord.model.digest import Digest
from mirrord.model.memory import Memory
from mirrord.plan.prune import doomed, looked, loss, may_go
from mirrord.plan.restored import Restored
from mirrord.plan.semver import valid_version
from mirrord.plan.unwanted import Key, PruneSurvey, Unwanted
from mirrord.syncer.port import Syncer
from mirrord.syncer.restoring import FACTS as RESTORED
from mirrord.syncer.values import LOCAL, Mirror, PruneWish, Services, Target
from mirrord.syncers.helm.kept import RunNotes
from mirrord.syncers.helm.names import ChartVersion, api_of, place_of, places, spec_of
from mirrord.syncers.helm.plan.prune import HelmPruneSurvey, Upstream, passing, plan_prune, pruned, refused, wants
from mirrord.syncers.helm.plan.restored import called, parted, version_of
from mirrord.syncers.helm.plan.survey import HelmSurvey, TargetContent
from mirrord.syncers.helm.transfer.directory import DirectoryTarget
from mirrord.syncers.helm.transfer.inventory import Visit, look, open_target
from mirrord.syncers.helm.transfer.oci import repository_at
from mirrord.syncers.helm.transfer.target import Listing, Reading
from mirrord.transfer.fanout import Workers, deliberate, together
from mirrord.transfer.pruning import claims, note_unwanted, unwanted_since

LOOKS: Final = 8  # parallel requests at one target
SOURCE: Final = "the source"
"""Stands for the source among the names of targets; no target can have this name."""

ListUpstream = Callable[[Mirror, Services, datetime], Awaitable[Upstream]]
AtSource = Callable[[Mirror, Services, Collection[ChartVersion]], Awaitable[Collection[Digest]]]
"""Returns which archives the source has."""


def pruning(
    syncer: Syncer, wish: PruneWish, list_upstream: ListUpstream, at_source: AtSource, reading: Reading
) -> Syncer:
    """Return the kind with a survey and a plan that remove what is not wanted."""

    async def survey(mirror: Mirror, services: Services, memory: Memory, now: datetime) -> HelmPruneSurvey:
        upstream = await list_upstream(mirror, services, now)
        names = await _unwanted(wish, mirror, services, memory, upstream)
        names = await _listed(mirror, services, names, reading)
        source, _ = places(mirror)
        names = replace(names, since=await unwanted_since(mirror, services, source))
        lost = names.lost or await asyncio.to_thread(loss, names, spec_of(mirror).prune.max_loss)
        if lost:
            return HelmPruneSurvey(replace(names, lost=lost))
        await note_unwanted(mirror, services, source, await asyncio.to_thread(looked, names, now))
        items = await asyncio.to_thread(names.items)
        names = replace(names, claims=await claims(mirror, services, items))
        going = await asyncio.to_thread(lambda: list(may_go(names, now)))
        found = await _held(mirror, services, names, going, Visit(reading, now.timestamp()))
        return await _found(mirror, services, found, at_source, now)

    return replace(syncer, survey=survey, plan=plan_prune)


async def _unwanted(
    wish: PruneWish, mirror: Mirror, services: Services, memory: Memory, upstream: Upstream
) -> PruneSurvey:
    """Return what upstream and the ledger say; targets were not asked yet."""
    previous = await RunNotes(mirror, services).previous()
    upstream = replace(upstream, survey=replace(upstream.survey, previous=previous))
    moves = await services.ledger.newest()
    facts = await services.facts.recall(mirror.name, RESTORED) if services.facts else {}

    def found() -> PruneSurvey:
        ours = {key: entry for key, entry in moves.items() if key[0] != LOCAL}
        made = wants(mirror, upstream, {name for (_, name), entry in ours.items() if entry.after is not None})
        restored = Restored.read(facts)
        after, unread = spec_of(mirror).prune.after, upstream.survey.missing
        survey = PruneSurvey(wish, made, ours, memory, restored.to_stay, unread=unread, lost=refused(mirror, upstream))
        return replace(survey, after=after, words="versions", called=called)

    return await asyncio.to_thread(found)


async def _listed(mirror: Mirror, services: Services, survey: PruneSurvey, reading: Reading) -> PruneSurvey:
    """List the versions at each target of charts that the mirror has."""
    there: dict[Key, Collection[str]] = {}
    trouble: dict[Key, MirrordError] = {}

    async def ask(target: Target) -> None:
        try:
            api = api_of(mirror, target)
            list_there = _tags if api == "oci" else partial(_index, reading=reading)
            found = await list_there(mirror, target, services, survey.wants.keys())
        except Exception as error:  # noqa: BLE001 - a bug that one target brings out is that target's failure
            trouble[target.name, ""] = deliberate(error)
        else:
            there.update({(target.name, chart): versions for chart, versions in found.items()})

    await together(*map(ask, pruned(mirror)))
    return replace(survey, there=there, trouble=trouble)


async def _tags(
    mirror: Mirror, target: Target, services: Services, charts: Collection[str]
) -> Mapping[str, Collection[str]]:
    """List the repositories of charts: one request each, and more where there are many tags."""
    found: dict[str, Collection[str]] = {}

    async def of_chart(chart: str) -> None:
        repository = repository_at(services.http, place_of(mirror, target), chart)
        try:
            tags = [tag async for tag in repository.tags()]
        except MissingError:
            return
        found[chart] = await asyncio.to_thread(_versions, tags)

    await Workers(LOOKS).each(charts, of_chart)
    return found


def _versions(tags: Iterable[str]) -> Collection[str]:
    return [version for tag in tags if valid_version(version := tag.replace("_", "+"))]


async def _index(
    mirror: Mirror, target: Target, services: Services, charts: Collection[str], *, reading: Reading
) -> Mapping[str, Collection[str]]:
    """Read the index there, and in a folder list what it does not list.

    One that cannot be read says nothing, least of all that nothing is there.
    """
    seen: list[Listing | ContentError] = []

    def read(data: bytes) -> Listing:
        try:
            listing = reading(data)
        except ContentError as error:
            seen.append(error)
            raise
        seen.append(listing)
        return listing

    place = open_target(mirror, target, services, Visit(read, 0.0))
    await place.held(())

    def versions() -> Mapping[str, list[str]]:
        found = defaultdict[str, list[str]](list)
        for listing in seen:
            if isinstance(listing, ContentError):
                raise listing
            for chart in listing.charts.values():
                if chart.name in charts:
                    found[chart.name].append(chart.version)
        return found

    found = await asyncio.to_thread(versions)
    for item in await place.unlisted() if isinstance(place, DirectoryTarget) else ():
        for name, version in ((name, version) for name, version in parted(item) if name in charts):
            found[name].append(version)
    return found


async def _held(
    mirror: Mirror, services: Services, names: PruneSurvey, going: Sequence[Unwanted], visit: Visit
) -> HelmPruneSurvey:
    """Ask all targets what the versions are there that may be removed; nothing is trusted that an earlier run saw."""
    charts = await asyncio.to_thread(lambda: list({one.name: version_of(one.name) for one in going}.values()))
    visit, notes = replace(visit, wanted=charts), RunNotes(mirror, services)
    targets, unasked = await look(replace(mirror, trust=0.0), services, visit, notes, whole=False, puts=False)
    trouble = {**names.trouble, **{(name, ""): error for name, error in unasked.items() if name != LOCAL}}

    folders = {target.name for target in pruned(mirror) if api_of(mirror, target) == "directory"}

    def digests() -> Mapping[Key, Digest | None]:
        asked = [one for one in going if one.target in targets]
        return {one.key: _digest(targets[one.target], one.name, unlisted=one.target in folders) for one in asked}

    held = await asyncio.to_thread(digests)
    there = HelmSurvey(targets=targets, unasked=unasked, alone=True)
    return HelmPruneSurvey(replace(names, held=held, trouble=trouble), there)


def _digest(content: TargetContent, name: str, *, unlisted: bool = False) -> Digest | None:
    """Return what a target has under a name of the ledger; what an index of ours does not list counts if `unlisted`."""
    item = called(name)
    listed = unlisted or content.own is None or item in content.own
    return content.held.get(item) if listed else None


async def _found(
    mirror: Mirror, services: Services, survey: HelmPruneSurvey, at_source: AtSource, now: datetime
) -> HelmPruneSurvey:
    """Find out where the archives of doomed versions are besides: at targets under their name, and at the source."""

    def going() -> tuple[Mapping[tuple[str, Digest], tuple[str, Digest]], Sequence[ChartVersion]]:
        found = {(one.name, digest): (one.repository, digest) for one, digest in doomed(survey.names, now)}
        return found, [version_of(name, digest) for name, digest in found]

    wanted, charts = await asyncio.to_thread(going)
    source = await at_source(mirror, services, charts) if charts else ()
    lasting = {target.name for target in mirror.targets if not passing(mirror, target)}
    contents = {name: content for name, content in survey.there.targets.items() if name in lasting}

    def places_of(name: str, digest: Digest) -> Sequence[str]:
        at = [target for target, content in contents.items() if _digest(content, name) == digest]
        return [*at, SOURCE] if digest in source else at

    def places_of_all() -> Mapping[tuple[str, Digest], Sequence[str]]:
        return {key: places_of(name, digest) for (name, digest), key in wanted.items()}

    found = await asyncio.to_thread(places_of_all)
    there = {name: content for name, content in survey.there.targets.items() if name != LOCAL}
    return HelmPruneSurvey(replace(survey.names, found=found), replace(survey.there, targets=there))
