"""Drops versions of charts from `local` that `keep` does not keep: from the index and by name in one step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from mirrord.blobs.repositories import Addition, ManifestRef, RepositoryState
from mirrord.errors import ContentError, MirrordError
from mirrord.model.digest import Digest
from mirrord.syncer.keeping import ListedNames
from mirrord.syncer.values import LOCAL, Mirror, Services
from mirrord.syncers.helm.kept import files_of
from mirrord.syncers.helm.names import INDEX, PROVENANCE, ChartVersion, repository_of, spec_of
from mirrord.syncers.helm.plan.retained import by_version
from mirrord.syncers.helm.plan.survey import as_theirs
from mirrord.syncers.helm.transfer.emit import emit_json, emit_yaml
from mirrord.syncers.helm.transfer.published import PublishedIndexes
from mirrord.syncers.helm.transfer.target import GZIP, IndexFile, Reading

PACKED = f"{INDEX}.gz"


async def listed(mirror: Mirror, services: Services, state: RepositoryState, *, reading: Reading) -> ListedNames | None:
    """Return what the index in `local` lists; None when there is none that can be read. See `Syncer.listed`."""
    files = files_of(services, repository_of(mirror))
    data = await files.read(INDEX) if files else None
    if data is None or state.tags.get(INDEX) != await asyncio.to_thread(Digest.of, data):
        return None
    ours = PublishedIndexes(mirror, services, reading, ())
    await ours.load()
    try:
        listing = await asyncio.to_thread(ours.listing, data)
    except ContentError:  # the next run replaces it
        return None
    index = _LocalIndex(mirror, services, state, data, ours, reading)

    def found() -> ListedNames:
        charts = list(listing.charts.values())
        ranks, called = by_version(charts, spec_of(mirror)), {chart.path: chart.reference for chart in charts}
        signed = ((f"{path}{PROVENANCE}", state.tags[path]) for path in called if path in state.tags)
        return ListedNames(ranks, called, index.drop, {prov: one for prov, one in signed if prov in state.tags})

    return await asyncio.to_thread(found)


@dataclass(frozen=True, slots=True)
class _LocalIndex:
    """The index of a mirror in `local`, at one moment."""

    mirror: Mirror
    services: Services
    state: RepositoryState
    data: bytes
    ours: PublishedIndexes
    reading: Reading

    async def drop(
        self, files: Mapping[str, Digest], manifests: frozenset[Digest], about: Mapping[str, Digest], expect: str
    ) -> tuple[frozenset[str], frozenset[Digest]]:
        """Show an index without some archives, and drop them; the old index is left to the next collection."""
        repositories, blobs = self.services.repositories, self.services.blobs
        assert repositories
        assert blobs
        gone = frozenset(files)
        index = await asyncio.to_thread(
            index_without, self.data, self.mirror, self.reading, lambda chart: chart.path in gone
        )
        new = {INDEX: (index.data, index.media_type), PACKED: (await asyncio.to_thread(index.packed), GZIP)}
        digests = {name: await asyncio.to_thread(Digest.of, content) for name, (content, _) in new.items()}
        links = {digests[name]: ManifestRef(media_type, len(content)) for name, (content, media_type) in new.items()}
        with repositories.lease() as lease:
            await lease.hold(digests.values())
            for name, (content, _) in new.items():
                await blobs.put(digests[name], content)
            instead = Addition(links, digests)
            names, gone = await repositories.drop(
                repository_of(self.mirror), files, manifests, about=about, expect=expect, instead=instead
            )
        with suppress(MirrordError):  # the names are gone: the next run reads the index itself
            await self.ours.keep({LOCAL: index})
        return names, gone - {self.state.tags.get(name) for name in new}


def index_without(data: bytes, mirror: Mirror, reading: Reading, goes: Callable[[ChartVersion], object]) -> IndexFile:
    """Return an index of ours without some versions. Raises as `reading`; blocks."""
    whole = reading(data)
    charts = tuple(as_theirs(chart) for chart in whole.charts.values() if not goes(chart))
    emit = emit_json if spec_of(mirror).index == "json" else emit_yaml
    made = emit(charts, public_keys=whole.public_keys, annotations=whole.annotations)
    return IndexFile(made, charts, None, {item: chart.digest for item, chart in whole.charts.items()})
