"""A download goes on where it broke, and never with something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext

import pytest

from mirrord.errors import ContentError, PreemptedError, RestartedError
from mirrord.testing.chart_repository import ChartRepository
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.http.limiter import PREEMPTIBLE_AFTER
from mirrord.wire.http.message import HttpRequest
from mirrord.wire.http.pace import Party
from mirrord.wire.http.resume import Validator, from_offset

DATA = bytes(range(256)) * 100


@pytest.fixture
async def server() -> AsyncIterator[ChartRepository]:
    async with ChartRepository() as made:
        made.files["file"] = DATA
        yield made


async def get(server: ChartRepository, offset: int, same: Validator | None = None) -> tuple[int | None, bytes]:
    call = HttpRequest("GET", f"{server.url}/file", server.host)
    async with Http(HostBook()) as http, from_offset(http, call, offset, same=same) as (size, chunks):
        return size, b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("offset", [0, 1, 1000, len(DATA) - 1])
async def test_from_an_offset(offset: int, ranges: bool, server: ChartRepository) -> None:
    """The bytes from an offset on come, and the length of the whole, also from a server that ignores Range."""
    server.ranges = ranges
    assert await get(server, offset) == (len(DATA), DATA[offset:])
    assert [one.headers.get("range") for one in server.log] == [f"bytes={offset}-" if offset else None]


@pytest.mark.parametrize("ranges", [True, False])
async def test_the_rest_is_not_read(ranges: bool, server: ChartRepository) -> None:
    """Another request gets its place at the host, but not where each further try would send all of it again."""
    server.ranges, server.files["file"], server.files["small"] = ranges, DATA * 400, b"x"
    book = HostBook({server.host: HostPolicy(server.host, requests=1)})
    call, small = (HttpRequest("GET", f"{server.url}/{name}", server.host) for name in ("file", "small"))
    async with Http(book, party=Party.FRONT) as http, from_offset(http, call, 1) as (_, chunks):
        read = bytearray(await anext(chunks))
        with nullcontext() if ranges else pytest.raises(TimeoutError):
            async with asyncio.timeout(20 if ranges else 4 * PREEMPTIBLE_AFTER):
                assert (await http.fetch(small)).body == b"x"
        with pytest.raises(PreemptedError) if ranges else nullcontext():
            async for chunk in chunks:
                read += chunk
    assert (DATA * 400)[1:].startswith(read)
    assert (len(read) == len(DATA) * 400 - 1) is not ranges


@pytest.mark.parametrize("ranges", [True, False])
async def test_the_same(ranges: bool, server: ChartRepository) -> None:
    """Where no digest tells, the server is asked to go on only if it is still the same, by its ETag."""
    server.ranges, same = ranges, Validator()
    await get(server, 0, same)
    assert await get(server, 1000, same) == (len(DATA), DATA[1000:])
    assert server.log[-1].headers["if-range"] == same.etag != ""


@pytest.mark.parametrize("ranges", [True, False])
async def test_another_one(ranges: bool, server: ChartRepository) -> None:
    """What changed meanwhile is not gone on with, whether the server heeds If-Range or not."""
    server.ranges, same = ranges, Validator()
    await get(server, 0, same)
    server.files["file"] = DATA[::-1]
    with pytest.raises(RestartedError, match="changed while it was read"):
        await get(server, 1000, same)
    assert await get(server, 0, same) == (len(DATA), DATA[::-1])
    assert await get(server, 1000, same) == (len(DATA), DATA[::-1][1000:])


@pytest.mark.parametrize("etag", ["", 'W/"about"'], ids=["none", "a weak one"])
async def test_nobody_knows(etag: str, server: ChartRepository) -> None:
    """Without a strong ETag nothing is gone on with, and nothing asked."""
    server.tags, same = False, Validator()
    if etag:
        server.faults.on("GET", "file").header("ETag", etag)
    await get(server, 0, same)
    with pytest.raises(RestartedError, match="sent no ETag"):
        await get(server, 1000, same)
    assert len(server.log) == 1


async def test_another_part(server: ChartRepository) -> None:
    """A part that was not asked for is not taken for the one that was."""
    server.faults.on("GET", "file").header("Content-Range", "bytes 7-99/25600")
    with pytest.raises(ContentError, match="another part"):
        await get(server, 1000)
