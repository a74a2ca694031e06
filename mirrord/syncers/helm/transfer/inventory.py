"""Which target is spoken to how, and what the targets hold."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import cast

from mirrord.errors import MirrordError, StorageError
from mirrord.model.digest import Digest
from mirrord.plan.retention import not_kept
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.helm.kept import RunNotes, files_of
from mirrord.syncers.helm.names import OCI, ChartVersion, api_of, item_of, place_of, repository_of, spec_of
from mirrord.syncers.helm.plan.retained import by_version
from mirrord.syncers.helm.plan.survey import TargetContent
from mirrord.syncers.helm.spec import HelmTarget
from mirrord.syncers.helm.transfer.chartmuseum import ChartMuseumTarget, Museum
from mirrord.syncers.helm.transfer.directory import DirectoryTarget
from mirrord.syncers.helm.transfer.earlier import keep_earlier
from mirrord.syncers.helm.transfer.local import LocalTarget
from mirrord.syncers.helm.transfer.oci import OciTarget
from mirrord.syncers.helm.transfer.server_index import CodingTarget, ServedIndex
from mirrord.syncers.helm.transfer.target import ChartTarget, Listing, Reading
from mirrord.transfer.fanout import deliberate
from mirrord.wire.oci.reference import Reference


@dataclass(slots=True)
class Visit:
    """What a target is opened with."""

    reading: Reading  # reads its index
    now: float  # Unix time of the run
    wanted: Sequence[ChartVersion] = ()  # the wanted versions, the oldest first
    upstream: Sequence[ChartVersion] = ()  # all that upstream lists
    # what earlier runs noted of it; the target keeps them up to date
    facts: dict[str, str] = field(default_factory=dict)


def open_target(mirror: Mirror, target: Target, services: Services, visit: Visit) -> ChartTarget:
    """Make the adapter for a target.

    Raises:
        StorageError: the local one, and there is no state.
    """
    api, place = api_of(mirror, target), place_of(mirror, target)
    if api == LOCAL:
        repository = repository_of(mirror)
        files = files_of(services, repository)
        if files is None or services.repositories is None or services.blobs is None:
            raise StorageError("the local target needs a state directory; give --state")
        denied = partial(services.denied.item, mirror.name) if services.denied else None
        earlier = partial(keep_earlier, services.repositories, services.blobs, repository, now=visit.now, denied=denied)
        return LocalTarget(files, repository, visit.reading, earlier)
    if api == "directory":
        return DirectoryTarget(Path(place), visit.reading)
    if api == "oci":
        reference = Reference.parse(place[len(OCI) :])
        return OciTarget(
            services.http, reference.domain, reference.path, visit.facts, now=visit.now, trust=mirror.trust
        )
    index = ServedIndex(services.http, place, visit.reading, visit.facts)
    if api == "coding":
        return CodingTarget(index)
    context = cast("HelmTarget", target.options).context_path
    museum = Museum(context, visit.wanted, visit.upstream, spec_of(mirror).newest, bold=mirror.allow)
    return ChartMuseumTarget(index, museum)


async def look(
    mirror: Mirror, services: Services, visit: Visit, notes: RunNotes, *, whole: bool = True, puts: bool = True
) -> tuple[Mapping[str, TargetContent], Mapping[str, MirrordError]]:
    """Ask every target what it holds; return what they said, and why some did not.

    Without `whole` it is asked for a few versions: what was noted of others stays noted. Without `puts` nothing of them
    will be put anywhere.

    Patience is that of `Http`, request by request: a registry far away is asked for thousands of manifests.
    """
    asked = set() if whole else await asyncio.to_thread(lambda: {chart.item for chart in visit.wanted})

    async def ask(target: Target) -> TargetContent | MirrordError:
        listed: dict[str, ChartVersion] = {}
        seen = [Listing()]

        def reading(data: bytes) -> Listing:
            listing = visit.reading(data)
            listed.update(listing.charts)
            seen[:] = [listing]
            return listing

        try:
            facts = await notes.of_target(target)
            others = {} if whole else {item: fact for item, fact in facts.items() if item not in asked}
            opened = open_target(mirror, target, services, replace(visit, reading=reading, facts=facts))
            held = await opened.held(visit.wanted)
            refused: Mapping[str, str] = {}
            if puts and isinstance(opened, ChartMuseumTarget):
                refused = await asyncio.to_thread(opened.refused, visit.wanted)
            own = listed if api_of(mirror, target) in (LOCAL, "directory") else None
            dropped = whole and target.name == LOCAL and mirror.keep
            gone = await _not_kept(mirror, services, visit, listed.values()) if dropped else {}
            shown = seen[0].public_keys, seen[0].annotations
            return TargetContent(held, own, refused, gone, shown, {**others, **facts})
        except Exception as error:  # noqa: BLE001 - a bug that one target brings out is that target's failure
            return deliberate(error)

    answers = await asyncio.gather(*map(ask, mirror.targets))
    named = list(zip((target.name for target in mirror.targets), answers, strict=True))
    found = {name: answer for name, answer in named if isinstance(answer, TargetContent)}
    return found, {name: answer for name, answer in named if isinstance(answer, MirrordError)}


async def _not_kept(
    mirror: Mirror, services: Services, visit: Visit, ours: Iterable[ChartVersion]
) -> Mapping[str, tuple[Digest, str]]:
    """Return what `local` dropped and would not keep today either."""
    assert services.repositories
    assert mirror.keep
    state, rules = await services.repositories.state(repository_of(mirror)), mirror.keep
    if state is None or not state.dropped:
        return {}

    def found() -> Mapping[str, tuple[Digest, str]]:
        dropped = {path: (gone.digest, gone.tagged) for path, gone in state.dropped.items()}
        ranks = by_version([*ours, *visit.upstream, *visit.wanted], spec_of(mirror))
        gone = not_kept(state.tags, state.tagged, dropped, rules, visit.now, ranks=ranks)
        return {item_of(path): one for path, one in gone.items()}

    return await asyncio.to_thread(found)


async def versions_held(
    mirror: Mirror, target: Target, services: Services, names: Collection[str], *, reading: Reading
) -> Mapping[str, str | None]:
    """Return what chart versions (`ChartVersion.reference`) stand for at a target; where the index is ours, there.

    Raises:
        MirrordError: it cannot be asked.
    """
    listed: dict[str, str | None] = {}

    def seen(data: bytes) -> Listing:
        listing = reading(data)
        listed.update({chart.reference: chart.digest for chart in listing.charts.values()})
        return listing

    split = (name.partition(":") for name in names)
    charts = [ChartVersion(chart, version, None, (), None, deprecated=False, entry={}) for chart, _, version in split]
    held = await open_target(mirror, target, services, Visit(seen, 0.0)).held(charts)
    if api_of(mirror, target) in (LOCAL, "directory"):
        return {name: listed.get(name) for name in names}
    return {chart.reference: held.get(chart.item) for chart in charts}
