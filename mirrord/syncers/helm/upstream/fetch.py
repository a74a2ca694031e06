"""Gets chart archives: hashed while they stream into their spools, compared, and only then looked into.

A whole archive is checked before any target sees a byte of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from mirrord import errors
from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.source import BlobSource, Opener
from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import (
    CHART_TYPES,
    LONGEST_ARCHIVE,
    LONGEST_PROVENANCE,
    PROVENANCE_TYPE,
    ChartVersion,
    is_oci,
)
from mirrord.syncers.helm.plan.survey import ChartArchive
from mirrord.syncers.helm.upstream.archive import brought, check_provenance, is_signed
from mirrord.syncers.helm.upstream.location import ChartLocation, home, locate, locate_oci
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest, permanent
from mirrord.wire.http.resume import Validator, from_offset
from mirrord.wire.number import whole
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.manifest import Manifest

PATIENCE: Final = 30.0
"""Seconds for a provenance, which most charts do not have: a server that is silent about it must not hold up charts."""
SILENT: Final = 3
"""So many silences in a row are enough: then its host is not asked for any more."""
_ACCEPT = "application/gzip, application/octet-stream, */*;q=0.5"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an archive is: what messages call it, how to open it, how to get its provenance."""

    name: str
    open: Opener
    provenance: Callable[[], Awaitable[bytes | None]]


class ChartSource:
    """The archives of one repository.

    Args:
        http: the way to other machines.
        repository: the repository's URL: the folder that holds index.yaml, or `oci://host/path`.
        pass_credentials: send the repository's credentials to other hosts that its index names, as helm's
            `--pass-credentials` does (GHSA-56hp-xqp3-w2jf).
        on_bytes: called with each number of bytes that came.
    """

    def __init__(
        self,
        http: Http,
        repository: str,
        *,
        pass_credentials: bool = False,
        on_bytes: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self._http, self._repository, self._on_bytes = http, repository, on_bytes
        self._pass_credentials = pass_credentials
        self._silent = Counter[str]()

    @asynccontextmanager
    async def archive(
        self,
        chart: ChartVersion,
        spools: SpoolPool,
        group: str,
        also: Collection[Digest] = (),
        here: Path | None = None,
        *,
        signed: bool = False,
    ) -> AsyncIterator[ChartArchive]:
        """Get an archive into `spools` for `group`, check it, and say how it is had there.

        Its digest must be the entry's or one of `also` (other entries of the same version: the bytes decide which of
        them is right); an entry without digest takes what comes. `here` is a file that has the entry's digest and was
        checked before: then the archive is not fetched again. With `signed` its provenance is asked for at the same
        time, since many charts are so small that they cost one round trip.

        Raises:
            MissingError: it is listed and not there.
            DeniedError: credentials are missing, wrong, or not sent to that host.
            UntrustedError: the entry leads to where it must not.
            ContentError: as `brought`, or the entry names no place to get it from.
            MirrordError: as `brought`.
        """
        digests = {one for one in (chart.digest, *also) if one is not None}
        place = await self._place(chart, None if digests else Validator())
        async with _ahead(place.provenance, early=signed) as provenance:
            if here is not None and chart.digest is not None:
                size = (await asyncio.to_thread(here.stat)).st_size
                source = BlobSource(chart.digest, size, file=here)
                yield ChartArchive(chart, source, chart.digest, size, partial(_proven, provenance, chart, chart.digest))
                return
            source = self._blob(place)
            digest, size, odd = await brought(chart, source, digests, spools, group)
            proven = partial(_proven, provenance, chart, digest)
            yield ChartArchive(chart, replace(source, digest=digest, size=size), digest, size, proven, odd)

    async def blob(self, chart: ChartVersion) -> BlobSource:
        """Return how an archive is read; nothing of it is checked. Raises as `archive`, without reading it."""
        return self._blob(await self._place(chart, None))

    async def provenance(self, chart: ChartVersion) -> bytes | None:
        """Return a provenance as it is, None when there is none. Raises as `archive`."""
        return await (await self._place(chart, None)).provenance()

    def _blob(self, place: _Place) -> BlobSource:
        opener = partial(_asked, place.open)
        return BlobSource(None, None, opener, limit=LONGEST_ARCHIVE, on_bytes=self._on_bytes, name=place.name)

    async def size(self, chart: ChartVersion) -> int | None:
        """Ask for the size of an archive; None when the server does not give it."""
        try:
            return await self._size(chart)
        except (errors.MirrordError, IndexError):
            return None

    async def lacks(self, chart: ChartVersion) -> bool:
        """Whether an archive cannot be had: it is not there (S3 says 403), or nobody answers.

        A server that has no HEAD does not tell, and lacks nothing.
        """
        try:
            await self._size(chart)
        except (errors.MissingError, errors.DeniedError, errors.TransportError):
            return True
        except (errors.MirrordError, IndexError):
            pass
        return False

    async def _size(self, chart: ChartVersion) -> int | None:
        if is_oci(chart.urls[0]):
            reference = locate_oci(self._repository, chart.urls[0], chart.version, self._http.book)
            repository = Repository(self._http, reference)
            layer = _layer(await repository.get_manifest(reference.digest or reference.tag or ""), CHART_TYPES)
            return layer.size if layer else None
        location = locate(self._repository, chart.urls[0], self._http.book)
        call = HttpRequest("HEAD", location.url, location.host, headers=await self._headers(location))
        return whole((await self._http.fetch(call)).headers.get("content-length", ""))

    async def _place(self, chart: ChartVersion, same: Validator | None) -> _Place:
        """Find out where the archive is; helm looks at the first URL only, and so do we.

        `same` sees to it that what comes is of one file where no digest does.
        """
        if not chart.urls:
            raise errors.ContentError(f"{chart.item}: its entry has no URL")
        try:
            if is_oci(chart.urls[0]):
                return await self._in_registry(chart)
            location = locate(self._repository, chart.urls[0], self._http.book)
        except errors.MirrordError as error:
            errors.about(error, chart.item)
            raise
        call = HttpRequest("GET", location.url, location.host, headers=await self._headers(location))
        beside = replace(call, url=location.provenance.url, cap=LONGEST_PROVENANCE, deadline=PATIENCE)
        return _Place(str(location), partial(self._open, call, location, same), partial(self._beside, beside))

    @asynccontextmanager
    async def _open(
        self, call: HttpRequest, location: ChartLocation, same: Validator | None, offset: int
    ) -> AsyncIterator[tuple[int | None, AsyncIterator[bytes]]]:
        # Taken as it is: some servers say `Content-Encoding: gzip` of a .tgz because of its name.
        plain = replace(call, encoded=True)
        try:
            async with from_offset(self._http, plain, offset, same=same) as answer:
                yield answer
        except errors.DeniedError as error:
            if not location.foreign or self._pass_credentials:
                raise
            raise errors.DeniedError(
                f"{error}; the credentials of {self._repository_host} are not sent there: write credentials for "
                f"{location.host} under hosts:, or `pass_credentials: true` to send it the repository's",
                error.status,
            ) from error

    async def _beside(self, call: HttpRequest) -> bytes | None:
        """Get the provenance; any other answer means that there is none (S3 answers 403)."""
        if self._silent[call.host] >= SILENT:
            raise errors.StalledError(
                f"{call.host}: did not answer for other provenance files, so it was not asked for this one"
            )
        try:
            answer = await self._http.fetch(call)
        except errors.RefusedError:
            self._silent[call.host] = 0
            return None
        except errors.StalledError:
            self._silent[call.host] += 1
            raise
        except errors.TooLargeError as error:
            raise errors.TooLargeError(
                f"{call.host}: a provenance file of more than {LONGEST_PROVENANCE} bytes"
            ) from error
        self._silent[call.host] = 0
        return answer.body if is_signed(answer.body) else None

    async def _in_registry(self, chart: ChartVersion) -> _Place:
        reference = locate_oci(self._repository, chart.urls[0], chart.version, self._http.book)
        repository = Repository(self._http, reference)
        manifest = await repository.get_manifest(reference.digest or reference.tag or "")
        layer = _layer(manifest, CHART_TYPES)
        if layer is None:
            raise errors.ContentError(f"{reference} is no chart: no layer of its manifest is an archive")

        async def provenance() -> bytes | None:
            prov = _layer(manifest, (PROVENANCE_TYPE,))
            if prov is None:
                return None
            if prov.size > LONGEST_PROVENANCE:
                raise errors.TooLargeError(f"{reference}: a provenance of more than {LONGEST_PROVENANCE} bytes")
            try:
                return await repository.get_blob(prov)
            except errors.DigestError as error:
                raise errors.DigestError(f"{reference}: its provenance is not {prov.digest}") from error

        return _Place(str(reference), partial(repository.open_blob, layer), provenance)

    async def _headers(self, location: ChartLocation) -> Mapping[str, str]:
        """Return the request's headers; with `pass_credentials` another host gets the credentials, too."""
        headers = {"Accept": _ACCEPT}
        if location.foreign and self._pass_credentials and await self._http.book.credential(location.host) is None:
            credential = await self._http.book.credential(self._repository_host)
            if credential is not None and not credential.identity:
                headers["Authorization"] = credential.basic
        return headers

    @property
    def _repository_host(self) -> str:
        return home(self._repository, self._http.book).authority


async def _proven(ask: Callable[[], Awaitable[bytes | None]], chart: ChartVersion, digest: Digest) -> bytes | None:
    body = await ask()
    if body is not None:
        check_provenance(body, chart.file, digest)
    return body


@asynccontextmanager
async def _ahead(
    ask: Callable[[], Awaitable[bytes | None]], *, early: bool
) -> AsyncIterator[Callable[[], Awaitable[bytes | None]]]:
    """Yield a function that asks; with `early` the request is sent at once, and is cancelled at the end if unused."""
    if not early:
        yield ask
        return
    asked = asyncio.ensure_future(ask())
    try:
        yield lambda: asyncio.shield(asked)
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


@asynccontextmanager
async def _asked(opener: Opener, offset: int) -> AsyncIterator[tuple[int | None, AsyncIterator[bytes]]]:
    """Open a source; what it says to that is its last word, since `Http` tries often enough."""
    opened = False
    try:
        async with opener(offset) as answer:
            opened = True
            yield answer
    except errors.TransportError as error:
        if not opened and not isinstance(error, errors.RestartedError):
            permanent(error)
        raise


def _layer(manifest: Manifest, types: Collection[str]) -> Descriptor | None:
    return next((blob for blob in manifest.blobs if blob.media_type in types), None)
