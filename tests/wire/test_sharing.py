"""A host is shared by runs and the front: neither takes all, and a host that is dead or slow holds up no other."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from mirrord.errors import MirrordError, PreemptedError, StalledError, UnreachableError
from mirrord.testing.ports import free_port
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.limiter import PREEMPTIBLE_AFTER, HostLimiter
from mirrord.wire.http.message import HttpRequest, Limits, Upload
from mirrord.wire.http.pace import Bucket, Circuit, Party, RequestClass, admits, admits_share
from mirrord.wire.http.shares import HostShares

RUNS, FRONT = Party.RUNS, Party.FRONT


class Gate:
    """A server that answers nothing before it is opened, and counts what is under way by path."""

    def __init__(self) -> None:
        self.under_way, self.most, self.opened = Counter[str](), 0, asyncio.Event()
        self.changed = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.under_way[request.path] += 1
        self.most = max(self.most, self.under_way.total())
        async with self.changed:
            self.changed.notify_all()
        await self.opened.wait()
        self.under_way[request.path] -= 1
        return web.Response(body=b"x")

    async def until(self, **expected: int) -> None:
        """Wait until so many are under way, and see that no more come."""
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: all(self.under_way[f"/{name}"] >= n for name, n in expected.items()))
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert {name: self.under_way[f"/{name}"] for name in expected} == expected


@pytest.fixture
async def pair(serve: Any, client: Any) -> Any:
    """Start a gate; return it, and the `Http` of runs and of the front with its host shared or not."""

    async def make(requests: int = 8, *, shared: bool = True) -> Any:
        gate = Gate()
        server = await serve(gate.handle)
        book, shares = HostBook({server.host: HostPolicy(server.host, requests=requests)}), HostShares()
        if shared:
            shares = HostShares([server.host])
        ways = [client(book, shares=shares, party=party) for party in Party]
        return gate, server, *ways

    return make


def flood(http: Any, server: Any, path: str, count: int = 40, **more: Any) -> list[asyncio.Task[Any]]:
    request = HttpRequest(more.pop("method", "GET"), f"{server.url}/{path}", server.host, **more)
    return [asyncio.create_task(http.fetch(request)) for _ in range(count)]


async def _download(http: Any, server: Any, path: str) -> None:
    async with http.stream(HttpRequest("GET", f"{server.url}/{path}", server.host)) as answer:
        assert await answer.read(10) == b"x"


@pytest.mark.parametrize(("requests", "most", "third"), [(2, 1, 1), (3, 2, 1), (4, 2, 2), (8, 5, 3), (30, 20, 10)])
@pytest.mark.parametrize("flooding", [RUNS, FRONT])
async def test_a_party_that_floods_leaves_the_other_its_third(
    pair: Any, requests: int, most: int, third: int, flooding: Party
) -> None:
    """Forty requests of one at a host that answers none: those of the other are sent at once."""
    gate, server, runs, front = await pair(requests)
    flooder, other = (runs, front) if flooding is RUNS else (front, runs)
    tasks = flood(flooder, server, "flood")
    await gate.until(flood=most)
    tasks += flood(other, server, "other")
    await gate.until(flood=most, other=third)
    assert gate.most == most + third <= requests
    gate.opened.set()
    await asyncio.gather(*tasks)
    assert gate.most <= requests


@pytest.mark.parametrize("flooding", [RUNS, FRONT])
async def test_a_flood_of_downloads_or_uploads_leaves_a_download_and_a_manifest(pair: Any, flooding: Party) -> None:
    """Blobs of one party, however long they take, keep neither blobs nor manifests of the other waiting."""

    async def content() -> Any:
        yield b"x"

    gate, server, runs, front = await pair(8)
    flooder, other = (runs, front) if flooding is RUNS else (front, runs)
    tasks = flood(flooder, server, "up", method="PUT", body=Upload(1, content))
    tasks += [asyncio.create_task(_download(flooder, server, "down")) for _ in range(40)]
    await gate.until(up=3, down=1)
    tasks += [asyncio.create_task(_download(other, server, "blob")) for _ in range(40)]
    tasks += flood(other, server, "manifest")
    async with asyncio.timeout(20), gate.changed:
        await gate.changed.wait_for(lambda: gate.under_way["/blob"] >= 2 and gate.under_way["/manifest"] >= 1)
    gate.opened.set()
    await asyncio.gather(*tasks)
    assert gate.most <= 10


@pytest.mark.parametrize("shared", [True, False])
async def test_alone_a_party_has_what_the_host_takes(pair: Any, shared: bool) -> None:
    """At a host that the front does not read nothing is kept for it: as without a front."""
    gate, server, runs, _ = await pair(8, shared=shared)
    tasks = flood(runs, server, "flood")
    await gate.until(flood=5 if shared else 8)
    gate.opened.set()
    await asyncio.gather(*tasks)


@given(st.lists(st.sampled_from(list(RequestClass)), max_size=40), st.integers(1, 12))
def test_without_a_front_the_limiter_decides_as_before(kinds: list[RequestClass], limit: int) -> None:
    """Whatever comes, a limiter that is not shared admits exactly what `admits` says."""
    limiter, active = HostLimiter(limit), Counter[RequestClass]()
    for kind in kinds:
        expected = admits(kind, active, limit)
        assert limiter.enter(kind) is expected
        active[kind] += expected


@given(
    st.lists(st.tuples(st.sampled_from(list(Party)), st.sampled_from(list(RequestClass)), st.booleans()), max_size=80),
    st.integers(2, 12),
)
def test_whatever_is_under_way_each_party_has_its_third(
    asked: list[tuple[Party, RequestClass, bool]], limit: int
) -> None:
    """What `admits` says for a third holds for each; together they exceed the limit by one download each at most."""
    active = {party: Counter[RequestClass]() for party in Party}
    for party, kind, begins in asked:
        own, both = active[party], active[RUNS] + active[FRONT]
        if not begins:
            own[kind] -= own[kind] > 0
            continue
        admitted = admits_share(kind, own, both, limit)
        assert admitted or not admits(kind, own, -(-limit // 3))
        own[kind] += admitted
        downloads = sum(counter[RequestClass.DOWN] > 0 for counter in active.values())
        assert active[RUNS].total() + active[FRONT].total() <= limit + downloads


async def test_one_request_at_a_time_goes_to_each_in_turn() -> None:
    """`requests: 1` cannot be divided; a thousand waiting of one do not keep the other waiting behind all of them."""
    limiter, order = HostLimiter(1, shared=True), list[Party]()

    async def ask(party: Party) -> None:
        async with limiter.slot(RequestClass.SMALL, party=party):
            order.append(party)
            await asyncio.sleep(0)

    await asyncio.gather(*(ask(RUNS) for _ in range(10)), *(ask(FRONT) for _ in range(3)))
    assert Counter(order[:7]) == {RUNS: 4, FRONT: 3}


@pytest.mark.parametrize("limit", [2, 3, 4, 8])
def test_a_copy_from_a_host_to_itself_goes_on_beside_a_flooding_front(limit: int) -> None:
    """Uploads of runs wait for their own download, which starts whatever the front has under way."""
    limiter = HostLimiter(limit, shared=True)
    for kind in (*RequestClass, *RequestClass) * 10:
        limiter.enter(kind, FRONT)
    while limiter.enter(RequestClass.UP, RUNS):
        pass
    assert limiter.enter(RequestClass.DOWN, RUNS)


def _spend(buckets: dict[Party, Bucket], seconds: float, start: float = 0.0) -> Counter[Party]:
    """Let each take 64 KiB as often as it may for so long; return the bytes of each."""
    got, at = Counter[Party](), dict.fromkeys(buckets, start)
    while min(at.values()) < start + seconds:
        party = min(at, key=at.__getitem__)
        at[party] += buckets[party].take(65536, at[party])
        got[party] += 65536
    return got


async def test_a_download_that_nobody_reads_is_preempted() -> None:
    """It is closed for the next in line, who has its place; it has none to give back then."""
    limiter, closed = HostLimiter(2), list[str]()
    async with limiter.slot(RequestClass.DOWN) as slot:
        unread = slot.unread(lambda: closed.append("a"))
        unread.__enter__()
        async with asyncio.timeout(20), limiter.slot(RequestClass.DOWN):
            assert closed == ["a"]
            assert not limiter.enter(RequestClass.DOWN)
        with pytest.raises(PreemptedError, match="since nobody read on"):
            unread.__exit__(None, None, None)
    assert [limiter.enter(RequestClass.DOWN) for _ in range(2)] == [True, False]


async def test_those_that_are_unread_for_longest_are_preempted_first() -> None:
    """One for each request in line, also for one that comes later; who reads again in time stays."""
    limiter, closed, begun = HostLimiter(4), list[int](), list[Any]()
    async with contextlib.AsyncExitStack() as stack:
        for number in range(3):
            slot = await stack.enter_async_context(limiter.slot(RequestClass.DOWN))
            begun.append(slot.unread(partial(closed.append, number)))
            begun[-1].__enter__()
        await asyncio.sleep(2 * PREEMPTIBLE_AFTER)
        begun[0].__exit__(None, None, None)
        await stack.enter_async_context(limiter.slot(RequestClass.DOWN))
        assert closed == [1]
        await stack.enter_async_context(limiter.slot(RequestClass.SMALL))  # the place above those of downloads is free
        assert closed == [1]
        await stack.enter_async_context(limiter.slot(RequestClass.SMALL))
        assert closed == [1, 2]
    assert [limiter.enter(RequestClass.SMALL) for _ in range(5)] == [True] * 4 + [False]


async def test_a_download_that_nobody_reads_stays_while_that_helps_nobody() -> None:
    """Neither when nobody is in line, nor when its place is not for who is: runs that have all of their share."""
    limiter, closed = HostLimiter(8, shared=True), list[str]()
    async with contextlib.AsyncExitStack() as stack:
        slot = await stack.enter_async_context(limiter.slot(RequestClass.DOWN, party=FRONT))
        stack.enter_context(slot.unread(lambda: closed.append("a")))
        await asyncio.sleep(2 * PREEMPTIBLE_AFTER)
        while limiter.enter(RequestClass.DOWN, RUNS):
            stack.callback(limiter.leave, RequestClass.DOWN, RUNS)
        waiting = asyncio.create_task(limiter.wait(RequestClass.DOWN, RUNS))
        for _ in range(10):
            await asyncio.sleep(0)
        assert (closed, waiting.done()) == ([], False)
        waiting.cancel()


def test_both_have_half_of_the_bandwidth_and_one_alone_has_all() -> None:
    """Each direction has its own; a second after the other took its last byte the whole rate is back."""
    shares, policy = HostShares(["h"]), HostPolicy("h", bandwidth=2.0**20)
    down = {party: shares.bucket(policy, party, up=False) for party in Party}
    buckets = {party: bucket for party, bucket in down.items() if bucket is not None}
    up = shares.bucket(policy, RUNS, up=True)
    assert up is not None
    assert up is not buckets[RUNS]

    both = _spend(buckets, 100.0)
    assert both[RUNS] == pytest.approx(50 * 2**20, rel=0.05)
    assert both[FRONT] == pytest.approx(50 * 2**20, rel=0.05)
    alone = _spend({RUNS: buckets[RUNS]}, 100.0, start=200.0)
    assert alone[RUNS] == pytest.approx(100 * 2**20, rel=0.05)
    assert shares.bucket(HostPolicy("x"), RUNS, up=True) is None


async def test_uploads_and_downloads_of_both_take_from_the_same_rate(serve: Any, client: Any) -> None:
    """The two `Http` over one host have a pair of buckets for each direction, and content passes them."""

    async def content() -> Any:
        yield b"u" * 5000

    async def handle(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(body=b"d" * 7000)

    server = await serve(handle)
    policy, shares = HostPolicy(server.host, bandwidth=1e9), HostShares([server.host])
    for party in Party:
        http = client(HostBook({server.host: policy}), shares=shares, party=party)
        await http.fetch(HttpRequest("PUT", server.url, server.host, body=Upload(5000, content)))
        for up, count in ((True, 5000), (False, 7000)):
            bucket = shares.bucket(policy, party, up=up)
            assert bucket is not None
            assert bucket._level == -count


async def test_two_hundred_requests_to_a_dead_upstream_end_after_a_few(raw: Any, serve: Any, client: Any) -> None:
    """It is asked by the first of them; then it rests, and all others fail at once. Another host is served."""

    async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readline()

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response()

    dead, alive = await raw(hang_up), await serve(answer)
    book, shares = HostBook(), HostShares([dead.host, alive.host])
    limits = Limits(attempts=2, rest=600.0)
    front = client(book, limits, shares=shares, party=FRONT)
    tasks = flood(front, dead, "manifest", 200)
    tasks += [asyncio.create_task(_download(front, dead, "blob")) for _ in range(100)]
    await asyncio.gather(*flood(front, alive, "manifest", 200))
    failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(error, MirrordError) and error.passing for error in failures)
    assert dead.connections <= 10
    assert "is not asked for up to 600 s after failures in a row" in str(failures[-1])


async def test_a_host_that_hangs_longer_than_a_client_waits_rests_too(raw: Any, client: Any) -> None:
    """The deadline of a request is what ends it; three in a row are enough, and a transfer under way goes on trying."""

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    dead = await raw(hang)
    front = client(limits=Limits(attempts=1, rest=600.0), party=FRONT)
    request = HttpRequest("HEAD", f"http://{dead.host}/", dead.host, deadline=0.05)
    for _ in range(3):
        with pytest.raises(StalledError, match="not done within"):
            await front.fetch(request)
    with pytest.raises(UnreachableError, match="the last one: no headers in time"):
        await front.fetch(request)
    assert dead.connections == 3
    with pytest.raises(StalledError, match="not done within"):
        await front.fetch(replace(request, headers={"Range": "bytes=5-"}))


async def test_a_client_that_leaves_is_no_failure_of_the_host(raw: Any, client: Any) -> None:
    """Ten cancelled requests, and the host is asked as before."""
    came = asyncio.Semaphore(0)

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        came.release()
        await reader.read()

    slow = await raw(hang)
    front = client(limits=Limits(attempts=1, rest=600.0), party=FRONT)
    for _ in range(10):
        task = asyncio.create_task(front.fetch(HttpRequest("HEAD", f"http://{slow.host}/", slow.host)))
        async with asyncio.timeout(10):
            await came.acquire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_host_that_rests_is_rested_for_the_front_alone(client: Any) -> None:
    """What clients do not wait for a run still tries: it has a circuit of its own."""
    host = f"127.0.0.1:{free_port()}"
    shares, request = HostShares([host]), HttpRequest("GET", f"http://{host}/", host, attempts=1)
    front = client(limits=Limits(rest=600.0), shares=shares, party=FRONT)
    runs = client(shares=shares, party=RUNS)
    for _ in range(3):
        with pytest.raises(UnreachableError, match="refused"):
            await front.fetch(request)
    with pytest.raises(UnreachableError, match="is not asked for up to 600 s"):
        await front.fetch(request)
    assert (front.resting(), runs.resting()) == ({host}, set())
    with pytest.raises(UnreachableError, match="refused") as failure:
        await runs.fetch(request)
    assert "is not asked" not in str(failure.value)


def test_after_its_rest_one_request_tries_a_host() -> None:
    """If it fails the rest begins again; one answer, whatever it says, ends it."""
    circuit = Circuit(10.0)
    for _ in range(3):
        assert circuit.closed(0.0)
        circuit.note("no route", 0.0)
    assert not circuit.closed(9.9)
    assert [circuit.rests(now) for now in (9.9, 10.0)] == [True, False]
    assert circuit.closed(10.0)
    assert not circuit.closed(10.0)
    circuit.note("no route", 12.0)
    assert not circuit.closed(21.9)
    assert circuit.closed(22.0)
    circuit.note("", 22.1)
    assert all(circuit.closed(22.2) for _ in range(10))
    assert not circuit.rests(22.2)


async def test_a_slow_upstream_keeps_manifests_waiting_for_so_long(pair: Any, client: Any) -> None:
    """What waits in line longer fails, with the reason; what is cached can be served then."""
    gate, server, _, _ = await pair(2)
    shares = HostShares([server.host])
    book = HostBook({server.host: HostPolicy(server.host, requests=2)})
    front = client(book, Limits(line=0.05), shares=shares, party=FRONT)
    first = flood(front, server, "manifest", 1)
    await gate.until(manifest=1)
    with pytest.raises(StalledError, match=rf"{server.host}: 2 requests are under way .*none ended within 0 s"):
        await front.fetch(HttpRequest("GET", f"{server.url}/other", server.host))
    gate.opened.set()
    await asyncio.gather(*first)
