"""Many clients of programs at once: who is slow, says nothing or wants more than its share holds nobody up."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from mirrord.serve.programs import ProgramLimit
from mirrord.serve.slots import FullError, Slots, client_of
from mirrord.serve.spooled import AnswerRoom
from tests.support.scripted import Site, begun, ended, fifo, lane, site

BIG = 24_000_000  # more than the kernel keeps for a connection
GET = b"GET /run/big HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def idle(served: Site, request: bytes, count: int) -> list[Streams]:
    """Let clients ask, and read nothing but the beginning of the head."""
    found = []
    for _ in range(count):
        reader, writer = await served.connect(request)
        assert await asyncio.wait_for(reader.readexactly(12), 30) == b"HTTP/1.1 200"
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # both loops' transports have it
        found.append((reader, writer))
    return found


async def rest(streams: Streams, data: bytes) -> bool:
    """Read on, and say whether all came, and this is it."""
    reader, writer = streams
    writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
    async with asyncio.timeout(60):
        await reader.readuntil(b"\r\n\r\n")
        body = bytearray()
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
    writer.close()
    return body == data


@pytest.fixture
def big(tmp_path: Path) -> bytes:
    data = os.urandom(BIG)
    (tmp_path / "big").write_bytes(data)
    return data


async def test_slow_readers_hold_no_program(tmp_path: Path, big: bytes) -> None:
    """Programs end while their clients have read next to nothing, others are served, and the slow get all of it."""
    async with site(tmp_path, slow=lane(1)) as served:
        served.scripts.scripts |= {"big": f"cat {tmp_path / 'big'}", "quick": "printf quick"}
        slow = await idle(served, GET, 8)
        await ended(served)
        assert (await served.get("quick"))[::2] == (200, b"quick")
        assert served.room.disk < AnswerRoom().disk - BIG
        assert await asyncio.gather(*(rest(one, big) for one in slow)) == [True] * 8


@pytest.mark.parametrize("trouble", ["no-room", "no-disk"])
async def test_without_room_programs_wait_for_their_clients(tmp_path: Path, big: bytes, trouble: str) -> None:
    """When there is no room left, or no disk, programs wait, count no more as those that work, and nobody fails."""
    room = AnswerRoom(tmp_path, 0, 0) if trouble == "no-room" else AnswerRoom(tmp_path / "none", 1 << 20)
    async with site(tmp_path, room=room, slow=lane(1)) as served:
        served.scripts.scripts |= {"big": f"cat {tmp_path / 'big'}", "quick": "printf quick"}
        slow = await idle(served, GET, 4)
        assert (await served.get("quick"))[::2] == (200, b"quick")
        await begun(served, 4)
        assert await asyncio.gather(*(rest(one, big) for one in slow)) == [True] * 4
        await ended(served)


async def test_without_a_disk_what_is_posted_is_read(tmp_path: Path) -> None:
    """What a clone posts needs no disk: on a full one nobody who clones is refused; only what is large is, in words."""
    async with site(tmp_path, room=AnswerRoom(tmp_path / "none")) as served:
        served.scripts.scripts["count"] = "wc -c"
        assert (await served.get("count", "POST", body=bytes(60_000)))[::2] == (200, b"60000\n")
        code, _, body = await served.get("count", "POST", body=bytes(400_000))
        assert (code, body) == (503, b"not enough space for a request of this size; try again later\n")


async def test_who_posts_one_byte_holds_nothing(tmp_path: Path) -> None:
    """Dozens that begin to post and do not go on cost others nothing: neither a program nor a slot."""
    async with site(tmp_path, slow=lane(1)) as served:
        served.scripts.scripts["echo"] = "cat"
        begun = b"POST /run/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\n"
        waiting = [await served.connect(begun + b"x") for _ in range(64)]
        assert (await served.get("echo", "POST", body=b"all"))[::2] == (200, b"all")
        await ended(served)
        for _, writer in waiting:
            writer.close()


async def test_who_does_not_go_on_is_sent_away(tmp_path: Path) -> None:
    """A body that does not come in its time is 408, however it began."""
    async with site(tmp_path, patience=0.2) as served:
        served.scripts.scripts["echo"] = "cat"
        for begun in (b"", b"x" * 100):
            head = b"POST /run/echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 500000\r\n\r\n"
            assert (await served.raw(head + begun)).startswith(b"HTTP/1.1 408 ")


async def test_large_bodies_come_a_few_at_a_time(tmp_path: Path) -> None:
    """Bodies that take much memory wait for each other, and small ones pass them."""
    async with site(tmp_path) as served:
        served.scripts.scripts["count"] = "wc -c"
        head = b"POST /run/count HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n"
        large = [await served.connect(head + bytes(100_000)) for _ in range(8)]
        assert (await served.get("count", "POST", body=b"small"))[2].strip() == b"5"
        for _, writer in large:
            writer.write(bytes(100_000))
        for reader, writer in large:
            assert b"200000" in await asyncio.wait_for(reader.read(), 60)
            writer.close()


async def test_requests_that_are_too_large(tmp_path: Path) -> None:
    """A request that is too large is 413, whether its size was told or not; what is no body is 400."""
    async with site(tmp_path) as served:
        served.scripts.scripts["eats"] = "wc -c"
        assert (await served.get("eats", "POST", "Content-Length: 1000001"))[0] == 413
        head = b"POST /run/eats HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        assert b" 413 " in await served.raw(head + b"f4241\r\n" + bytes(1_000_001) + b"\r\n0\r\n\r\n")
        assert b"1000000" in await served.raw(head + b"f4240\r\n" + bytes(1_000_000) + b"\r\n0\r\n\r\n")
        assert b" 400 " in await served.raw(head + b"3\r\nabc\r\nnonsense\r\n")


async def test_what_is_quick_waits_for_nobody(tmp_path: Path) -> None:
    """While those that take long take all slots, those that take milliseconds have their own."""
    async with site(tmp_path, slow=lane(2)) as served:
        # Open for both, so that nobody sees an end: each program is worth one byte of each pipe.
        ready, go = (os.open(fifo(tmp_path, name), os.O_RDWR) for name in ("ready", "go"))
        long_run = f"printf r > {tmp_path / 'ready'}; dd bs=1 count=1 < {tmp_path / 'go'}"
        served.scripts.scripts |= {"long": long_run, "quick": "printf quick"}
        long = [asyncio.create_task(served.get("long")) for _ in range(4)]
        for _ in range(2):
            await asyncio.to_thread(os.read, ready, 1)
        assert (await served.get("quick?quick"))[::2] == (200, b"quick")
        assert [task.done() for task in long] == [False] * 4
        for _ in range(2):
            os.write(go, b"x")
            await asyncio.to_thread(os.read, ready, 1)
        os.write(go, b"xx")
        assert [(await task)[0] for task in long] == [200] * 4
        os.close(ready)
        os.close(go)


@pytest.mark.parametrize(("waiting", "patience"), [(1, 30.0), (100, 0.05)])
async def test_bounded(tmp_path: Path, waiting: int, patience: float) -> None:
    """Whoever finds too many waiting, or waits too long, is asked to come back later."""
    one = ProgramLimit(Slots(1, 1, waiting, patience), Slots(1, 1, waiting, patience))
    async with site(tmp_path, slow=one) as served:
        ready = fifo(tmp_path, "ready")
        served.scripts.scripts |= {"hangs": f"echo > {ready}; cat {fifo(tmp_path, 'never')}", "quick": "printf quick"}
        _, writer = await served.connect(b"GET /run/hangs HTTP/1.1\r\nHost: h\r\n\r\n")
        await asyncio.to_thread(ready.read_bytes)
        answers = [asyncio.create_task(served.get("quick")) for _ in range(2)]
        done, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        code, head, _ = done.pop().result()
        assert (code, b"Retry-After: " in head) == (503, True)
        writer.transport.abort()
        await asyncio.wait(answers)
        await ended(served)


async def test_slots_go_to_who_has_fewest() -> None:
    """The next slot is for the client that has fewest, and none has more than its share while others wait or not."""
    slots, order = Slots(3, 2), list[str]()
    go = {name: asyncio.Event() for name in ("a1", "a2", "a3", "a4", "b1", "c1")}

    async def have(name: str) -> None:
        async with slots.slot(name[0]):
            order.append(name)
            await go[name].wait()

    tasks = []
    for name in go:
        tasks.append(asyncio.create_task(have(name)))
        await asyncio.sleep(0)
    for name in ("a1", "a2", "b1", "c1", "a3", "a4"):
        async with asyncio.timeout(30):
            while name not in order:  # noqa: ASYNC110 - tasks of this loop, no time
                await asyncio.sleep(0)
        go[name].set()
    await asyncio.gather(*tasks)
    assert order == ["a1", "a2", "b1", "c1", "a3", "a4"]
    assert slots.taken == 0


async def test_nobody_fills_the_line() -> None:
    """When too many wait, whoever has most in the line gives way to who has fewer, and the last one of its own."""
    slots = Slots(1, 1, waiting=4)
    async with slots.slot("a"):
        crowd = [asyncio.create_task(slots.slot("a").__aenter__()) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(FullError):
            async with slots.slot("a"):
                pass
        healthy = [asyncio.create_task(slots.slot(name).__aenter__()) for name in "bc"]
        await asyncio.sleep(0)
        for sent_away in crowd[2:]:
            with pytest.raises(FullError):
                await sent_away
        with pytest.raises(FullError):  # nobody has clearly more than it would have
            async with slots.slot("b"):
                pass
    for task in (*healthy, *crowd[:2]):
        (await asyncio.wait_for(task, 30)).leave()
    assert slots.taken == 0


async def test_who_leaves_the_line_takes_no_slot() -> None:
    """A client that is called off while it waits, or in the moment in which it gets its slot, leaves none taken."""
    slots = Slots(1, 1)
    async with slots.slot("a"):
        tasks = [asyncio.create_task(slots.slot(name).__aenter__()) for name in "bcd"]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
    tasks[1].cancel()  # it was given the slot that became free just now
    slot = await asyncio.wait_for(tasks[2], 30)
    slot.leave()
    slot.leave()
    assert slots.taken == 0
    with pytest.raises(FullError):
        async with slots.slot("a"), Slots(0, 1, patience=0.01).slot("a"):
            pass
    assert slots.taken == 0


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", ""),
    ],
)
def test_clients_are_told_apart(address: str, client: str) -> None:
    """A client is an IPv4 address or an IPv6 network: of the addresses in that it can take as many as it likes."""
    assert client_of(address) == client
