"""Compares the targets of a chart mirror with the record: versions, archives and their bytes; upstream is not asked."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

from mirrord.blobs.store import Stored, read_stored
from mirrord.errors import DigestError, MirrordError, MissingError, RefusedError, ThrottledError, UnreachableError
from mirrord.files import LocalFile
from mirrord.model.digest import Digest
from mirrord.model.memory import LastSeen
from mirrord.model.verification import Level
from mirrord.plan.semver import valid_version
from mirrord.syncer.inspection import Inspection
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.helm.kept import RunNotes, files_of
from mirrord.syncers.helm.names import (
    CHARTS,
    LONGEST_ARCHIVE,
    LONGEST_PROVENANCE,
    PROVENANCE,
    PROVENANCE_TYPE,
    ChartVersion,
    api_of,
    place_of,
    repository_of,
)
from mirrord.syncers.helm.transfer.inventory import Visit, open_target
from mirrord.syncers.helm.transfer.oci import repository_at
from mirrord.syncers.helm.transfer.target import Listing, Reading
from mirrord.transfer.fanout import Workers, deliberate, together
from mirrord.wire.http.message import HttpRequest
from mirrord.wire.number import whole
from mirrord.wire.oci.client import Repository
from mirrord.wire.origin import check_url

AT_ONCE: Final = 8
_END: Final = b"-----END PGP SIGNATURE-----"  # of a provenance (helm's docs)


async def look(mirror: Mirror, services: Services, inspection: Inspection, *, reading: Reading) -> None:
    """Compare every target with the record; see `Verifies.look`."""
    await together(*(_at_target(mirror, target, services, inspection, reading) for target in mirror.targets))


async def _at_target(
    mirror: Mirror, target: Target, services: Services, inspection: Inspection, reading: Reading
) -> None:
    """Look at one target; whatever fails there is a finding."""
    items, name = inspection.items(target.name), target.name
    charts = {item: chart for item in items if (chart := chart_of(item))}
    try:
        listed, held = await _held(mirror, target, services, reading, list(charts.values()))
    except Exception as error:  # noqa: BLE001 - a bug that one target brings out is a finding there
        inspection.untold(name, "", deliberate(error))
        return
    own = api_of(mirror, target) in (LOCAL, "directory")
    right: dict[str, LastSeen] = {}
    for item, seen in items.items():
        inspection.looked(name, item)
        there = held.get(item) if item in listed or not own else None
        if there is None:
            inspection.differs(name, item, "missing", f"{item} is not there", seen.digest)
        elif item not in charts:
            inspection.untold(name, item, f"{item} does not say where its version begins")
        elif there != seen.digest:
            moved = f"{item} is {there} there, and was {seen.digest} when it was mirrored"
            inspection.differs(name, item, "moved", moved, seen.digest)
        else:
            right[item] = seen
    if inspection.level is not Level.NAMES:
        archives = _Archives(mirror, target, services, listed)
        await _content(name, inspection, archives, {item: (charts[item], seen) for item, seen in right.items()})


async def _held(
    mirror: Mirror, target: Target, services: Services, reading: Reading, charts: Collection[ChartVersion]
) -> tuple[Mapping[str, ChartVersion], Mapping[str, Digest]]:
    """Return what the index of a target lists, and which archives it says it has. Raises as `ChartTarget.held`."""
    listed: dict[str, ChartVersion] = {}

    def seen(data: bytes) -> Listing:
        listing = reading(data)
        listed.update(listing.charts)
        return listing

    facts = dict(await RunNotes(mirror, services).of_target(target))
    place = open_target(replace(mirror, trust=0.0), target, services, Visit(seen, 0.0, facts=facts))
    return listed, await place.held(charts)


async def _content(
    target: str,
    inspection: Inspection,
    archives: _Archives,
    right: Mapping[str, tuple[ChartVersion, LastSeen]],
) -> None:
    """Look for each archive, and read and hash a sample of them; a target that does not answer is asked no more."""
    sizes: dict[str, int] = {}
    found = _Found(target, inspection)

    async def check(item: str) -> None:
        chart, seen = right[item]
        digest = Digest.parse(seen.digest)
        with found.reporting(item, "blob", seen.digest):
            size = None if found.gone else await archives.size(chart, digest)
            if size is not None and seen.size not in (None, size):
                raise DigestError(f"{item} has {size} bytes there, and had {seen.size} when it was mirrored")
            sizes[seen.digest] = size or seen.size or 0
            if seen.referrers and not found.gone:
                with found.reporting(item, "signature"):
                    await archives.check_provenance(chart, digest)

    await Workers(AT_ONCE).each(right, check)
    if inspection.level is not Level.BYTES or found.gone:
        return
    items: dict[str, list[str]] = {}  # by digest: versions may share an archive
    for item, (_, seen) in right.items():
        items.setdefault(seen.digest, []).append(item)
    for digest in inspection.sample(target, sizes):
        try:
            inspection.was_read(target, await archives.read(right[items[digest][0]][0], Digest.parse(digest)))
        except MirrordError as error:
            found.failed(items[digest], "blob" if isinstance(error, MissingError) else "bytes", error, digest)
        if found.gone:  # what is left is read the next time
            return


class _Found:
    """What is reported of one target."""

    def __init__(self, target: str, inspection: Inspection) -> None:
        self._target, self._inspection = target, inspection
        self.gone = False  # it does not answer, which was said

    @contextlib.contextmanager
    def reporting(self, item: str, code: str, digest: str = "") -> Iterator[None]:
        """Report an error about one item."""
        try:
            yield
        except MirrordError as error:
            self.failed([item], code, error, digest)

    def failed(self, items: Collection[str], code: str, error: MirrordError, digest: str) -> None:
        """Report an error; that the target does not answer once, whatever it was asked for."""
        if not isinstance(error, UnreachableError | ThrottledError):
            self._inspection.failed(self._target, items, code, error, digest)
        elif not self.gone:
            self.gone = True
            self._inspection.untold(self._target, "", error)


class _Archives:
    """The archives at one target."""

    def __init__(self, mirror: Mirror, target: Target, services: Services, listed: Mapping[str, ChartVersion]) -> None:
        self._api, self._place, self._services = api_of(mirror, target), place_of(mirror, target), services
        self._files = files_of(services, repository_of(mirror))
        self._listed = listed

    async def size(self, chart: ChartVersion, digest: Digest) -> int | None:
        """Return the size of an archive that is there, or None where that is unknown; MissingError: it is not."""
        if self._api == "oci":
            repository = self._repository(chart)
            sizes: dict[str, int] = {}
            for blob in (await repository.get_manifest(chart.tag)).blobs:
                if not await repository.has_blob(blob):
                    async with repository.open_blob(blob):
                        pass
                sizes[blob.digest] = blob.size
            return sizes.get(digest)
        if (file := await self._file(chart, digest)) is not None:
            return file.size
        request = HttpRequest("HEAD", self._url(chart), check_url(self._place).authority, encoded=True)
        with contextlib.suppress(RefusedError):  # a ChartMuseum has no HEAD, and says 404 to one
            headers = (await self._services.http.fetch(request)).headers
            return None if "content-encoding" in headers else whole(headers.get("content-length", ""))
        async with self._services.http.stream(replace(request, method="GET")):
            return None

    async def read(self, chart: ChartVersion, digest: Digest) -> int:
        """Read an archive, check its bytes, and return their number."""
        if (file := await self._file(chart, digest)) is not None:
            data = await read_stored(file, LONGEST_ARCHIVE)
            found, count = await asyncio.to_thread(Digest.of, data, digest.algorithm), len(data)
        elif self._api == "oci":
            repository = self._repository(chart)
            blobs = (await repository.get_manifest(chart.tag)).blobs
            blob = next((one for one in blobs if one.digest == digest), None)
            if blob is None:
                raise MissingError(f"{self._place}: the manifest of {chart.item} does not name {digest}")
            return len(await repository.get_blob(blob))
        else:
            hasher, count = hashlib.new(digest.algorithm), 0
            request = HttpRequest("GET", self._url(chart), check_url(self._place).authority, encoded=True)
            async with self._services.http.stream(request) as incoming:
                async for chunk in incoming.chunks():
                    hasher.update(chunk)
                    count += len(chunk)
                    if count > LONGEST_ARCHIVE:
                        break
            found = Digest(f"{digest.algorithm}:{hasher.hexdigest()}")
        if found != digest:
            raise DigestError(f"{self._place}: the {count} bytes of {chart.file} are not those of {digest}")
        return count

    async def check_provenance(self, chart: ChartVersion, digest: Digest) -> None:
        """Check that the provenance of an archive is there, whole and of this archive."""
        name = f"{chart.file}{PROVENANCE}"
        body = await self._provenance(chart, name)
        if body is None:
            raise MissingError(f"{self._place}: {name} is not there")
        if digest.hex.encode() not in body or _END not in body:
            raise DigestError(f"{self._place}: {name} is cut off, or is not of {digest}")

    async def _provenance(self, chart: ChartVersion, name: str) -> bytes | None:
        """Read a small file beside an archive, or the layer that stands for it."""
        if self._api == LOCAL:
            return await self._files.read(f"{CHARTS}/{name}") if self._files else None
        if self._api == "directory":
            file = await asyncio.to_thread(LocalFile.whole, Path(self._place) / CHARTS / name)
            return await read_stored(file, LONGEST_PROVENANCE) if file else None
        if self._api == "oci":
            repository = self._repository(chart)
            blobs = (await repository.get_manifest(chart.tag)).blobs
            signed = next((one for one in blobs if one.media_type == PROVENANCE_TYPE), None)
            return await repository.get_blob(signed) if signed and signed.size <= LONGEST_PROVENANCE else None
        parts = urlsplit(self._url(chart))
        url = parts._replace(path=f"{parts.path}{PROVENANCE}").geturl()
        request = HttpRequest("GET", url, check_url(self._place).authority, cap=LONGEST_PROVENANCE)
        return (await self._services.http.fetch(request)).body

    async def _file(self, chart: ChartVersion, digest: Digest) -> Stored | None:
        """Return an archive of our own, None for other places; MissingError: it is lost."""
        if self._api == LOCAL and self._files and self._services.blobs:
            lost = await self._services.blobs.missing([digest])
            file = None if lost else await self._services.blobs.find(digest)
        elif self._api == "directory":
            file = await asyncio.to_thread(LocalFile.whole, Path(self._place) / CHARTS / chart.file)
        else:
            return None
        if file is None:
            raise MissingError(f"{self._place}: {chart.file} is lost from the disk")
        return file

    def _repository(self, chart: ChartVersion) -> Repository:
        return repository_at(self._services.http, self._place, chart.name)

    def _url(self, chart: ChartVersion) -> str:
        listed = self._listed.get(chart.item)
        return urljoin(f"{self._place}/", listed.urls[0] if listed and listed.urls else f"{CHARTS}/{chart.file}")


def chart_of(item: str) -> ChartVersion | None:
    """Return the chart and the version that an item means: the version begins as early as one can; None without."""
    parts = item.split("-")
    for at in range(1, len(parts)):
        version = "-".join(parts[at:])
        if valid_version(version):
            name = "-".join(parts[:at])
            return ChartVersion(name, version, None, (), None, deprecated=False, entry={})
    return None
