"""A front's cache over a real way to a registry: what a client of a front does, without HTTP towards the client."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Self

from mirrord.blobs.content_cache import ContentCache, open_cache
from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.shared_cache import SharedCache
from mirrord.blobs.source import BlobSource
from mirrord.blobs.store import read_stored
from mirrord.events import Events
from mirrord.model.digest import Digest
from mirrord.testing import Registry
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.reference import Reference

MIB = 1 << 20
NAME = "up/app"


def data_of(seed: int, size: int = MIB) -> bytes:
    """Return content that differs in every part."""
    return b"".join(f"{seed} {number:12} ".encode().ljust(64) for number in range(size // 64))


def bytes_of(folder: Path) -> int:
    """Return the bytes of all files below a folder, as `du` counts them."""
    if not folder.exists():
        return 0
    names = subprocess.run(["find", folder, "-type", "f", "-print0"], check=True, capture_output=True)
    command = ["du", "--bytes", "--total", "--files0-from=-"]
    done = subprocess.run(command, input=names.stdout, check=True, capture_output=True)
    return int(done.stdout.splitlines()[-1].split()[0])


class CachedFront:
    """Clients that want blobs of one registry, a spool and a cache.

    Attributes:
        evicted: number and bytes of the entries of each eviction.
    """

    def __init__(
        self, registry: Registry, folder: Path, budget: int = 100 * MIB, shared: SharedCache | None = None
    ) -> None:
        self.shared, self.registry, self.folder, self.budget = shared, registry, folder, budget
        self.cache: ContentCache
        self.pool: SpoolPool
        self.evicted = asyncio.Queue[tuple[int, int]]()
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        spool = self.folder / "spool"
        spool.mkdir(parents=True, exist_ok=True)
        http = await self._stack.enter_async_context(Http(HostBook(), Events()))
        self._repository = Repository(http, Reference.parse(f"{self.registry.host}/{NAME}"))
        self.pool = SpoolPool(spool, self.budget, Events(), 0.05)
        self._stack.push_async_callback(self.pool.aclose)
        self.pool.cache.sweep()
        opened = open_cache(self.folder / "cache", self.pool, lambda *gone: self.evicted.put_nowait(gone), self.shared)
        self.cache = await self._stack.enter_async_context(opened)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def add(self, seed: int, size: int = MIB) -> Digest:
        """Let the registry have some content, and return its digest."""
        data = data_of(seed, size)
        digest = Digest.of(data)
        self.registry.content.put_blob(NAME, data)
        return digest

    def source(self, digest: Digest) -> BlobSource:
        """Return where the blob comes from."""
        blob = Descriptor("application/octet-stream", digest, len(self.registry.blobs[digest]))
        return BlobSource(digest, blob.size, partial(self._repository.open_blob, blob), name=NAME)

    @contextlib.asynccontextmanager
    async def asking(self, digest: Digest, offset: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give the bytes of a blob from an offset on, as a client gets them that asks now."""
        found = await self.cache.store.find(digest)
        if found is not None:
            yield self._whole(await read_stored(found, found.size), offset)
            return
        source = self.source(digest)
        async with self.pool.reader(source, "client", offset=offset, client=True, keep=self.cache.keep) as reader:
            yield reader.chunks()

    async def get(self, digest: Digest, offset: int = 0) -> bytes:
        """Return what a client gets."""
        async with self.asking(digest, offset) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def settled(self) -> None:
        """Wait until what is to be kept is kept."""
        while self.pool._keepers:
            await asyncio.gather(*self.pool._keepers, return_exceptions=True)
        if self.shared is not None:
            await self.shared.settled()

    @staticmethod
    async def _whole(data: bytes, offset: int) -> AsyncIterator[bytes]:
        yield data[offset:]
