"""Assembles the Helm syncer from its rooms."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime

from mirrord.blobs.store import read_stored
from mirrord.errors import StorageError
from mirrord.model.digest import Digest
from mirrord.model.memory import Memory
from mirrord.model.plan import Action, Plan
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.helm import front
from mirrord.syncers.helm.kept import RunEnd, RunNotes
from mirrord.syncers.helm.names import ChartVersion, is_oci, places, repository_of, source_of, spec_of
from mirrord.syncers.helm.plan.choice import choose, concerns
from mirrord.syncers.helm.plan.steps import plan
from mirrord.syncers.helm.plan.survey import HelmSurvey
from mirrord.syncers.helm.spec import HelmSpec, HelmTarget
from mirrord.syncers.helm.transfer.inventory import Visit, look, note, open_target
from mirrord.syncers.helm.transfer.local import LocalTarget
from mirrord.syncers.helm.transfer.session import HelmSession, SessionContext
from mirrord.syncers.helm.transfer.target import ChartTarget, Listing
from mirrord.syncers.helm.upstream.fetch import ChartSource
from mirrord.syncers.helm.upstream.poll import extras, poll
from mirrord.syncers.helm.upstream.reading import Index, read_index
from mirrord.syncers.helm.upstream.registry import poll_registry
from mirrord.transfer.fanout import Workers


async def _survey(mirror: Mirror, services: Services, _: Memory, now: datetime) -> HelmSurvey:
    """Ask upstream for its index; unless that is as it was when all was done, see what the targets hold.

    A chart's own digest says more than a record of it.
    """
    kept = await RunNotes.read(mirror, services)
    spec, url = spec_of(mirror), source_of(mirror)
    asked = kept.facts if await kept.fresh(now) else {}
    if is_oci(url):
        polled = await poll_registry(services.http, url, spec, asked, now)
    else:
        polled = await poll(services.http, url, asked)
    if polled.index is None:
        versions = kept.facts.get("versions", "all")
        said = f"upstream is as it was at {kept.facts['at']}: {versions} versions, and nothing left to do"
        problems, remarks = await kept.told()
        return HelmSurvey(
            unchanged=said, facts=polled.facts, problems=problems, remarks=remarks, troubles=kept.troubles
        )
    survey = await _compared(mirror, services, polled.index, now)
    form = _form(kept.setup, survey)
    return replace(
        survey,
        troubles=kept.troubles,
        previous=await kept.previous(),
        rewrite=await kept.outdated(survey, form),
        facts={**polled.facts, "setup": kept.setup, "form": form, "at": now.isoformat(timespec="seconds")},
    )


async def _measured(mirror: Mirror, plan: Plan, services: Services) -> Plan:
    """Ask the source how long the archives are that would be copied, a thousand of them at most."""
    source = ChartSource(services.http, source_of(mirror), pass_credentials=spec_of(mirror).pass_credentials)
    copied = {step.item for step in plan.steps if step.action is Action.COPY}
    charts = {entry.item: entry for entry in plan.decisions.entries if entry.item in copied}
    asked = list(charts.values())[:MEASURED]
    sizes: dict[str, int | None] = {}

    async def size(chart: ChartVersion) -> None:
        sizes[chart.item] = await source.size(chart)

    await Workers(AT_ONCE).each(asked, size)
    steps = [replace(step, size=sizes.get(step.item)) if step.active else step for step in plan.steps]
    return replace(plan, steps=tuple(steps))


@contextlib.asynccontextmanager
async def _open(mirror: Mirror, plan: Plan, services: Services) -> AsyncIterator[HelmSession]:
    """Begin a run; when all of it was done, note by what the next one will know that nothing changed."""
    survey: HelmSurvey = plan.decisions
    spec, at = spec_of(mirror), datetime.fromisoformat(survey.facts["at"])
    choices = {} if survey.unchanged else await asyncio.to_thread(choose, survey.entries, spec, at)
    visit = Visit(_listing, at.timestamp(), [choice.chart for choice in choices.values()], survey.entries)
    visits = {name: replace(visit, facts=dict(shelf.facts)) for name, shelf in survey.shelves.items()}
    targets = {
        target.name: open_target(mirror, target, services, visits[target.name])
        for target in mirror.targets
        if target.name in visits
    }
    errand = SessionContext(mirror.name, spec.index == "json", survey, choices, targets, at)
    source = ChartSource(
        services.http,
        source_of(mirror),
        pass_credentials=spec.pass_credentials,
        on_bytes=lambda count: session.count(count),  # noqa: PLW0108 - the session comes after its source
    )
    session = HelmSession(errand, source, services)
    await _note_facts(mirror, services, visits)  # what a look has cost is not paid again, however this ends
    try:
        yield session
    finally:
        with contextlib.suppress(StorageError):  # it costs requests later, and hides nothing worse
            await _leave(mirror, services, visits, targets)
    kept = await RunNotes.read(mirror, services)
    if survey.unchanged:
        await kept.note_unchanged(survey.facts)
    else:
        await kept.note(survey, RunEnd(at, session.whole, session.finished, session.troubles))


def _listing(data: bytes) -> Listing:
    index = read_index(data)
    return Listing({chart.item: chart for chart in index.entries}, index.context)


async def _leave(
    mirror: Mirror, services: Services, visits: Mapping[str, Visit], targets: Mapping[str, ChartTarget]
) -> None:
    """Keep for the next run what this one learned, and what it put and did not show."""
    await _note_facts(mirror, services, visits)
    for target in targets.values():
        if isinstance(target, LocalTarget):
            await target.save()


async def _note_facts(mirror: Mirror, services: Services, visits: Mapping[str, Visit]) -> None:
    for target in mirror.targets:
        if target.name in visits:
            await note(mirror, target, services, visits[target.name].facts)


async def _compared(mirror: Mirror, services: Services, index: Index, now: datetime) -> HelmSurvey:
    choices = await asyncio.to_thread(choose, index.entries, spec_of(mirror), now)
    visit = Visit(_listing, now.timestamp(), [choice.chart for choice in choices.values()], index.entries)
    (shelves, unasked), (files, told) = await asyncio.gather(
        look(mirror, services, visit),
        _extras(mirror, services, index),
    )
    hidden = (*index.left_out, *index.unread)
    spec = spec_of(mirror)
    wrong = [problem for problem in index.problems if concerns(problem.chart, problem.version, spec)]
    return HelmSurvey(
        index.entries,
        shelves,
        unasked,
        problems=(*(str(problem) for problem in wrong if problem.left_out), *told),
        remarks=tuple(str(problem) for problem in wrong if not problem.left_out),
        missing=tuple(str(problem) for problem in index.unread if concerns(problem.chart, problem.version, spec)),
        unread=frozenset(item for problem in hidden for item in problem.items),
        unknown=_unknown(index),
        extras=files,
        public_keys=index.public_keys,
        annotations=dict(index.annotations),
    )


def _unknown(index: Index) -> tuple[str, ...]:
    """Return how the items begin of the charts whose versions nobody knows; of all charts when too much is odd."""
    charts = [one.chart for one in (*index.left_out, *index.unread) if one.chart and not one.version]
    return ("",) if index.more else tuple(f"{chart}-" for chart in charts)


async def _extras(mirror: Mirror, services: Services, index: Index) -> tuple[Mapping[str, bytes], list[str]]:
    """Return the files beside the index, and a sentence for each that is the one of before, since it cannot be had."""
    url = source_of(mirror)
    if is_oci(url):
        return {}, []
    found = await extras(services.http, url, index)
    files, told = dict(found.files), []
    for name, error in found.unknown.items():
        digest = await services.repositories.tag(repository_of(mirror), name) if services.repositories else None
        stored = await services.blobs.find(digest) if services.blobs and digest else None
        if stored is not None:
            files[name] = await read_stored(stored, stored.size)
            told.append(f"{name}: cannot be had now, the one of before stays: {error}")
    return files, told


def _form(setup: str, survey: HelmSurvey) -> str:
    """Return a fingerprint of all that an index of ours shows besides its entries."""
    beside = {name: Digest.of(data) for name, data in survey.extras.items()}
    shown = (setup, sorted(beside.items()), survey.public_keys, sorted(survey.annotations.items()))
    return hashlib.sha256(repr(shown).encode()).hexdigest()


MEASURED = 1000
AT_ONCE = 16


SYNCER = Syncer("helm", HelmSpec, HelmTarget, places, _survey, plan, _open, measured=_measured, front=front)
