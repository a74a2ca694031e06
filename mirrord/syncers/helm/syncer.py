"""Assembles the Helm syncer from its rooms."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mirrord.blobs.repositories import RepositoryState
from mirrord.errors import MirrordError, StorageError
from mirrord.model.digest import Digest
from mirrord.model.memory import Memory
from mirrord.model.plan import Action, Plan
from mirrord.syncer.port import Syncer, Verifies
from mirrord.syncer.takedown import TakesDown
from mirrord.syncer.values import LOCAL, Mirror, PruneWish, Services, Target
from mirrord.syncers.helm import front
from mirrord.syncers.helm.kept import RunNotes
from mirrord.syncers.helm.names import (
    ChartVersion,
    address,
    api_of,
    hosts,
    item_of,
    places,
    repository_of,
    source_of,
    spec_of,
)
from mirrord.syncers.helm.plan.choice import choose
from mirrord.syncers.helm.plan.claimed import claimed
from mirrord.syncers.helm.plan.restored import with_restored
from mirrord.syncers.helm.plan.steps import plan
from mirrord.syncers.helm.plan.survey import HelmSurvey
from mirrord.syncers.helm.plan.takedown import wanted_still, with_denied, without_denied
from mirrord.syncers.helm.plan.uses import link, uses
from mirrord.syncers.helm.spec import HelmSpec, HelmTarget
from mirrord.syncers.helm.transfer.inventory import Visit, look, open_target, versions_held
from mirrord.syncers.helm.transfer.local import LocalTarget
from mirrord.syncers.helm.transfer.published import PublishedIndexes
from mirrord.syncers.helm.transfer.restoring import resetting, restored_wanted
from mirrord.syncers.helm.transfer.session import HelmSession
from mirrord.syncers.helm.transfer.target import ChartTarget, Listing
from mirrord.syncers.helm.upstream.archive import read_metadata
from mirrord.syncers.helm.upstream.fetch import ChartSource
from mirrord.syncers.helm.upstream.kept_archives import KeptArchives, archives, at_source
from mirrord.syncers.helm.upstream.listed import ask, list_upstream
from mirrord.syncers.helm.upstream.poll import extras_of, with_troubles
from mirrord.syncers.helm.upstream.reading import Index, read_index
from mirrord.transfer.fanout import Workers

if TYPE_CHECKING:
    from mirrord.model.verification import VerifyFinding
    from mirrord.syncer.inspection import Inspection
    from mirrord.syncer.keeping import ListedNames
    from mirrord.syncer.restoring import Resetting


async def _survey(mirror: Mirror, services: Services, _: Memory, now: datetime) -> HelmSurvey:
    """Ask upstream for its index; unless that is as it was when all was done, see what the targets hold.

    A chart's own digest says more than a record of it.
    """
    notes = RunNotes(mirror, services)
    await notes.read()
    known = notes.facts if await notes.fresh(now) else {}
    polled = await ask(mirror, services, known, now)
    if polled.index is None:
        versions = notes.facts.get("versions", "all")
        unchanged = f"upstream is as it was at {notes.facts['at']}: {versions} versions, and nothing left to do"
        problems, remarks = await notes.sentences()
        found = HelmSurvey(unchanged=unchanged, facts=polled.facts, troubles=notes.troubles)
        return replace(found, problems=problems, remarks=remarks)
    survey = await _compared(mirror, services, polled.index, now, notes)
    beside = {name: Digest.of(data) for name, data in survey.extras.items()}
    shown = (notes.shape, sorted(beside.items()), survey.public_keys, sorted(survey.annotations.items()))
    form = hashlib.sha256(repr(shown).encode()).hexdigest()  # of all that an index of ours shows besides its entries
    return replace(
        survey,
        troubles=notes.troubles,
        previous=await notes.previous(),
        rewrite=await notes.outdated(survey.targets, form),
        facts={
            **polled.facts,
            "setup": notes.setup,
            "form": form,
            "restored": notes.restored_as,
            "at": now.isoformat(timespec="seconds"),
        },
    )


async def _measured(mirror: Mirror, plan: Plan, services: Services) -> Plan:
    """Ask the source for the size of each archive that would be copied."""
    source = ChartSource(services.http, source_of(mirror), pass_credentials=spec_of(mirror).pass_credentials)
    sizes: dict[str, int | None] = {}

    async def size(chart: ChartVersion) -> None:
        sizes[chart.item] = await source.size(chart)

    await Workers(AT_ONCE).each(await asyncio.to_thread(_copied, plan), size)
    return await asyncio.to_thread(_sized, plan, sizes)


def _copied(plan: Plan) -> list[ChartVersion]:
    copied = {step.item for step in plan.steps if step.action is Action.COPY}
    charts = {entry.item: entry for entry in plan.decisions.survey.entries if entry.item in copied}
    return list(charts.values())


def _sized(plan: Plan, sizes: Mapping[str, int | None]) -> Plan:
    steps = [replace(step, size=sizes.get(step.item)) if step.active else step for step in plan.steps]
    return replace(plan, steps=tuple(steps))


@contextlib.asynccontextmanager
async def _open(mirror: Mirror, plan: Plan, services: Services) -> AsyncIterator[HelmSession]:
    """Begin a run; when all of it was done, note by what the next one will know that nothing changed."""
    survey: HelmSurvey = plan.decisions.survey
    notes = RunNotes(mirror, services)
    await notes.read()
    own = [choice.chart for choice in survey.choices.values()]
    wanted = await asyncio.to_thread(restored_wanted, own, notes.restored)
    opened: list[tuple[Target, ChartTarget, Visit]] = []
    ours = PublishedIndexes(mirror, services, _listing, wanted)
    if any(api_of(mirror, target) == "directory" for target in mirror.targets if target.name in survey.targets):
        await ours.load()  # it looks at its index once more
    for target in mirror.targets:
        if target.name in survey.targets:
            facts = dict(survey.targets[target.name].facts)
            visit = Visit(ours.listing, plan.at.timestamp(), wanted, survey.entries, facts)
            opened.append((target, open_target(mirror, target, services, visit), visit))

    def came(count: int) -> None:
        session.read += count

    credentials = spec_of(mirror).pass_credentials
    source = ChartSource(services.http, source_of(mirror), pass_credentials=credentials, on_bytes=came)
    archive = archives(source, KeptArchives(mirror, services))
    session = HelmSession(mirror, plan, {one.name: place for one, place, _ in opened}, archive, services)

    async def note() -> None:
        for target, _, visit in opened:
            await notes.note_target(target, visit.facts)

    await note()  # what a look has cost is not paid again, however this ends
    try:
        yield session
    finally:
        for _, place, _ in opened:
            if isinstance(place, LocalTarget):
                with contextlib.suppress(StorageError):  # it costs requests later, and hides nothing worse
                    await place.close()
        with contextlib.suppress(StorageError):  # as above
            await note()
    with contextlib.suppress(StorageError):  # then the next run reads the index itself
        await ours.keep({name: index for name, index in session.finished.items() if index.data})
    if not survey.alone:
        await notes.note(plan, session.finished, session.troubles, whole=session.whole)


def _listing(data: bytes) -> Listing:
    index = read_index(data)
    charts = {chart.item: chart for chart in index.entries}
    return Listing(charts, index.context, index.public_keys, dict(index.annotations))


async def _compared(mirror: Mirror, services: Services, index: Index, now: datetime, notes: RunNotes) -> HelmSurvey:
    spec = spec_of(mirror)
    choices = await asyncio.to_thread(choose, index.entries, spec, now)
    choices, said = await asyncio.to_thread(wanted_still, mirror, choices, services.denied)
    wanted = [choice.chart for choice in choices.values()]
    ours = PublishedIndexes(mirror, services, _listing, wanted)
    await ours.load()
    asked = await asyncio.to_thread(restored_wanted, wanted, notes.restored)
    visit = Visit(ours.listing, now.timestamp(), asked, index.entries)
    (targets, unasked), (files, stale) = await asyncio.gather(
        look(mirror, services, visit, notes),
        extras_of(mirror, services, index),
    )
    compared = HelmSurvey(index.entries, choices, targets, unasked, problems=stale, extras=files)
    compared = await asyncio.to_thread(with_troubles, compared, index, spec)
    compared = await asyncio.to_thread(with_denied, mirror, compared, services.denied, said)
    restored = without_denied(mirror, notes.restored, services.denied)
    return await asyncio.to_thread(with_restored, compared, restored, mirror)


def _takes_down() -> TakesDown:
    """Return how charts are taken down; see `Syncer.takes_down`."""
    from mirrord.syncers.helm.transfer import purge, takedown  # noqa: PLC0415 - only a takedown needs them
    from mirrord.syncers.helm.upstream.listed import digests_listed  # noqa: PLC0415 - only a takedown asks upstream for one version

    return TakesDown(
        partial(purge.purge_local, reading=_listing, read_item=_read_item),
        concerned=takedown.concerned,
        removing=partial(takedown.removing, SYNCER, _listing),
        item=partial(takedown.digests_of, ask=digests_listed),
    )


def _read_item(archive: Path) -> str:
    """Return what an archive says that it is; "" where it cannot be read. Blocks."""
    try:
        metadata = read_metadata(archive, archive.name)
    except MirrordError:
        return ""
    return f"{metadata.get('name')}-{metadata.get('version')}"


AT_ONCE = 16


def _kept(mirror: Mirror, _: Iterable[str]) -> Mapping[str, Callable[[str], str]]:
    """Return the repository in `local`; see `Syncer.kept`."""
    return {repository_of(mirror): item_of}


async def _listed(mirror: Mirror, services: Services, state: RepositoryState) -> ListedNames | None:
    """Return the versions in `local`; see `Syncer.listed`."""
    from mirrord.syncers.helm.transfer.keeping import listed  # noqa: PLC0415 - only a collection needs it

    return await listed(mirror, services, state, reading=_listing)


async def _look(mirror: Mirror, services: Services, inspection: Inspection) -> None:
    """Compare the targets with the record; see `Verifies.look`."""
    from mirrord.syncers.helm.transfer.compared import look  # noqa: PLC0415 - only a verification needs it

    await look(mirror, services, inspection, reading=_listing)


def _repairing(syncer: Syncer, findings: Sequence[VerifyFinding]) -> Syncer:
    """Return the syncer for a run that repairs: what differs counts as not there; see `Verifies.repairing`."""
    wrong = {(one.target, one.item) for one in findings}
    damaged = {one.digest for one in findings if one.target == LOCAL and one.code == "bytes"}

    async def survey_again(mirror: Mirror, services: Services, memory: Memory, now: datetime) -> HelmSurvey:
        for digest in damaged:
            if services.blobs:
                await services.blobs.remove(Digest.parse(digest))
        found: HelmSurvey = await syncer.survey(mirror, services, memory, now)
        return found

    def plan_again(mirror: Mirror, found: HelmSurvey, now: datetime) -> Plan:
        targets = {
            name: replace(there, held={item: one for item, one in there.held.items() if (name, item) not in wrong})
            for name, there in found.targets.items()
        }
        made = syncer.plan(mirror, replace(found, targets=targets), now)
        return replace(made, decisions=replace(made.decisions, survey=found))  # what is replaced is there

    return replace(syncer, survey=survey_again, plan=plan_again)


def _resets() -> Resetting:
    """Return how versions are set back; see `Syncer.resets`."""
    return resetting(SYNCER, KeptArchives, _listing)


def _pruning(wish: PruneWish) -> Syncer:
    """Return what removes versions at targets; see `Syncer.pruning`."""
    from mirrord.syncers.helm.transfer.pruning import pruning  # noqa: PLC0415 - only a prune needs it

    return pruning(SYNCER, wish, list_upstream, at_source, _listing)


SYNCER = Syncer(
    "helm",
    lambda: (HelmSpec, HelmTarget),
    places,
    _survey,
    plan,
    _open,
    measured=_measured,
    takes_down=_takes_down,
    resets=_resets,
    pruning=_pruning,
    claims=claimed,
    sample={"from": "https://charts.example"},
    hosts=hosts,
    front=front,
    address=address,
    held=partial(versions_held, reading=_listing),
    verifies=Verifies(_look, _repairing),
    uses=uses,
    link=link,
    kept=_kept,
    listed=_listed,
    example="CHART-1.2.3",
)
