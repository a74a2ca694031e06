"""Reads single things of the listed upstreams for clients, never with what a client sent.

The services are asked for at each request: a reload replaces the way to upstreams, and a transfer goes on with it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from mirrord.blobs.source import BlobSource
from mirrord.errors import (
    ContentError,
    MissingError,
    RefusedError,
    StalledError,
    TakenDownError,
    TransportError,
    UntrustedError,
)
from mirrord.events import FrontBytes
from mirrord.model.digest import Digest
from mirrord.syncer.values import Services
from mirrord.syncers.image.front.answers import BLOB
from mirrord.wire.http.message import HttpResponse, permanent
from mirrord.wire.number import whole
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.endpoint import PULL, Endpoint, header_size
from mirrord.wire.oci.manifest import Manifest
from mirrord.wire.oci.paging import PAGE_LIMIT
from mirrord.wire.oci.reference import Reference

PATIENT: Final = 20.0
"""Seconds that a client waits for an upstream where nothing is in the cache."""
IMPATIENT: Final = 8.0
"""Seconds that it waits where something is."""
FIRST: Final = 28.0
"""Seconds until an upstream begins to send a blob: one that reads all of it from its own upstream first may need 25."""
_RANGE = re.compile(r"bytes 0-[0-9]{1,18}/(?P<total>[0-9]{1,18})")


class UpstreamReader:
    """The way to repositories at upstreams."""

    def __init__(self, services: Callable[[], Services], kind: str) -> None:
        """Use the services in use, and what `front:` has for `kind`."""
        self._services, self._kind = services, kind

    async def head_manifest(self, reference: Reference, ref: str, seconds: float) -> Descriptor:
        """Return what a tag or digest points to. Raises MissingError if there is none, else as `Repository`."""
        found = await self._repository(reference).head_manifest(ref, seconds)
        if found is None:
            raise MissingError(f"{reference.name}: {ref} does not exist", 404)
        self.check(found.digest)
        return found

    async def get_manifest(self, reference: Reference, ref: str, seconds: float) -> Manifest:
        """Return a manifest, its bytes checked. Raises as `Repository`."""
        manifest = await self._repository(reference).get_manifest(ref, seconds)
        self._count(reference.domain, len(manifest.body))
        self.check(manifest.digest, *([manifest.subject.digest] if manifest.subject else ()))
        return manifest

    async def blob_size(self, reference: Reference, digest: Digest) -> int:
        """Return the size of a blob, which proves that this repository shows it to us.

        There are registries that refuse HEAD, and answer GET (distribution/distribution#4383).

        Raises:
            MissingError: it is not there.
            ContentError: the upstream does not say how many bytes it has.
            MirrordError: as `Http.fetch`.
        """
        endpoint = self._endpoint(reference)
        try:
            answer = await endpoint.http.fetch(endpoint.call("HEAD", f"blobs/{digest}", deadline=PATIENT))
            size = header_size(answer)
        except MissingError:
            raise
        except RefusedError:
            size = None
        return await self._size_by_range(endpoint, digest) if size is None else size

    def blob(
        self, reference: Reference, digest: Digest, size: int, shown: Callable[[], None], waits: Callable[[], bool]
    ) -> BlobSource:
        """Return the source of a blob.

        `shown` is called when upstream begins to send it. While a client `waits` for that, an upstream is not asked
        once more after the tries of `Http`, or when it is silent.
        """
        opened = partial(self._open_blob, reference, Descriptor(BLOB, digest, size), shown, waits)
        origin, count = reference.domain, partial(self._count, reference.domain)
        return BlobSource(digest, size, opened, on_bytes=count, name=reference.name, origin=origin, same_origin=True)

    async def page(self, reference: Reference, rest: str, query: str, headers: Mapping[str, str]) -> HttpResponse:
        """Return one page of a list of the repository."""
        endpoint, where = self._endpoint(reference), f"{rest}?{query}" if query else rest
        call = endpoint.call("GET", where, headers=headers, cap=PAGE_LIMIT, deadline=PATIENT)
        return await endpoint.http.fetch(call)

    @asynccontextmanager
    async def _open_blob(
        self, reference: Reference, blob: Descriptor, shown: Callable[[], None], waits: Callable[[], bool], offset: int
    ) -> AsyncIterator[tuple[int | None, AsyncIterator[bytes]]]:
        begun = False
        try:
            async with self._repository(reference).open_blob(blob, offset, FIRST) as opened:
                begun = True
                shown()
                yield opened
        except TransportError as error:
            if waits() and (not begun or isinstance(error, StalledError)):
                permanent(error)
            raise

    async def _size_by_range(self, endpoint: Endpoint, digest: Digest) -> int:
        call = endpoint.call("GET", f"blobs/{digest}", headers={"Range": "bytes=0-0"}, ok=(200, 206), first=FIRST)
        async with endpoint.http.stream(call) as incoming:
            part = _RANGE.fullmatch(incoming.headers.get("content-range", ""))
            total = part["total"] if part else ""
            size = whole(total if incoming.status == 206 else incoming.headers.get("content-length", ""))
        if size is None:
            raise ContentError(f"{endpoint.reference.name}: blob {digest}: its size is not announced")
        return size

    def _repository(self, reference: Reference) -> Repository:
        endpoint = self._endpoint(reference)
        return Repository(endpoint.http, reference)

    def _endpoint(self, reference: Reference) -> Endpoint:
        """Return where a repository answers; only what `front:` lists now is asked."""
        services = self._services()
        rules = services.fronts.get(self._kind)
        if rules is None or reference.domain not in rules.upstreams or services.upstreams is None:
            raise UntrustedError(f"{reference.domain} is not under front.{self._kind}.upstreams", "upstream")
        return Endpoint.at(services.upstreams, reference, PULL)

    def check(self, *digests: Digest) -> None:
        """Keep nothing that was taken down, under whatever name it is asked for, and no signature of it.

        Raises:
            TakenDownError: it was; says why.
        """
        denied = self._services().denied
        if denied and (entry := next(filter(None, (denied.manifest("", digest) for digest in digests)), None)):
            raise TakenDownError(entry.reason)

    def _count(self, upstream: str, count: int) -> None:
        self._services().events.emit(FrontBytes(upstream, "from_upstream", count))
