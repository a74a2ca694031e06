"""Where the archive of a chart version may be, by its digest: `local`, the other targets, the source."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from mirrord.blobs.source import BlobSource
from mirrord.errors import (
    ContentError,
    DeniedError,
    DigestError,
    MirrordError,
    MissingError,
    RefusedError,
    UntrustedError,
)
from mirrord.files import LocalFile, storage_errors
from mirrord.model.digest import Digest
from mirrord.plan.select import is_glob
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.helm.kept import files_of
from mirrord.syncers.helm.names import (
    CHART_TYPES,
    CHARTS,
    EARLIER,
    LONGEST_ARCHIVE,
    LONGEST_PROVENANCE,
    OCI,
    PROVENANCE,
    PROVENANCE_TYPE,
    ChartVersion,
    api_of,
    below,
    is_oci,
    place_of,
    repository_of,
    source_of,
    spec_of,
)
from mirrord.syncers.helm.upstream.fetch import ChartSource
from mirrord.syncers.helm.upstream.poll import poll
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.endpoint import PULL, Endpoint
from mirrord.wire.oci.reference import Reference
from mirrord.wire.oci.upload import blob_size

SOURCE: Final = "the source"
"""Stands for the source among the names of targets; no target can have this name."""
PIECE: Final = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class ArchiveFound:
    """An archive at one place: how it is read, and its entry in the index there, if there is one."""

    source: BlobSource
    entry: ChartVersion | None = None


class ArchivePlace(Protocol):
    """Where archives may be; `chart` always has its digest."""

    async def find(self, chart: ChartVersion) -> ArchiveFound | None:
        """Return the archive with that digest, None when it is not there. Raises MirrordError: it cannot be asked."""

    async def provenance(self, chart: ChartVersion) -> bytes | None:
        """Return the provenance that is there for the version, whichever archive that is of."""


def open_places(mirror: Mirror, services: Services) -> Mapping[str, ArchivePlace]:
    """Return the places where archives of a mirror may be, the best one first.

    `local` costs no request, and the source is last: its quotas are the tightest. Without a state directory there is
    no `local`.
    """
    targets = sorted(mirror.targets, key=lambda target: target.name != LOCAL)
    every = ((target.name, _place(mirror, target, services)) for target in targets)
    found = {name: place for name, place in every if place}
    return {**found, SOURCE: open_source(mirror, services)}


def open_source(mirror: Mirror, services: Services, *, named: bool = False) -> ArchivePlace:
    """Return the source as such a place; `named`: only what can be had by name counts, as nothing else stays there."""
    url, credentials = source_of(mirror), spec_of(mirror).pass_credentials
    if is_oci(url):
        return _Registry(services, url, alone=not _names_charts(mirror), named=named)
    return _Repository(services, url, credentials=credentials, named=named)


def _names_charts(mirror: Mirror) -> bool:
    """Whether the charts of a registry are named, and so below its path."""
    return not all(map(is_glob, spec_of(mirror).charts))


def _place(mirror: Mirror, target: Target, services: Services) -> ArchivePlace | None:
    api, place = api_of(mirror, target), place_of(mirror, target)
    if api == LOCAL:
        return _Local(services, repository_of(mirror)) if services.blobs and services.repositories else None
    if api == "directory":
        return _Directory(Path(place))
    return _Registry(services, place) if api == "oci" else _Repository(services, place, credentials=False)


class _Local:
    """Content that mirrord's own store has, named or not; a lease keeps it until the restore ends."""

    def __init__(self, services: Services, repository: str) -> None:
        assert services.blobs is not None
        assert services.repositories is not None
        self._store, self._lease = services.blobs, services.repositories.lease()
        self._files = files_of(services, repository)
        self._earlier = files_of(services, f"{repository}/{EARLIER}")

    async def find(self, chart: ChartVersion) -> ArchiveFound | None:
        assert chart.digest is not None
        await self._lease.hold([chart.digest])
        stored = None if await self._store.missing([chart.digest]) else await self._store.find(chart.digest)
        if stored is None:
            return None
        if isinstance(stored, LocalFile):
            return ArchiveFound(
                BlobSource(chart.digest, stored.size, file=stored.path, start=stored.offset, name=LOCAL)
            )
        remote = stored

        @asynccontextmanager
        async def opened(offset: int) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
            yield remote.size, remote.open(offset, remote.size - offset)

        return ArchiveFound(BlobSource(chart.digest, remote.size, opened, name=LOCAL))

    async def provenance(self, chart: ChartVersion) -> bytes | None:
        assert chart.digest is not None
        earlier = await self._earlier.read(f"{chart.digest.hex}.tgz{PROVENANCE}") if self._earlier else None
        if earlier is not None or self._files is None:
            return earlier
        return await self._files.read(f"{chart.path}{PROVENANCE}")


class _Directory:
    """A folder of ours; what it has now is all that it can give."""

    def __init__(self, folder: Path) -> None:
        self._charts = folder / CHARTS

    async def find(self, chart: ChartVersion) -> ArchiveFound | None:
        file = await asyncio.to_thread(LocalFile.whole, self._charts / chart.file)
        if file is None or await asyncio.to_thread(_digest, file.path) != chart.digest:
            return None

        @asynccontextmanager
        async def opened(offset: int) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
            with file.path.open("rb") as content:  # read, and not lent: it is for others to change
                content.seek(offset)
                yield file.size, _chunks(content.read)

        return ArchiveFound(BlobSource(chart.digest, file.size, opened, name=str(file.path)))

    async def provenance(self, chart: ChartVersion) -> bytes | None:
        file = await asyncio.to_thread(LocalFile.whole, self._charts / f"{chart.file}{PROVENANCE}")
        return await asyncio.to_thread(file.path.read_bytes) if file and file.size <= LONGEST_PROVENANCE else None


async def _chunks(read: Callable[[int], bytes]) -> AsyncIterator[bytes]:
    while data := await asyncio.to_thread(read, PIECE):
        yield data


def _digest(file: Path) -> Digest:
    with storage_errors(str(file)), file.open("rb") as content:
        return Digest(f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}")


class _Repository:
    """A repository with an index: only what that lists, with this digest, is there."""

    def __init__(self, services: Services, url: str, *, credentials: bool, named: bool = False) -> None:
        self._http, self._url, self._named = services.http, url, named
        self._source = ChartSource(services.http, url, pass_credentials=credentials)
        self._once = asyncio.Lock()
        self._listed: Mapping[tuple[str, str, Digest | None], ChartVersion] | MirrordError | None = None

    async def find(self, chart: ChartVersion) -> ArchiveFound | None:
        listed = await self._entries()
        entry = listed.get((chart.name, chart.version, chart.digest))
        if entry is None or (self._named and await self._source.lacks(entry)):
            return None
        try:
            return ArchiveFound(await self._source.blob(entry), entry)
        except DeniedError:  # it may well be there
            raise
        except (ContentError, RefusedError, UntrustedError):  # its URL is wrong; that says nothing about others
            return None

    async def provenance(self, chart: ChartVersion) -> bytes | None:
        entry = (await self._entries()).get((chart.name, chart.version, chart.digest))
        return await self._source.provenance(entry) if entry else None

    async def _entries(self) -> Mapping[tuple[str, str, Digest | None], ChartVersion]:
        async with self._once:
            if self._listed is None:
                try:
                    index = (await poll(self._http, self._url, {})).index
                    self._listed = {
                        (one.name, one.version, one.digest): one for one in (index.entries if index else ())
                    }
                except MirrordError as error:
                    self._listed = error
        if isinstance(self._listed, MissingError):
            return {}  # a repository that nobody has written to yet
        if isinstance(self._listed, MirrordError):
            raise self._listed
        return self._listed


class _Registry:
    """Repositories of a registry: an archive is there as long as its blob is, whatever its tag means by now."""

    def __init__(self, services: Services, url: str, *, alone: bool = False, named: bool = False) -> None:
        """`alone`: the URL is the repository of one chart; `named`: only what a version's tag stands for is there."""
        self._http, self._reference, self._alone = services.http, Reference.parse(url[len(OCI) :]), alone
        self._named = named

    def _repository(self, chart: ChartVersion) -> Repository:
        path = self._reference.path if self._alone else below(self._reference.path, chart.name)
        return Repository(self._http, Reference(self._reference.domain, path))

    async def find(self, chart: ChartVersion) -> ArchiveFound | None:
        assert chart.digest is not None
        repository = self._repository(chart)
        if self._named and all(one.digest != chart.digest for one in (await repository.get_manifest(chart.tag)).blobs):
            return None
        size = await blob_size(Endpoint.at(self._http, repository.reference, PULL), chart.digest)
        if size is None:
            return None
        if size > LONGEST_ARCHIVE:
            raise DigestError(f"{repository.reference.name}: {chart.digest} has {size} bytes, which no chart has")
        layer = Descriptor(CHART_TYPES[0], chart.digest, size)
        name = f"{repository.reference.name}: blob {chart.digest}"
        return ArchiveFound(BlobSource(chart.digest, size, partial(repository.open_blob, layer), name=name))

    async def provenance(self, chart: ChartVersion) -> bytes | None:
        repository = self._repository(chart)
        blobs = (await repository.get_manifest(chart.tag)).blobs
        prov = next((blob for blob in blobs if blob.media_type == PROVENANCE_TYPE), None)
        small = prov is not None and prov.size <= LONGEST_PROVENANCE
        return await repository.get_blob(prov) if prov is not None and small else None
