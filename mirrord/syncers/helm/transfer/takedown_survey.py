"""Finds what targets have of charts that were taken down: what the ledger has, and what only people can judge."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from mirrord.errors import MissingError
from mirrord.model.digest import Digest
from mirrord.model.takedown import UNRECORDED
from mirrord.names.denied import Denied
from mirrord.plan.guards import some
from mirrord.syncer.takedown import TakedownWish
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.helm.kept import RunNotes
from mirrord.syncers.helm.names import ChartVersion, api_of, place_of
from mirrord.syncers.helm.plan.restored import called, reference_of, version_of
from mirrord.syncers.helm.plan.takedown import LeftVersion, TakenDownVersions, WrittenVersion, written_versions
from mirrord.syncers.helm.transfer.compared import chart_of
from mirrord.syncers.helm.transfer.directory import DirectoryTarget
from mirrord.syncers.helm.transfer.inventory import Visit, open_target
from mirrord.syncers.helm.transfer.oci import TagSeen, archive_of, repository_at
from mirrord.syncers.helm.transfer.target import Listing, Reading, Removes
from mirrord.transfer.fanout import Workers, deliberate, together

AT_ONCE: Final = 8
_BY_HAND: Final = "it is there, and the ledger does not say that mirrord wrote it; remove it by hand"
_NO_LEDGER: Final = "the ledger does not say what mirrord wrote there; remove by hand what is there"
_SERVER: Final = "mirrord deletes nothing at this server; remove it there by hand"


class DeniedVersions:
    """Looks what targets of a mirror have of one thing that was taken down."""

    def __init__(self, mirror: Mirror, services: Services, wish: TakedownWish, reading: Reading) -> None:
        """Look by the ledger, and by what indexes of ours list; `reading` reads these."""
        self._mirror, self._services, self._entry, self._reading = mirror, services, wish.entry, reading
        self._adopt, self._denied = wish.adopt, Denied([wish.entry])
        self._versions: list[WrittenVersion] = []
        self._left: list[LeftVersion] = []
        self._manifests: dict[tuple[str, str], Digest] = {}

    async def look(self) -> TakenDownVersions:
        """Look at all targets; one that cannot be asked is left."""
        moves = await self._services.ledger.newest()
        by_target = defaultdict[str, list[WrittenVersion]](list)

        def written() -> None:
            for one in written_versions(self._mirror, moves, self._entry):
                by_target[one.target].append(one)

        await asyncio.to_thread(written)

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
        seen = await place.listing(), await place.unlisted()
        await asyncio.to_thread(self._found, target, place.place, seen, written)

    def _found(
        self, target: Target, place: str, seen: tuple[Listing, Mapping[str, Digest]], written: Sequence[WrittenVersion]
    ) -> None:
        listing, unlisted = seen
        found = [(chart.reference, chart.digest or "") for chart in listing.charts.values()]
        names = {one.item: one.reference for one in written}
        if self._entry.whole and (strange := sorted(unlisted.keys() - names.keys())):  # perhaps of others
            what = f"{place}: archives that no index lists: {some(strange)}"
            self._left.append(LeftVersion(target.name, what, _BY_HAND))
            unlisted = {item: digest for item, digest in unlisted.items() if item in names}
        others = ((names.get(item) or reference_of(item), digest) for item, digest in unlisted.items())
        found += [(name, digest) for name, digest in others if name]
        there = {
            name: WrittenVersion(target.name, name, digest)
            for name, digest in found
            if self._denied.item(self._mirror.name, called(name), digest)
        }
        ours = {(one.reference, one.digest) for one in written}
        for name, one in there.items():
            if self._adopt or (name, one.digest) in ours:
                self._versions.append(one)
            else:
                self._left.append(LeftVersion(target.name, one.item, f"{place}: {UNRECORDED}"))
        self._versions += [one for one in written if not one.gone and one.reference not in there]

    async def _server(self, target: Target, written: Sequence[WrittenVersion]) -> None:
        """Ask a server that makes its own index; what it does not delete, or the ledger does not have, is left."""
        opened = open_target(self._mirror, target, self._services, Visit(self._reading, 0.0))
        held = await opened.held(await asyncio.to_thread(charts_of, written))
        await asyncio.to_thread(self._served, target, held, written, deletes=isinstance(opened, Removes))

    def _served(
        self, target: Target, held: Mapping[str, Digest], written: Sequence[WrittenVersion], *, deletes: bool
    ) -> None:
        there = {item: one for item, one in held.items() if self._denied.item(self._mirror.name, item, one)}
        due = [one for one in written if not one.gone and there.get(one.item, one.digest) == one.digest]
        strange = there.keys() - {one.item for one in due}
        denied = frozenset(self._entry.digests)
        alike = {item for item in strange if deletes and there[item] in denied}
        named = ((reference_of(item), item) for item in sorted(alike) if self._adopt)
        due += [WrittenVersion(target.name, name, there[item]) for name, item in named if name]
        self._versions += [one for one in due if deletes or one.item not in there]
        left = sorted(there.keys() - {one.item for one in due}) if deletes else sorted(there)
        why, place = _BY_HAND if deletes else _SERVER, place_of(self._mirror, target)
        if self._entry.whole and left:
            self._left.append(LeftVersion(target.name, f"{place}: {len(left)} versions ({some(left)})", why))
        else:
            whys = dict.fromkeys(alike, UNRECORDED)
            self._left += [LeftVersion(target.name, item, f"{place}: {whys.get(item, why)}") for item in left]

    async def _registry(self, target: Target, written: Sequence[WrittenVersion]) -> None:
        """Ask for the tag of each version that the ledger has, and of the version that was named."""
        facts = await RunNotes(self._mirror, self._services).of_target(target)
        if self._entry.whole and not written:
            self._left.append(LeftVersion(target.name, place_of(self._mirror, target), _NO_LEDGER))
        if self._entry.item and all(one.item != self._entry.item for one in written):
            await self._unwritten(target)

        async def look(one: WrittenVersion) -> None:
            chart, seen = version_of(one.reference), TagSeen.read(facts.get(one.item, ""))
            place = repository_at(self._services.http, place_of(self._mirror, target), chart.name, push=True)
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
        place = repository_at(self._services.http, place_of(self._mirror, target), chart.name, push=True)
        try:
            manifest = await place.get_manifest(chart.tag)
        except MissingError:
            return
        archive = archive_of(manifest)
        if self._entry.mirror != self._mirror.name and archive not in self._entry.digests:
            return  # another one is called so here
        why = UNRECORDED if archive in self._entry.digests else _BY_HAND
        if archive and archive in self._entry.digests and self._adopt:
            self._manifests[target.name, chart.reference] = manifest.digest
            self._versions.append(WrittenVersion(target.name, chart.reference, archive))
        else:
            self._left.append(LeftVersion(target.name, f"{place.reference.name}:{chart.tag}", why))


def charts_of(versions: Iterable[WrittenVersion]) -> Sequence[ChartVersion]:
    """Return versions as charts, with the digests of their archives."""
    return [version_of(one.reference, one.digest) for one in versions]
