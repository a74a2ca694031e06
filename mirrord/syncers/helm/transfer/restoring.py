"""How chart versions are set back: from wherever their archives still are, and the source is not needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from mirrord.errors import MirrordError, MissingError, TakenDownError
from mirrord.model.digest import Digest
from mirrord.model.memory import Memory
from mirrord.model.plan import Action, Step
from mirrord.names.denied import Denied
from mirrord.plan.restored import AWAY, NOTHING, Restored, hold
from mirrord.syncer.port import Syncer
from mirrord.syncer.restoring import Resetting, RestoreWish
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.helm.kept import RunNotes
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.plan.restored import called, version_of, with_restored
from mirrord.syncers.helm.plan.steps import plan_restored
from mirrord.syncers.helm.plan.survey import HelmSurvey
from mirrord.syncers.helm.plan.takedown import without_denied
from mirrord.syncers.helm.transfer.inventory import Visit, look
from mirrord.syncers.helm.transfer.target import Reading
from mirrord.transfer.restoring import holding


class Archives(Protocol):
    """Archives by digest, wherever they still are."""

    async def where(
        self, charts: Collection[ChartVersion]
    ) -> tuple[Mapping[Digest, Sequence[str]], Mapping[Digest, Mapping[str, MirrordError]]]:
        """Return by digest the places that have it, and why others could not say."""

    def nowhere(self, digest: str, errors: Mapping[str, MirrordError]) -> str:
        """Say that no place has it."""


def resetting(syncer: Syncer, archives: Callable[[Mirror, Services], Archives], reading: Reading) -> Resetting:
    """Return how the versions of a chart mirror are set back."""

    def variant(wish: RestoreWish) -> Syncer:
        async def survey(mirror: Mirror, services: Services, _: Memory, now: datetime) -> HelmSurvey:
            known = archives(mirror, services)
            return await _survey(mirror, services, now, wish, archives=known, reading=reading)

        return replace(syncer, survey=survey, plan=plan_restored, open=holding(syncer.open, wish, hold, called))

    async def where(mirror: Mirror, services: Services, names: Mapping[str, Collection[str]]) -> Mapping[str, str]:
        charts = await asyncio.to_thread(
            lambda: [version_of(name, digest) for name, digests in names.items() for digest in digests]
        )
        found, unknown = await archives(mirror, services).where(charts)

        def said() -> Mapping[str, str]:
            there = {str(digest): ", ".join(at) or _unsure(unknown[digest]) for digest, at in found.items()}
            return {**there, **_taken_down(mirror, services.denied, charts)}

        return await asyncio.to_thread(said)

    return Resetting(variant, where, called)


async def _survey(
    mirror: Mirror, services: Services, now: datetime, wish: RestoreWish, *, archives: Archives, reading: Reading
) -> HelmSurvey:
    """Find out where archives are, and what the targets have. What is nowhere is refused."""

    def meant() -> tuple[Restored, Restored, Mapping[tuple[str, str], ChartVersion], Sequence[ChartVersion]]:
        held = NOTHING.holding(wish.names, now)
        restored = without_denied(mirror, held, services.denied)
        charts = {key: version_of(key[1], digest) for key, digest in restored.to_stay.items()}
        return held, restored, charts, list({name: version_of(name) for _, name in wish.names}.values())

    held, restored, charts, asked = await asyncio.to_thread(meant)
    there, unknown = await archives.where(list(charts.values()))

    def left() -> tuple[Mapping[str, str], Sequence[Step], Restored]:
        where = {str(digest): f"restored from {_listed(at)}" for digest, at in there.items() if at}
        refused = [
            _denied_step(mirror, target, version_of(name, digest), services.denied)
            for (target, name), digest in held.to_stay.items()
            if (target, name) not in charts
        ]
        for (target, _), chart in charts.items():
            if str(chart.digest) not in where:
                why = archives.nowhere(str(chart.digest), unknown[chart.digest] if chart.digest else {})
                of_item = chart.item, str(chart.digest), target, (chart.file,), why
                refused.append(Step(Action.REFUSE, *of_item, code=MissingError.code))
        return where, refused, restored.changed(lambda _, one: one if one.startswith(AWAY) or one in where else "")

    where, refused, stays = await asyncio.to_thread(left)
    visit = Visit(reading, now.timestamp(), asked)
    targets, unasked = await look(mirror, services, visit, RunNotes(mirror, services), whole=False)
    found = HelmSurvey(targets=targets, unasked=unasked, where=where, refused=tuple(refused), alone=True)
    return await asyncio.to_thread(with_restored, found, stays, mirror)


def restored_wanted(wanted: Sequence[ChartVersion], restored: Restored) -> Sequence[ChartVersion]:
    """Return what targets are asked for: what is wanted, and besides it what is restored or taken away."""
    if not restored.held:
        return wanted
    have = {chart.item for chart in wanted}
    return [*wanted, *(version_of(name) for name in restored.names if called(name) not in have)]


def _taken_down(mirror: Mirror, denied: Denied | None, charts: Sequence[ChartVersion]) -> Mapping[str, str]:
    """Say of archives that they were taken down, under each name that they had."""
    entries = (
        [(str(chart.digest), denied.item(mirror.name, chart.item, str(chart.digest))) for chart in charts]
        if denied
        else []
    )
    allowed = {digest for digest, entry in entries if entry is None}
    return {digest: f"taken down: {entry.reason}" for digest, entry in entries if entry and digest not in allowed}


def _denied_step(mirror: Mirror, target: str, chart: ChartVersion, denied: Denied | None) -> Step:
    entry = denied.item(mirror.name, chart.item, str(chart.digest)) if denied else None
    why = f"it was taken down, and is not restored: {entry.reason if entry else ''}"
    return Step(Action.REFUSE, chart.item, str(chart.digest), target, (chart.file,), why, code=TakenDownError.code)


def _unsure(unknown: Collection[str]) -> str:
    return f"not found; {', '.join(unknown)} could not be asked" if unknown else "nowhere"


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
