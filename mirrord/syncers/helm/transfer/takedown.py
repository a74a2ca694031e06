"""Removes charts that were taken down: at targets by a run of their mirror, and in `local` at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mirrord.errors import MirrordError, StorageError
from mirrord.model.digest import Digest
from mirrord.model.memory import Memory
from mirrord.model.plan import Plan, Step
from mirrord.model.run import Outcome, Receipt
from mirrord.syncer.port import OnReceipt, Syncer
from mirrord.syncer.takedown import Moves, TakedownWish
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.helm.kept import RunNotes
from mirrord.syncers.helm.names import CHARTS, api_of, place_of, repository_of
from mirrord.syncers.helm.plan.restored import called
from mirrord.syncers.helm.plan.takedown import (
    TakenDownVersions,
    WrittenVersion,
    plan_takedown,
    written_versions,
)
from mirrord.syncers.helm.transfer.directory import DirectoryTarget
from mirrord.syncers.helm.transfer.inventory import Visit, open_target
from mirrord.syncers.helm.transfer.oci import repository_at
from mirrord.syncers.helm.transfer.takedown_survey import DeniedVersions, charts_of
from mirrord.syncers.helm.transfer.target import Reading, Removes
from mirrord.transfer.execute import failed, tell
from mirrord.transfer.fanout import deliberate
from mirrord.transfer.renamed import Move, RenamedLedger
from mirrord.transfer.takedown import RepositoryTakedown

_Versions = Mapping[str, WrittenVersion]
"""Versions at one target, by item."""

_Ends = tuple[Mapping[str, MirrordError | None], str]
"""By item why it is still there, and a remark."""


def removing(syncer: Syncer, reading: Reading, wish: TakedownWish) -> Syncer:
    """Return the kind, but its runs remove at targets what was taken down."""

    async def survey(mirror: Mirror, services: Services, _memory: Memory, _now: datetime) -> TakenDownVersions:
        return await DeniedVersions(mirror, services, wish, reading).look()

    @asynccontextmanager
    async def opened(mirror: Mirror, plan: Plan, services: Services) -> AsyncIterator[_Session]:
        yield await asyncio.to_thread(_Session, mirror, plan.decisions, services, reading)

    return replace(syncer, survey=survey, plan=plan_takedown, open=opened, measured=None, removes=True)


def concerned(wish: TakedownWish, mirror: Mirror, moves: Moves) -> bool:
    """Whether a mirror may have what was taken down at a target."""
    entry = wish.entry
    if entry.mirror == mirror.name or (entry.item and entry.digests and not moves):  # of that one no ledger tells
        return True
    return next(written_versions(mirror, moves, entry), None) is not None


async def digests_of(
    mirror: Mirror,
    item: str,
    services: Services,
    moves: Moves,
    ask: Callable[[Mirror, str, Services], Awaitable[Collection[Digest]]],
) -> Collection[Digest]:
    """Return the digests that the archive of a version had, as the ledger and `local` say, or what `ask` finds."""
    repositories = services.repositories
    state = await repositories.state(repository_of(mirror)) if repositories else None
    here = state.tags.get(f"{CHARTS}/{item}.tgz") if state else None

    def known() -> Collection[Digest]:
        found = (one for (_, name), move in moves.items() if called(name) == item for one in (move.after, move.before))
        return {Digest.parse(one) for one in found if one}

    found = {*await asyncio.to_thread(known), *([here] if here else ())}
    return found or await ask(mirror, item, services)


class _Session:
    """Implements `mirrord.syncer.port.Session`; nothing is read from the source."""

    read = 0

    def __init__(self, mirror: Mirror, survey: TakenDownVersions, services: Services, reading: Reading) -> None:
        self._mirror, self._survey, self._services, self._reading = mirror, survey, services, reading
        self._versions = {(one.target, one.item): one for one in survey.versions}
        self._noting = asyncio.Lock()

    async def execute(self, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
        """Remove versions at one target; in a registry those of one chart."""
        target = next(one for one in self._mirror.targets if one.name == batch[0].target)
        versions = {step.item: self._versions[step.target, step.item] for step in batch}
        how = {LOCAL: self._own, "directory": self._folder, "oci": self._registry, "chartmuseum": self._server}
        try:
            ends, remark = await how.get(api_of(self._mirror, target), self._gone)(target, versions)
            async with self._noting:  # what stays there is known by its manifest: its tag may be gone
                gone = [item for item in versions if not ends.get(item)]
                await RunNotes(self._mirror, self._services).forget(target, gone)
        except Exception as error:  # noqa: BLE001 - a bug that one target brings out is that target's failure
            ends, remark = dict.fromkeys(versions, deliberate(error)), ""
        said = f"{target.name}: {remark}" if remark else ""
        whys = ((step, ends.get(step.item)) for step in batch)
        done = (failed(step, why) if why else Receipt(step, Outcome.DONE, remark=said) for step, why in whys)
        await tell(done, on_receipt)

    async def _gone(self, target: Target, versions: _Versions) -> _Ends:
        """Write down what is not there any more: somebody removed it."""
        moves = {one.reference: (one.digest, None) for one in versions.values() if not one.gone}
        async with self._services.ledger.moving(target.name, moves):
            return {}, ""

    async def _server(self, target: Target, versions: _Versions) -> _Ends:
        """Let a server delete versions; what is gone there already is written down, too."""
        place = open_target(self._mirror, target, self._services, Visit(self._reading, 0.0))
        assert isinstance(place, Removes)
        ends: dict[str, MirrordError | None] = {}
        charts = await asyncio.to_thread(charts_of, [one for one in versions.values() if not one.gone])
        await place.remove(target.name, charts, self._services.ledger, ends.__setitem__)
        return ends, ""

    async def _own(self, target: Target, versions: _Versions) -> _Ends:
        """Write down what went from `local` at once."""
        repositories = self._services.repositories
        state = await repositories.state(repository_of(self._mirror)) if repositories else None
        shown = state.tags if state else {}
        there = await asyncio.to_thread(lambda: {one.item for one in charts_of(versions.values()) if one.path in shown})
        await self._gone(target, {item: one for item, one in versions.items() if item not in there})
        return dict.fromkeys(there, StorageError("it is still in local, and is not served all the same")), ""

    async def _folder(self, target: Target, versions: _Versions) -> _Ends:
        """Write the index without them, then remove their files."""
        place = DirectoryTarget(Path(place_of(self._mirror, target)), self._reading)
        moves = {one.reference: (one.digest or None, None) for one in versions.values()}
        async with self._services.ledger.moving(target.name, moves):
            await place.drop(self._mirror, lambda chart: chart.item in versions, versions)
        return {}, ""

    async def _registry(self, target: Target, versions: _Versions) -> _Ends:
        """Remove the tags of one chart, and their manifests."""
        known = self._survey.manifests
        gone = {item: one for item, one in versions.items() if (one.target, one.reference) not in known}
        await self._gone(target, gone)
        charts = await asyncio.to_thread(lambda: {c.tag: (c.item, c.name) for c in charts_of(versions.values())})
        tags = {tag: versions[item] for tag, (item, _) in charts.items()}

        def called(tag: str, move: Move) -> tuple[str, Move] | None:
            return (tags[tag].reference, (tags[tag].digest, move[1])) if tag in tags else None

        ledger = RenamedLedger(self._services.ledger, called)
        at, (_, chart) = place_of(self._mirror, target), next(iter(charts.values()))
        place = repository_at(self._services.http, at, chart, push=True)
        removal = RepositoryTakedown(target.name, place, ledger, shared=bool(self._survey.entry.whole))
        manifests = {tag: known[key] for tag, one in tags.items() if (key := (one.target, one.reference)) in known}
        due = {tag: manifest for tag, manifest in manifests.items() if not tags[tag].gone}
        ends = await removal.run(due, {*manifests.values()}) if manifests else {}
        found = {item: ends.get(tag) or ends.get(manifests.get(tag, "")) for tag, (item, _) in charts.items()}
        return found, removal.remark
