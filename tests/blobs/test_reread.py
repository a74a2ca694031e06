"""Readers that are behind read the file together."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.blobs.hashed_file import CHUNK
from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.source import BlobSource
from mirrord.events import Events
from mirrord.model.digest import Digest

DATA = os.urandom(6 << 20)
CLIENTS = 20


@contextlib.asynccontextmanager
async def opened(offset: int) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
    """Give the rest of the content at once."""

    async def chunks() -> AsyncIterator[bytes]:
        yield DATA[offset:]

    yield len(DATA), chunks()


async def test_those_behind_read_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that begin together read each piece of the file once, wherever they begin; few pieces stay in memory."""
    pool, reads, real = SpoolPool(tmp_path, 100 << 20, Events()), 0, os.pread

    def counted(handle: int, count: int, at: int) -> bytes:
        nonlocal reads
        reads += 1
        return real(handle, count, at)

    async def got(offset: int) -> bytes:
        source, data = BlobSource(Digest.of(DATA), len(DATA), opened), b""
        async with pool.reader(source, "client", client=True, offset=offset) as reader:
            await reader.answered()
            while not reader.spool.verified:
                await reader.spool.changed()
            reader.spool.recent.clear()  # it came long ago
            async for chunk in reader.chunks():
                data += chunk
                await asyncio.sleep(0)
        return data

    monkeypatch.setattr(os, "pread", counted)
    offsets = [n % 2 * 1000 for n in range(CLIENTS)]
    for offset, data in zip(offsets, await asyncio.gather(*map(got, offsets)), strict=True):
        assert data == DATA[offset:]
    assert reads <= len(DATA) // CHUNK + 1


@pytest.mark.parametrize(("clients", "largest"), [(1, 6 << 20), (200, 6 << 20), (201, 128 << 10), (900, 32 << 10)])
async def test_many_hold_little(tmp_path: Path, clients: int, largest: int) -> None:
    """What all clients of one blob hold at a time does not grow with their number: each may be at another place."""
    pool, sizes = SpoolPool(tmp_path, 100 << 20, Events()), set[int]()
    source, joined = BlobSource(Digest.of(DATA), len(DATA), opened), asyncio.Barrier(clients)

    async def got(offset: int) -> None:
        async with pool.reader(source, "client", client=True, offset=offset) as reader:
            await joined.wait()
            async for chunk in reader.chunks():
                sizes.add(len(chunk))
                assert chunk == DATA[offset : offset + len(chunk)]
                offset += len(chunk)
            await joined.wait()
        assert offset == len(DATA)

    await asyncio.gather(*(got(len(DATA) - 300_000 * (n % 20 + 1)) for n in range(clients)))
    assert max(sizes) <= largest
    assert max(sizes) > 16 << 10
