"""Removes charts that were taken down: at targets by a run of their mirror, and in `local` at once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from mirrord.errors import MirrordError, MissingError, StorageError
from mirrord.model.digest import Digest
from mirrord.model.memory import Memory
from mirrord.model.plan import Plan, Step
from mirrord.model.run import Outcome, Receipt
from mirrord.names.denied import Denied, DeniedEntry
from mirrord.plan.guards import some
from mirrord.syncer.port import OnReceipt, Syncer
from mirrord.syncer.takedown import Moves
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.helm.kept import RunNotes
from mirrord.syncers.helm.names import CHARTS, OCI, ChartVersion, api_of, below, place_of, repository_of
from mirrord.syncers.helm.plan.restored import called, reference_of, version_of
from mirrord.syncers.helm.plan.takedown import (
    LeftVersion,
    TakenDownVersions,
    WrittenVersion,
    plan_takedown,
    written_versions,
)
from mirrord.syncers.helm.transfer.compared import chart_of
from mirrord.syncers.helm.transfer.directory import DirectoryTarget
from mirrord.syncers.helm.transfer.inventory import Visit, open_target
from mirrord.syncers.helm.transfer.oci import TagSeen, archive_of
from mirrord.syncers.helm.transfer.target import Reading, Removes
from mirrord.transfer.execute import failed
from mirrord.transfer.fanout import Workers, deliberate, together
from mirrord.transfer.renamed import Move, RenamedLedger
from mirrord.transfer.takedown import RepositoryTakedown
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.reference import Reference

AT_ONCE: Final = 8
_BY_HAND: Final = "it is there, and the ledger does not say that mirrord wrote it; remove it by hand"
_NO_LEDGER: Final = "the ledger does not say what mirrord wrote there; remove by hand what is there"
_SERVER: Final = "mirrord deletes nothing at this server; remove it there by hand"


_Ends = tuple[Mapping[str, MirrordError | None], str]
"""By item why it is still there, and a remark."""


def removing(syncer: Syncer, reading: Reading, entry: DeniedEntry) -> Syncer:
    """Return the kind, but its runs remove at targets what an entry denies."""

    async def survey(mirror: Mirror, services: Services, _memory: Memory, _now: datetime) -> TakenDownVersions:
        return await _Survey(mirror, services, entry, reading).look()

    @asynccontextmanager
    async def opened(mirror: Mirror, plan: Plan, services: Services) -> AsyncIterator[_Session]:
        yield _Session(mirror, plan.decisions, services, reading)

    return replace(syncer, survey=survey, plan=plan_takedown, open=opened, measured=None, removes=True)


def concerned(entry: DeniedEntry, mirror: Mirror, moves: Moves) -> bool:
    """Whether a mirror may have what was taken down at a target."""
    return entry.mirror == mirror.name or next(written_versions(mirror, moves, entry), None) is not None


async def digests_of(mirror: Mirror, item: str, services: Services, moves: Moves) -> Collection[Digest]:
    """Return the digests that the archive of a version had, as the ledger and `local` say."""
    repositories = services.repositories
    state = await repositories.state(repository_of(mirror)) if repositories else None
    here = state.tags.get(f"{CHARTS}/{item}.tgz") if state else None
    found = (one for (_, name), move in moves.items() if called(name) == item for one in (move.after, move.before))
    return {*(Digest.parse(one) for one in found if one), *([here] if here else ())}


class _Survey:
    """Looks what targets have of one thing."""

    def __init__(self, mirror: Mirror, services: Services, entry: DeniedEntry, reading: Reading) -> None:
        self._mirror, self._services, self._entry, self._reading = mirror, services, entry, reading
        self._denied = Denied([entry])
        self._versions: list[WrittenVersion] = []
        self._left: list[LeftVersion] = []
        self._manifests: dict[tuple[str, str], Digest] = {}

    async def look(self) -> TakenDownVersions:
        """Look at all targets; one that cannot be asked is left."""
        moves = await self._services.ledger.newest()
        written = await asyncio.to_thread(lambda: [*written_versions(self._mirror, moves, self._entry)])
        by_target = defaultdict[str, list[WrittenVersion]](list)
        for one in written:
            by_target[one.target].append(one)

        async def at(target: Target) -> None:
            api, place = api_of(self._mirror, target), place_of(self._mirror, target)
            how = {LOCAL: self._own, "directory": self._folder, "oci": self._registry}.get(api, self._server)
            try:
                await how(target, by_target[target.name])
            except Exception as error:  # noqa: BLE001 - a bug that one target brings out is that target's failure
                why = f"it cannot be asked: {deliberate(error)}"
                self._left.append(LeftVersion(target.name, self._entry.item or place, why))

        await together(*map(at, self._mirror.targets))
        left = sorted(self._left, key=lambda one: (one.target, one.what))
        return TakenDownVersions(self._entry, self._versions, left, self._manifests)

    async def _own(self, _: Target, written: Sequence[WrittenVersion]) -> None:
        """Note what is gone from `local`: it went at once."""
        self._versions += [one for one in written if not one.gone]

    async def _folder(self, target: Target, written: Sequence[WrittenVersion]) -> None:
        """Look at an index of ours, and at archives beside it; what is not there any more is noted."""
        place = DirectoryTarget(Path(place_of(self._mirror, target)), self._reading)
        listing, unlisted = await place.listing(), await place.unlisted()
        found = [(chart.reference, chart.digest or "") for chart in listing.charts.values()]
        names = {one.item: one.reference for one in written}
        if self._entry.whole and (strange := sorted(unlisted.keys() - names.keys())):  # perhaps of others
            what = f"{place.place}: archives that no index lists: {some(strange)}"
            self._left.append(LeftVersion(target.name, what, _BY_HAND))
            unlisted = {item: digest for item, digest in unlisted.items() if item in names}
        others = ((names.get(item) or reference_of(item), digest) for item, digest in unlisted.items())
        found += [(name, digest) for name, digest in others if name]
        there = {
            name: WrittenVersion(target.name, name, digest)
            for name, digest in found
            if self._denied.item(self._mirror.name, called(name), digest)
        }
        self._versions += [*there.values(), *(one for one in written if not one.gone and one.reference not in there)]

    async def _server(self, target: Target, written: Sequence[WrittenVersion]) -> None:
        """Ask a server that makes its own index; what it does not delete, or the ledger does not have, is left."""
        opened = open_target(self._mirror, target, self._services, Visit(self._reading, 0.0))
        held = await opened.held([version_of(one.reference, one.digest) for one in written])
        there = {item: one for item, one in held.items() if self._denied.item(self._mirror.name, item, one)}
        due = [one for one in written if not one.gone and there.get(one.item, one.digest) == one.digest]
        deletes = isinstance(opened, Removes)
        self._versions += [one for one in due if deletes or one.item not in there]
        left = sorted(there.keys() - {one.item for one in due}) if deletes else sorted(there)
        why, place = _BY_HAND if deletes else _SERVER, place_of(self._mirror, target)
        if self._entry.whole and left:
            self._left.append(LeftVersion(target.name, f"{place}: {len(left)} versions ({some(left)})", why))
        else:
            self._left += [LeftVersion(target.name, item, f"{place}: {why}") for item in left]

    async def _registry(self, target: Target, written: Sequence[WrittenVersion]) -> None:
        """Ask for the tag of each version that the ledger has, and of the version that was named."""
        facts = await RunNotes(self._mirror, self._services).of_target(target)
        if self._entry.whole and not written:
            self._left.append(LeftVersion(target.name, place_of(self._mirror, target), _NO_LEDGER))
        if self._entry.item and all(one.item != self._entry.item for one in written):
            await self._unwritten(target)

        async def look(one: WrittenVersion) -> None:
            chart, seen = version_of(one.reference), TagSeen.read(facts.get(one.item, ""))
            place = repository_at(self._mirror, target, self._services, chart.name)
            try:
                manifest = await place.get_manifest(chart.tag)
            except MissingError:
                known = seen is not None and seen.archive == one.digest
                if seen and known:  # it may still be there by digest
                    self._manifests[one.target, one.reference] = seen.manifest
                self._versions += [one] if known or not one.gone else []
                return
            there = archive_of(manifest)
            if there == one.digest:
                self._manifests[one.target, one.reference] = manifest.digest
                self._versions.append(replace(one, gone=False))
                return
            if seen and seen.archive == one.digest and await place.head_manifest(seen.manifest):
                what = f"{place.reference.name}@{seen.manifest}"
                self._left.append(LeftVersion(target.name, what, "its tag stands for other content; remove it by hand"))
            if there and self._denied.item(self._mirror.name, one.item, there):
                why = f"it is {there} there, and not {one.digest}, which mirrord wrote; remove it by hand"
                self._left.append(LeftVersion(target.name, one.item, why))

        await Workers(AT_ONCE).each(written, look)

    async def _unwritten(self, target: Target) -> None:
        """Look for the version that was named where the ledger does not have it."""
        chart = chart_of(self._entry.item)
        if chart is None:
            return
        place = repository_at(self._mirror, target, self._services, chart.name)
        if await place.head_manifest(chart.tag):
            self._left.append(LeftVersion(target.name, f"{place.reference.name}:{chart.tag}", _BY_HAND))


def repository_at(mirror: Mirror, target: Target, services: Services, chart: str) -> Repository:
    """Return the repository of a chart at a target that is a registry."""
    at = Reference.parse(place_of(mirror, target)[len(OCI) :])
    return Repository(services.http, Reference(at.domain, below(at.path, chart)), push=True)


class _Session:
    """Implements `mirrord.syncer.port.Session`; nothing is read from the source."""

    read = 0

    def __init__(self, mirror: Mirror, survey: TakenDownVersions, services: Services, reading: Reading) -> None:
        self._mirror, self._survey, self._services, self._reading = mirror, survey, services, reading
        self._versions = {(one.target, one.item): one for one in survey.versions}
        self._denied, self._noting = Denied([survey.entry]), asyncio.Lock()

    async def execute(self, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
        """Remove versions at one target; in a registry those of one chart."""
        target = next(one for one in self._mirror.targets if one.name == batch[0].target)
        versions = [self._versions[step.target, step.item] for step in batch]
        how = {LOCAL: self._own, "directory": self._folder, "oci": self._registry, "chartmuseum": self._server}
        ends: Mapping[str, MirrordError | None] = {}
        remark = ""
        try:
            ends, remark = await how.get(api_of(self._mirror, target), self._gone)(target, versions)
            async with self._noting:  # what stays there is known by its manifest: its tag may be gone
                gone = [one.item for one in versions if not ends.get(one.item)]
                await RunNotes(self._mirror, self._services).forget(target, gone)
        except Exception as error:  # noqa: BLE001 - a bug that one target brings out is that target's failure
            ends = dict.fromkeys((one.item for one in versions), deliberate(error))
        for step in batch:
            why = ends.get(step.item)
            done = Receipt(step, Outcome.DONE, remark=f"{step.target}: {remark}" if remark else "")
            on_receipt(failed(step, why) if why else done)

    async def _gone(self, target: Target, versions: Sequence[WrittenVersion]) -> _Ends:
        """Write down what is not there any more: somebody removed it."""
        moves = {one.reference: (one.digest, None) for one in versions if not one.gone}
        async with self._services.ledger.moving(target.name, moves):
            return {}, ""

    async def _server(self, target: Target, versions: Sequence[WrittenVersion]) -> _Ends:
        """Let a server delete versions; what is gone there already is written down, too."""
        place = open_target(self._mirror, target, self._services, Visit(self._reading, 0.0))
        assert isinstance(place, Removes)
        ends: dict[str, MirrordError | None] = {}
        charts = [version_of(one.reference, one.digest) for one in versions if not one.gone]
        await place.remove(target.name, charts, self._services.ledger, ends.__setitem__)
        return ends, ""

    async def _own(self, target: Target, versions: Sequence[WrittenVersion]) -> _Ends:
        """Write down what went from `local` at once."""
        repositories = self._services.repositories
        state = await repositories.state(repository_of(self._mirror)) if repositories else None
        there = {one.item for one in versions if state and version_of(one.reference).path in state.tags}
        await self._gone(target, [one for one in versions if one.item not in there])
        return dict.fromkeys(there, StorageError("it is still in local, and is not served all the same")), ""

    async def _folder(self, target: Target, versions: Sequence[WrittenVersion]) -> _Ends:
        """Write the index without them, then remove their files."""
        place, named = DirectoryTarget(Path(place_of(self._mirror, target)), self._reading), self._survey.entry.item

        def goes(chart: ChartVersion) -> object:
            return self._denied.item(self._mirror.name, chart.item, chart.digest or "")

        moves = {one.reference: (one.digest or None, None) for one in versions}
        async with self._services.ledger.moving(target.name, moves):
            await place.drop(self._mirror, goes, {*(one.item for one in versions), *([named] if named else ())})
        return {}, ""

    async def _registry(self, target: Target, versions: Sequence[WrittenVersion]) -> _Ends:
        """Remove the tags of one chart, and their manifests."""
        manifests = {one: self._survey.manifests.get((one.target, one.reference)) for one in versions}
        await self._gone(target, [one for one, manifest in manifests.items() if manifest is None])
        chart = version_of(versions[0].reference).name
        tags = {version_of(one.reference).tag: one for one in versions}

        def called(tag: str, move: Move) -> tuple[str, Move] | None:
            return (tags[tag].reference, (tags[tag].digest, move[1])) if tag in tags else None

        ledger = RenamedLedger(self._services.ledger, called)
        place = repository_at(self._mirror, target, self._services, chart)
        removal = RepositoryTakedown(target.name, place, ledger, shared=bool(self._survey.entry.whole))
        names = {tag: manifest for tag, one in tags.items() if (manifest := manifests[one]) and not one.gone}
        doomed = {manifest for manifest in manifests.values() if manifest}
        ends = await removal.run(names, doomed) if doomed else {}
        found = {one.item: ends.get(tag) or ends.get(manifests[one] or "") for tag, one in tags.items()}
        return found, removal.remark
