"""A client's reader: begins anywhere, is never sent away, leaves without harm, and needs no room."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.reader import SpoolReader
from mirrord.blobs.source import BlobSource
from mirrord.blobs.spool import BUFFER, WITHHELD
from mirrord.errors import (
    BrokenError,
    DetachedError,
    DigestError,
    PreemptedError,
    RestartedError,
    StorageError,
    TransportError,
)
from mirrord.events import BytesRead, BytesSent, Events
from mirrord.model.digest import Digest

MIB = 1 << 20
STEP = 1 << 18
DATA = bytes(range(256)) * 4096 * 8  # 8 MiB


class Host:
    """A source that stops where it is told to, and counts what it is asked for and what it gave."""

    def __init__(self, data: bytes = DATA, *, stops_at: int = -1, lies: int = 0, says: int | None = None) -> None:
        self.data, self.stops_at, self.lies, self.says = data, stops_at, lies, says
        self.breaks_at: list[int] = []
        self.breaks_with: type[TransportError] = BrokenError
        self.asked: list[int] = []
        self.given = 0
        self.gate, self.stopped = asyncio.Event(), asyncio.Event()

    @contextlib.asynccontextmanager
    async def open(self, offset: int) -> AsyncIterator[tuple[int | None, AsyncIterator[bytes]]]:
        self.asked.append(offset)
        yield self.says, self._chunks(bytes(len(self.data)) if len(self.asked) <= self.lies else self.data, offset)

    async def _chunks(self, data: bytes, offset: int) -> AsyncIterator[bytes]:
        for at in range(offset, len(data), STEP):
            if at == self.stops_at:
                self.stopped.set()
                await self.gate.wait()
            if self.breaks_at and at == self.breaks_at[0]:
                del self.breaks_at[0]
                raise self.breaks_with("reset")
            await asyncio.sleep(0)
            self.given += len(data[at : at + STEP])
            yield data[at : at + STEP]
        if self.stops_at == len(data):
            self.stopped.set()
            await self.gate.wait()

    def source(self) -> BlobSource:
        return BlobSource(Digest.of(self.data), len(self.data), self.open)

    def unknown(self, limit: int | None = None) -> BlobSource:
        return BlobSource(None, None, self.open, limit=limit)


@pytest.fixture
def pool(tmp_path: Path) -> SpoolPool:
    return SpoolPool(tmp_path, 100 * MIB, Events())


async def taken(reader: SpoolReader) -> bytes:
    return b"".join([chunk async for chunk in reader.chunks()])


async def client(pool: SpoolPool, source: BlobSource, offset: int = 0) -> bytes:
    async with pool.reader(source, "client", client=True, offset=offset) as reader:
        return await taken(reader)


OTHER = Host(DATA[::-1])


@contextlib.asynccontextmanager
async def pinned(folder: Path, left: int = 0) -> AsyncIterator[SpoolPool]:
    """Make a pool of which a target that does not read on has all room but `left` bytes."""
    pool = SpoolPool(folder, len(OTHER.data) + left, Events(), grace=3600.0)
    async with pool.reader(OTHER.source(), "m/stuck") as reader:
        await reader.verified()
        yield pool
        assert not reader.detached


@pytest.mark.parametrize("offset", [0, 1, STEP, 3 * MIB + 7, len(DATA) - 1, len(DATA)])
@pytest.mark.parametrize("there", [True, False], ids=["in the cache", "on its way"])
async def test_begins_anywhere(offset: int, there: bool, pool: SpoolPool) -> None:
    """A client gets what it asks for from an offset on; the source is asked once, for all of it."""
    host = Host()
    if there:
        await client(pool, host.source())
    assert await client(pool, host.source(), offset) == DATA[offset:]
    assert (host.asked, host.given) == ([0], len(DATA))


async def test_clients_and_targets_share_one_read(tmp_path: Path) -> None:
    """Clients and targets read the same blob for one request; only what went to targets is told as sent."""
    events, sent, read, host = Events(), list[BytesSent](), list[BytesRead](), Host()
    events.listen(lambda event: sent.append(event) if isinstance(event, BytesSent) else None)
    events.listen(lambda event: read.append(event) if isinstance(event, BytesRead) else None)
    pool = SpoolPool(tmp_path, 100 * MIB, events)

    async def target() -> bytes:
        async with pool.reader(host.source(), "m/t") as reader:
            return await taken(reader)

    assert set(await asyncio.gather(client(pool, host.source()), target(), client(pool, host.source()))) == {DATA}
    assert (host.asked, sum(event.fresh for event in read)) == ([0], len(DATA))
    assert {event.target for event in sent} == {"m/t"}
    assert sum(event.fresh for event in sent) == len(DATA)


async def test_is_never_sent_away(tmp_path: Path) -> None:
    """A target that lags is sent away for others who need room, a client that lags is not."""
    pool, host, following = SpoolPool(tmp_path, 8 * MIB, Events(), grace=0.0), Host(), Host(DATA[::-1])
    begun = asyncio.Event()

    async def lags() -> None:
        async with pool.reader(host.source(), "m/t") as reader:
            await anext(reader.chunks())
            begun.set()
            await asyncio.Event().wait()

    async with pool.reader(host.source(), "client", client=True) as slow:
        lagging = asyncio.create_task(lags())
        chunks = slow.chunks()
        await anext(chunks)
        await begun.wait()
        while not slow.spool.verified:
            await slow.spool.changed()
        wanting = asyncio.create_task(target_of(pool, following.source()))
        with pytest.raises(DetachedError):
            await lagging
        assert not slow.detached
        assert await rest(chunks) > 0
        assert slow.position == len(DATA)
        assert not following.asked
    assert await wanting == DATA[::-1]


async def rest(chunks: AsyncIterator[bytes]) -> int:
    """Return how many more bytes come, a chunk a turn of the loop."""
    count = 0
    async for chunk in chunks:
        count += len(chunk)
        await asyncio.sleep(0)
    return count


async def target_of(pool: SpoolPool, source: BlobSource) -> bytes:
    async with pool.reader(source, "m/next") as reader:
        return await taken(reader)


async def test_wrong_bytes_cut_it_off(pool: SpoolPool) -> None:
    """A client that has got wrong bytes is told so, and never gets the last of them."""
    host = Host(lies=1, stops_at=4 * MIB)
    async with pool.reader(host.source(), "client", client=True) as reader:
        chunks = reader.chunks()
        await anext(chunks)
        host.gate.set()
        with pytest.raises(RestartedError, match="received wrong bytes"):
            await rest(chunks)
    assert reader.position <= len(DATA) - WITHHELD


@pytest.mark.parametrize("lies", [0, 9], ids=["right", "wrong"])
async def test_the_last_chunk_is_withheld(lies: int, pool: SpoolPool) -> None:
    """A client never has all of a blob before it is verified, even if its source has sent all and does not end."""
    host, got = Host(stops_at=len(DATA), lies=lies), bytearray()
    async with pool.reader(host.source(), "client", client=True) as reader:

        async def read() -> None:
            async for chunk in reader.chunks():
                got.extend(chunk)

        reading = asyncio.create_task(read())
        while reader.spool.written < len(DATA):
            await reader.spool.changed()
        while not got:  # noqa: ASYNC110 - a thread reads it
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(got) <= len(DATA) - (1 << 16)
        host.gate.set()
        if lies:
            with pytest.raises(RestartedError):
                await reading
        else:
            await reading
            assert got == DATA


async def test_its_leaving_stops_no_other(pool: SpoolPool) -> None:
    """Whoever reads the same blob has it for the same request when the client that began it leaves."""
    host = Host(stops_at=MIB)
    async with pool.reader(host.source(), "client", client=True) as leaving:
        await anext(leaving.chunks())
        staying = asyncio.create_task(client(pool, host.source()))
        await host.stopped.wait()
    host.gate.set()
    assert await staying == DATA
    assert host.asked == [0]


async def test_more_than_half_is_finished_for_who_keeps_it(tmp_path: Path) -> None:
    """What clients began is finished for whom it is kept, once, though all clients leave, and for one request."""
    host, kept, pool = Host(stops_at=5 * MIB), list[bytes](), SpoolPool(tmp_path, 100 * MIB, Events(), 0.0)

    async def keep(reader: SpoolReader) -> bool:
        kept.append((await reader.verified()).read_bytes())
        return True

    async with (
        pool.reader(host.source(), "client", client=True, keep=keep) as one,
        pool.reader(host.source(), "client", client=True, keep=keep) as two,
    ):
        await anext(one.chunks())
        await anext(two.chunks())
        spool = one.spool
        while spool.written < 5 * MIB:
            await spool.changed()
    for _ in range(10):  # until nobody may come back for a next part
        await asyncio.sleep(0)
    assert spool.error is None
    host.gate.set()
    while not kept:
        await spool.changed()
    assert kept == [DATA]
    assert (host.asked, host.given) == ([0], len(DATA))


async def test_less_than_half_is_not_finished_for_who_keeps_it(tmp_path: Path) -> None:
    """A blob that nobody waits for is stopped at half or less; the next client gets the rest, and it is kept then."""
    host, kept, pool = Host(stops_at=4 * MIB), asyncio.Queue[bytes](), SpoolPool(tmp_path, 100 * MIB, Events(), 0.0)

    async def keep(reader: SpoolReader) -> bool:
        kept.put_nowait((await reader.verified()).read_bytes())
        return True

    async with pool.reader(host.source(), "client", client=True, keep=keep) as reader:
        await anext(reader.chunks())
        await host.stopped.wait()
        while reader.spool.written < 4 * MIB:
            await reader.spool.changed()
    while reader.spool.error is None:
        await reader.spool.changed()
    host.gate.set()
    async with pool.reader(host.source(), "client", client=True, keep=keep) as reader:
        assert await taken(reader) == DATA
        assert await kept.get() == DATA
    assert kept.empty()
    assert (host.asked, host.given) == ([0, 4 * MIB], len(DATA))


async def test_a_client_that_reads_parts(tmp_path: Path) -> None:
    """A client that asks for one part after another, and leaves between them, costs one request."""
    host, kept = Host(), asyncio.Queue[bytes]()
    pool = SpoolPool(tmp_path, 100 * MIB, Events(), grace=3600.0)

    async def keep(reader: SpoolReader) -> bool:
        kept.put_nowait((await reader.verified()).read_bytes())
        return True

    got = b""
    while len(got) < len(DATA):
        async with pool.reader(host.source(), "client", client=True, offset=len(got), keep=keep) as reader:
            got += await anext(reader.chunks())
    assert got == DATA
    assert await kept.get() == DATA
    assert (host.asked, host.given) == ([0], len(DATA))


async def test_who_wants_none_keeps_nothing_alive(pool: SpoolPool) -> None:
    """Who would keep a blob may decline: then it ends with its clients, like one that nobody keeps."""
    host, times = Host(stops_at=5 * MIB), 0

    async def declines(_: SpoolReader) -> bool:
        nonlocal times
        times += 1
        return False

    async with (
        pool.reader(host.source(), "client", client=True, keep=declines) as reader,
        pool.reader(host.source(), "client", client=True, keep=declines) as other,
    ):
        await anext(other.chunks())
        await host.stopped.wait()
        while reader.spool.written < 5 * MIB:
            await reader.spool.changed()
    assert times == 1
    assert reader.spool.error is not None


async def test_without_one_it_ends(pool: SpoolPool) -> None:
    """A blob that nobody wants any more is not read to its end; who comes later goes on where it was."""
    host = Host(stops_at=MIB)
    async with pool.reader(host.source(), "client", client=True) as reader:
        await anext(reader.chunks())
        await host.stopped.wait()
        while reader.spool.written < MIB:
            await reader.spool.changed()
    host.gate.set()
    assert await client(pool, host.source()) == DATA
    assert (host.asked, host.given) == ([0, MIB], len(DATA))


async def test_what_cannot_be_kept_is_kept_the_next_time(pool: SpoolPool) -> None:
    """A store that fails hurts no client, and is given the blob again."""
    host, times = Host(), 0

    async def keep(reader: SpoolReader) -> bool:
        nonlocal times
        times += 1
        await reader.whole()
        raise StorageError("full")

    for _ in range(2):
        async with pool.reader(host.source(), "client", client=True, keep=keep) as reader:
            assert await taken(reader) == DATA
            await asyncio.sleep(0)
    assert (host.asked, times) == ([0], 2)


@pytest.mark.parametrize("offset", [0, 3 * MIB + 7])
@pytest.mark.parametrize("known", [True, False])
async def test_without_room_it_is_streamed(known: bool, offset: int, tmp_path: Path) -> None:
    """When all room is taken a client's blob goes through memory for one request, and nothing of it is kept."""
    async with pinned(tmp_path) as pool:
        host = Host(says=len(DATA))
        names = {file.name for file in tmp_path.iterdir()}
        assert await client(pool, host.source() if known else host.unknown(), offset) == DATA[offset:]
        assert {file.name for file in tmp_path.iterdir()} == names
        assert (host.asked, host.given) == ([0], len(DATA))
        await client(pool, host.source())
        assert host.asked == [0, 0]


async def test_larger_than_the_budget(tmp_path: Path) -> None:
    """A client gets also what is larger than the whole budget."""
    assert await client(SpoolPool(tmp_path, MIB, Events()), Host().source()) == DATA


async def test_nothing_is_kept_of_what_is_streamed(tmp_path: Path) -> None:
    """There is no file for who would keep it."""
    asked = False

    async def keep(_: SpoolReader) -> bool:
        nonlocal asked
        asked = True
        return False

    async with pinned(tmp_path) as pool, pool.reader(Host().source(), "c", client=True, keep=keep) as reader:
        assert await taken(reader) == DATA
    assert not asked


async def test_no_faster_than_the_client(tmp_path: Path) -> None:
    """The source of what is streamed has to wait for its client: only so much of it is ever in memory."""
    async with pinned(tmp_path) as pool:
        host, most, got = Host(), 0, 0
        async with pool.reader(host.source(), "client", client=True) as reader:
            async for chunk in reader.chunks():
                for _ in range(100):
                    await asyncio.sleep(0)
                most = max(most, host.given - got, reader.spool.recent.size)
                got += len(chunk)
        assert got == len(DATA)
        assert BUFFER / 2 < most <= BUFFER + 4 * STEP


@pytest.mark.parametrize("known", [True, False])
async def test_the_last_chunk_of_what_is_streamed_is_withheld(known: bool, tmp_path: Path) -> None:
    """Wrong bytes never make a whole download, also when they are streamed."""
    async with pinned(tmp_path) as pool:
        host = Host(lies=9) if known else Host(stops_at=len(DATA) - STEP)
        got = 0

        async def read() -> None:
            nonlocal got
            async with pool.reader(host.source() if known else host.unknown(), "c", client=True) as reader:
                async for chunk in reader.chunks():
                    got += len(chunk)

        reading = asyncio.create_task(read())
        if known:
            with pytest.raises((RestartedError, DigestError)):
                await reading
        else:
            await host.stopped.wait()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await asyncio.shield(reading)
            assert got <= len(DATA) - STEP - WITHHELD
            host.gate.set()
            await reading
        assert got <= len(DATA) - WITHHELD if known else got == len(DATA)


async def test_a_broken_source_of_what_is_streamed(tmp_path: Path) -> None:
    """It is gone on with where it broke, and the client notices nothing."""
    async with pinned(tmp_path) as pool:
        host = Host()
        host.breaks_at = [2 * MIB, 5 * MIB]
        assert await client(pool, host.source()) == DATA
        assert (host.asked, host.given) == ([0, 2 * MIB, 5 * MIB], len(DATA))


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_preempted_download_is_no_failure(streamed: bool, tmp_path: Path) -> None:
    """However often it happens, and however little came before: the rest is requested each time."""
    host = Host()
    host.breaks_with, host.breaks_at = PreemptedError, list(range(STEP, len(DATA), STEP))
    async with pinned(tmp_path, 0 if streamed else len(DATA)) as pool:
        assert await client(pool, host.source()) == DATA
    assert (host.asked, host.given) == (list(range(0, len(DATA), STEP)), len(DATA))


async def test_leaving_what_is_streamed_ends_it(tmp_path: Path) -> None:
    """The source is not read on for a client that has left."""
    async with pinned(tmp_path) as pool:
        host = Host()
        async with pool.reader(host.source(), "client", client=True) as reader:
            await anext(reader.chunks())
            task = next(task for task in asyncio.all_tasks() if task.get_name().startswith("read "))
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert host.given <= BUFFER + 4 * STEP


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
async def test_room_that_ends_half_way(known: bool, tmp_path: Path) -> None:
    """A blob of unknown length that outgrows the room is streamed from there on; its client gets it all, once."""
    async with pinned(tmp_path, left=5 * MIB) as pool:
        host = Host()
        source = BlobSource(Digest.of(DATA), None, host.open) if known else host.unknown()
        names = {file.name for file in tmp_path.iterdir()}
        async with pool.reader(source, "client", client=True) as reader:
            assert await taken(reader) == DATA
            assert reader.digest == Digest.of(DATA)
        assert (host.asked, host.given) == ([0], len(DATA))
        assert {file.name for file in tmp_path.iterdir()} == names


async def test_a_target_makes_way_for_what_is_streamed(tmp_path: Path) -> None:
    """When a blob that both read is streamed, the target comes back later, and the client reads on."""
    async with pinned(tmp_path, left=5 * MIB) as pool:
        host = Host()
        source = host.unknown()
        async with (
            pool.reader(source, "client", client=True) as reader,
            asyncio.TaskGroup() as group,
        ):
            sent_away = group.create_task(away(pool, source))
            assert await taken(reader) == DATA
        assert sent_away.result()
        assert host.asked == [0]


async def away(pool: SpoolPool, source: BlobSource) -> bool:
    try:
        await target_of(pool, source)
    except DetachedError:
        return True
    return False
