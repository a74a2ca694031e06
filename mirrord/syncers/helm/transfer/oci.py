"""Charts in an OCI registry, one repository for each chart, as `helm push` puts them there."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from mirrord import failpoints
from mirrord.blobs.spool import Reader
from mirrord.errors import ImmutableError, RefusedError, UnsupportedError
from mirrord.model import Digest
from mirrord.syncers.helm.names import ChartVersion, oci_tag
from mirrord.syncers.helm.transfer import pushed
from mirrord.syncers.helm.transfer.target import IndexFile
from mirrord.transfer.fanout import together
from mirrord.wire.http import Http
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.reference import Reference, valid_repository, valid_tag

FEW: Final = 2  # versions of one chart that are asked for one by one, without listing the tags first

Describe = Callable[[ChartVersion, Path], Mapping[str, object]]
"""Returns a chart's metadata, as helm loads it; the path is that of the verified archive."""


class OciTarget:
    """All repositories below one path of a registry."""

    provenance = True
    oldest_first = False

    def __init__(self, http: Http, domain: str, path: str, describe: Describe | None = None) -> None:
        """Write to `<domain>/<path>/<chart>:<version>`; `path` may be empty.

        Without `describe` the metadata is that of the index entry: helm wrote there what it loaded from the archive.
        """
        self._http = http
        self._domain = domain
        self._path = path.strip("/")
        self._describe = describe
        self.place = f"oci://{'/'.join(filter(None, (domain, self._path)))}"

    async def held(self, charts: Collection[ChartVersion] = ()) -> Mapping[str, Digest]:
        """Ask for the manifests of those of `charts` whose tags are there: their layer is the archive."""
        versions = defaultdict[str, list[ChartVersion]](list)
        for chart in charts:
            if self._takes(chart):
                versions[chart.name].append(chart)
        held: dict[str, Digest] = {}
        await together(*(self._look(found, held) for found in versions.values()))
        return held

    async def put(self, chart: ChartVersion, reader: Reader, prov: bytes | None, *, replace: bool = False) -> None:
        """Push archive, provenance and config, then the manifest by its tag."""
        if not self._takes(chart):
            raise UnsupportedError(f"{self.place}: {chart.item} cannot be a repository and a tag; it needs lower case")
        repository, tag = self._repository(chart), oci_tag(chart.version)
        wanted = reader.spool.wanted
        if await repository.head_manifest(tag) is not None:
            there = await self._archive(repository, tag)
            if there == wanted.digest:
                return
            if not replace:
                raise ImmutableError(f"{self.place}/{chart.name}:{tag} is {there or 'no chart'}, not {wanted.digest}")
        archive = Descriptor(pushed.CHART, wanted.digest, wanted.size)
        layers = [archive]
        if await repository.has_blob(wanted.digest) != wanted.size:
            await reader.worth_sending()
            await repository.put_blob(archive, reader.chunks)
            failpoints.hit("push.blob")
        if prov is not None:
            layers.append(await _small(repository, pushed.PROVENANCE, prov))
        entry = await self._metadata(chart, reader)
        config = await _small(repository, pushed.CONFIG, pushed.config_of(entry))
        await repository.put_manifest(pushed.manifest_of(chart, entry, config, layers), tag)
        failpoints.hit("push.tag")

    async def finish(self, index: IndexFile) -> None:
        """Do nothing: a registry has no index, each tag stands for itself."""

    async def _metadata(self, chart: ChartVersion, reader: Reader) -> Mapping[str, object]:
        if self._describe is None:
            return chart.entry
        if not reader.spool.verified:
            await reader.whole()
        return await asyncio.to_thread(self._describe, chart, reader.spool.path)

    def _takes(self, chart: ChartVersion) -> bool:
        return valid_repository(self._name(chart)) and valid_tag(oci_tag(chart.version))

    def _name(self, chart: ChartVersion) -> str:
        return f"{self._path}/{chart.name}" if self._path else chart.name

    def _repository(self, chart: ChartVersion) -> Repository:
        return Repository(self._http, Reference(self._domain, self._name(chart)), self._http.book, push=True)

    async def _look(self, charts: Sequence[ChartVersion], held: dict[str, Digest]) -> None:
        """Find out about versions of one chart."""
        repository = self._repository(charts[0])
        tags = await _tags(repository) if len(charts) > FEW else None

        async def look(chart: ChartVersion) -> None:
            tag = oci_tag(chart.version)
            if (tag in tags) if tags is not None else await repository.head_manifest(tag) is not None:
                digest = await self._archive(repository, tag)
                if digest is not None:
                    held[chart.item] = digest

        await together(*map(look, charts))

    async def _archive(self, repository: Repository, tag: str) -> Digest | None:
        """Return the digest of the chart that a tag stands for, None when it is something else."""
        layer = pushed.chart_layer(await repository.get_manifest(tag))
        return layer.digest if layer else None


async def _tags(repository: Repository) -> frozenset[str] | None:
    """Return all tags, or None when the registry does not tell them."""
    try:
        return frozenset([tag async for tag in repository.tags()])
    except RefusedError:
        return None


async def _small(repository: Repository, media_type: str, data: bytes) -> Descriptor:
    """Push a blob of which we have all bytes."""
    blob = Descriptor(media_type, Digest.of(data), len(data))

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    if await repository.has_blob(blob.digest) != blob.size:
        await repository.put_blob(blob, chunks)
        failpoints.hit("push.blob")
    return blob
