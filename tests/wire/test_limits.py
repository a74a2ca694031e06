"""`Http` at hosts that limit the rate, are overloaded, dead or refuse us: how often they are asked (F11, F12, F21)."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from mirrord.errors import DeniedError, ServerError, ThrottledError, UnreachableError
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.asker import Asker, asking
from mirrord.wire.http.message import HttpRequest, Limits, Upload
from mirrord.wire.http.pace import Party
from mirrord.wire.http.shares import HostShares
from mirrord.wire.secret import Credential, Secret

SCOPE = "repository:team/app:pull"


def saying(status: int, **headers: str) -> Callable[[web.Request], Any]:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={name.replace("_", "-"): text for name, text in headers.items()})

    return handle


def get(server: Any, name: str = "v1", **more: Any) -> HttpRequest:
    return HttpRequest("GET", f"{server.url}/v2/team/app/manifests/{name}", server.host, **more)


async def failing(http: Any, request: HttpRequest, kind: type[Exception]) -> Any:
    with pytest.raises(kind) as caught:
        await http.fetch(request)
    return caught.value


async def test_a_host_that_wants_a_long_pause_is_not_asked_by_anybody(serve: Any, client: Any) -> None:
    """One request, whoever comes next, in runs and at the front (F12)."""
    server, shares = await serve(saying(429, Retry_After="600")), HostShares()
    runs, front = (client(shares=shares, party=party) for party in (Party.RUNS, Party.FRONT))
    with asking(Asker()) as run:
        assert (await failing(runs, get(server), ThrottledError)).after == 600.0
    for http in (runs, front):
        error = await failing(http, get(server, "v2"), ThrottledError)
        assert "asked us to wait; it is asked again in 10 min" in str(error)
    assert len(server.requests) == 1
    assert run.until is not None


async def test_a_503_with_a_time_sends_a_run_away(serve: Any, client: Any) -> None:
    """For a run it is what 429 is; the front says that the host fails (F12)."""
    server, shares = await serve(saying(503, Retry_After="600")), HostShares()
    runs, front = (client(shares=shares, party=party) for party in (Party.RUNS, Party.FRONT))
    with asking(Asker()) as run:
        for number in range(10):
            error = await failing(runs, get(server, f"v{number}"), ThrottledError)
            assert error.after == pytest.approx(600.0, abs=60)
        assert run.until is not None
    assert len(server.requests) == 1
    await failing(front, get(server), ServerError)


async def test_a_short_pause_is_kept_by_all_in_place(serve: Any, client: Any, monkeypatch: Any) -> None:
    """What is under way waits together with the one that was told to; nothing fails, and nobody asks meanwhile."""
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await real(0)

    monkeypatch.setattr("mirrord.wire.http.client.asyncio.sleep", sleep)
    clock = iter([0.0] * 3 + [8.0] * 100)
    monkeypatch.setattr("mirrord.wire.http.quotas.monotonic", lambda: next(clock))
    answers = iter([429, 200, 200])

    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=next(answers), headers={"Retry-After": "7"})

    server = await serve(handle)
    http = client()
    await http.fetch(get(server))
    await http.fetch(get(server, "v2"))
    assert 7.0 in slept
    assert len(server.requests) == 3


@pytest.mark.parametrize("over", ["0", "-5", "0.001", "Wed, 21 Oct 2015 07:28:00 GMT"])
@pytest.mark.parametrize("status", [429, 503])
async def test_a_pause_that_is_over_is_none(serve: Any, client: Any, status: int, over: str) -> None:
    """Who refuses and says "at once" is asked again with backoff, and not at all by the rest of a run it throttles."""
    server = await serve(saying(status, Retry_After=over))
    http, kind = client(), ThrottledError if status == 429 else ServerError
    with asking(Asker()) as run:
        assert (await failing(http, get(server), kind)).after is None
        for number in range(10 if status == 429 else 0):
            await failing(http, get(server, f"v{number}"), kind)
    assert len(server.requests) == 4
    assert (run.until is not None) is (status == 429)


async def test_a_429_without_a_time_ends_it_for_this_run_alone(serve: Any, client: Any) -> None:
    """Four tries with backoff, then no further image of the run asks; another one may."""
    server = await serve(saying(429))
    http = client()
    with asking(Asker()) as run:
        await failing(http, get(server), ThrottledError)
        for number in range(20):
            await failing(http, get(server, f"v{number}"), ThrottledError)
        assert len(server.requests) == 4
        assert run.until is not None
    await failing(http, get(server), ThrottledError)
    assert len(server.requests) == 8


async def test_after_a_pause_one_request_finds_out_for_all(serve: Any, client: Any, monkeypatch: Any) -> None:
    """While it is under way nobody else asks, and after a refusal nobody does; then all go on (F12)."""
    status, came, gate, now = [429], asyncio.Event(), asyncio.Event(), [0.0]
    monkeypatch.setattr("mirrord.wire.http.quotas.monotonic", lambda: now[0])

    async def handle(_: web.Request) -> web.Response:
        came.set()
        await gate.wait()
        return web.Response(status=status[0], headers={"Retry-After": "600"} if status[0] == 429 else {})

    server, shares = await serve(handle), HostShares()
    runs, front = (client(shares=shares, party=party) for party in (Party.RUNS, Party.FRONT))

    async def crowd() -> list[Any]:
        gate.clear()
        came.clear()
        all_of_them = [http.fetch(get(server, f"v{number}")) for http in (runs, front) for number in range(20)]
        waiting = asyncio.ensure_future(asyncio.gather(*all_of_them, return_exceptions=True))
        await came.wait()
        gate.set()
        return [*await waiting]

    gate.set()
    await failing(runs, get(server), ThrottledError)
    for number in range(2, 4):
        now[0] += 601
        assert {type(one) for one in await crowd()} == {ThrottledError}
        assert len(server.requests) == number
    now[0] += 601
    status[0] = 200
    assert [one.status for one in await crowd()] == [200] * 40
    assert len(server.requests) == 3 + 40


async def test_the_one_that_finds_out_is_cancelled(serve: Any, client: Any, monkeypatch: Any) -> None:
    """One of those who wait for it finds out in its place, and the others go on waiting."""
    now, first = [0.0], asyncio.Event()
    monkeypatch.setattr("mirrord.wire.http.quotas.monotonic", lambda: now[0])
    refusals = iter([429, 429])

    async def handle(request: web.Request) -> web.Response:
        if request.path.endswith("hangs"):
            first.set()
            await asyncio.Event().wait()
        return web.Response(status=next(refusals, 200), headers={"Retry-After": "600"})

    server = await serve(handle)
    http = client()
    await failing(http, get(server), ThrottledError)
    now[0] += 601
    looking = asyncio.ensure_future(http.fetch(get(server, "hangs")))
    await first.wait()
    others = [asyncio.ensure_future(http.fetch(get(server, f"v{number}"))) for number in range(5)]
    await asyncio.sleep(0)
    looking.cancel()
    assert {type(one) for one in await asyncio.gather(*others, return_exceptions=True)} == {ThrottledError}
    assert len(server.requests) == 3
    now[0] += 601
    assert (await http.fetch(get(server))).status == 200


async def test_people_go_before_schedules(serve: Any, client: Any) -> None:
    """Whoever a person waits for is next at a busy host, however many of the schedules' requests are in line."""
    came, gate = asyncio.Event(), asyncio.Event()

    async def handle(_: web.Request) -> web.Response:
        came.set()
        await gate.wait()
        return web.Response()

    server = await serve(handle)
    http = client(HostBook({server.host: HostPolicy(server.host, requests=1)}))

    def ask(names: list[str], *, scheduled: bool) -> list[asyncio.Future[Any]]:
        with asking(Asker(scheduled=scheduled)):
            return [asyncio.ensure_future(http.fetch(get(server, name))) for name in names]

    line = ask(["s1", "s2", "s3", "s4"], scheduled=True)
    await came.wait()
    line += ask(["p1", "p2"], scheduled=False)
    await asyncio.sleep(0)
    line[2].cancel()
    gate.set()
    await asyncio.gather(*line, return_exceptions=True)
    assert [one.path.rpartition("/")[2] for one in server.requests] == ["s1", "p1", "p2", "s2", "s4"]


async def test_a_scheduled_run_stops_at_the_reserve(serve: Any, client: Any) -> None:
    """100 requests an hour: 80 for the schedule, and the other 20 for people; not one more is asked (F12)."""
    left = iter(range(99, -1, -1))

    async def handle(_: web.Request) -> web.Response:
        remaining = {"RateLimit-Limit": "100;w=3600", "RateLimit-Remaining": f"{next(left)};w=3600"}
        return web.Response(headers=remaining)

    server = await serve(handle)
    http = client()
    with asking(Asker(scheduled=True)) as run:
        for number in range(80):
            await http.fetch(get(server, f"v{number}"))
        assert run.until is None
        for number in range(30):
            error = await failing(http, get(server, f"v{number}"), ThrottledError)
        assert "allows 20 more requests, which are kept for people: scheduled runs leave 20 of 100" in str(error)
        assert len(server.requests) == 80
        assert run.until is not None
    for number in range(20):
        await http.fetch(get(server, f"v{number}"))
    assert len(server.requests) == 100


async def test_accounts_have_budgets_of_their_own(serve: Any, client: Any) -> None:
    """A pause for one login is none for another, nor for those without."""

    async def handle(request: web.Request) -> web.Response:
        refused = request.headers.get("Authorization") == "Bearer spent"
        return web.Response(status=429 if refused else 200, headers={"Retry-After": "900"})

    server = await serve(handle)
    http = client()
    await failing(http, get(server, headers={"Authorization": "Bearer spent"}), ThrottledError)
    await http.fetch(get(server, headers={"Authorization": "Bearer fresh"}))
    await http.fetch(get(server))
    await failing(http, get(server, headers={"Authorization": "Bearer spent"}), ThrottledError)
    assert len(server.requests) == 3


async def test_401_is_asked_once_for_all_images_of_a_repository(serve: Any, client: Any) -> None:
    """A wrong login stops at once, for reading and of this repository alone (F21, regclient#922)."""
    server = await serve(saying(401, WWW_Authenticate="Basic realm=r"))
    book = HostBook({server.host: HostPolicy(server.host, Credential("me", Secret("wrong-password")))})
    http = client(book)
    with asking(Asker()):
        first = await failing(http, get(server, scope=SCOPE), DeniedError)
        asked = len(server.requests)
        for number in range(50):
            again = await failing(http, get(server, f"v{number}", scope=SCOPE), DeniedError)
        assert (str(again), again.status) == (str(first), 401)
        assert "used the credentials of `auth:` under hosts:" in str(again)
        assert len(server.requests) == asked
        await failing(http, get(server, scope="repository:team/other:pull"), DeniedError)
        assert len(server.requests) > asked


async def test_a_new_password_is_tried_in_the_same_run(serve: Any, client: Any) -> None:
    """A refusal is about a credential: what the keyring gives later is asked with (ECR's last twelve hours)."""

    async def handle(request: web.Request) -> web.Response:
        good = request.headers.get("Authorization") == Credential("me", Secret("second-password")).basic
        return web.Response(status=200 if good else 401, headers={"WWW-Authenticate": "Basic realm=r"})

    server = await serve(handle)
    policies = {server.host: HostPolicy(server.host, Credential("me", Secret("first-password")))}
    http = client(HostBook(policies))
    with asking(Asker()):
        await failing(http, get(server, scope=SCOPE), DeniedError)
        policies[server.host] = HostPolicy(server.host, Credential("me", Secret("second-password")))
        await http.fetch(get(server, scope=SCOPE))


async def test_403_stops_a_repository_that_never_grants(serve: Any, client: Any) -> None:
    """The third in a row stands for all. Where one image was granted each of the others is: scanners refuse some."""
    server = await serve(saying(403))
    http = client()
    with asking(Asker()):
        for number in range(20):
            await failing(http, get(server, f"v{number}", scope=SCOPE), DeniedError)
        assert len(server.requests) == 3
    granted = iter([200] + [403] * 20)

    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=next(granted))

    server = await serve(handle)
    with asking(Asker()):
        await http.fetch(get(server, scope=SCOPE))
        for number in range(20):
            await failing(http, get(server, f"v{number}", scope=SCOPE), DeniedError)
    assert len(server.requests) == 21


async def test_an_overloaded_host_gets_half_as_many_at_once(serve: Any, client: Any) -> None:
    """Eight fail together: four at once from then on; answers earn the others back one by one."""
    status, most, under_way, gate = [503], [0], [0], asyncio.Event()
    gate.set()

    async def handle(_: web.Request) -> web.Response:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        if under_way[0] == 8:
            gate.set()
        await gate.wait()
        under_way[0] -= 1
        return web.Response(status=status[0])

    server = await serve(handle)
    http = client(limits=Limits(rest=None))
    gate.clear()
    await asyncio.gather(*(http.fetch(get(server, attempts=1)) for _ in range(8)), return_exceptions=True)
    assert (most[0], http.at_once()) == (8, {server.host: 4})
    status[0], most[0] = 200, 0
    await asyncio.gather(*(http.fetch(get(server)) for _ in range(4)))
    assert most[0] <= 4
    assert http.at_once() == {server.host: 5}
    for _ in range(5 + 6 + 7 + 8):
        await http.fetch(get(server))
    assert http.at_once() == {server.host: 8}


async def test_a_source_that_stalls_is_no_overload_of_its_target(serve: Any, client: Any) -> None:
    """An upload whose body breaks says nothing about the host that it goes to, nor does its circuit open."""

    async def body() -> Any:
        yield b"x"
        error = ServerError("the source failed")
        error.status = 503
        raise error

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response()

    server = await serve(handle)
    http = client()
    for _ in range(5):
        call = HttpRequest("PUT", f"{server.url}/v2/a/blobs/uploads/1", server.host, body=Upload(2, body))
        await failing(http, call, ServerError)
    await http.fetch(get(server))
    assert http.resting() == frozenset()


class Switch:
    """A server that can be dead: it takes connections and hangs up."""

    def __init__(self) -> None:
        self.dead, self.heads = True, list[str]()

    async def talk(self, reader: Any, writer: Any) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head.partition(" HTTP/")[0])
        if not self.dead:
            writer.write(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" if head.startswith("HEAD")
                         else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")  # fmt: skip


async def test_runs_leave_a_dead_host_alone_and_look_with_one_head(raw: Any, client: Any) -> None:
    """Three requests fail to their last try, the rest fails fast; a later run looks once, and then all go (F11)."""
    switch = Switch()
    server = await raw(switch.talk)
    http = client(limits=Limits(attempts=2, rest=600.0))

    async def many(count: int) -> list[Any]:
        calls = (http.fetch(get(server, f"v{number}")) for number in range(count))
        return await asyncio.gather(*calls, return_exceptions=True)

    for _ in range(3):
        await many(1)
    assert http.resting() == {server.host}
    assert len(switch.heads) == 6
    assert all("is not asked for up to 600 s after failures" in str(error) for error in await many(20))
    with asking(Asker()):
        assert all(isinstance(error, UnreachableError) for error in await many(20))
    assert switch.heads[6:] == ["HEAD /v2/"]
    switch.dead = False
    with asking(Asker()):
        assert [answer.status for answer in await many(20)] == [200] * 20
    assert sorted(switch.heads[7:]) == sorted(["HEAD /v2/", *(f"GET /v2/team/app/manifests/v{n}" for n in range(20))])
    assert http.resting() == frozenset()


async def test_a_registry_of_no_use_for_head_is_looked_at_by_get(raw: Any, client: Any) -> None:
    """Where HEAD says nothing the look is a GET of `/v2/` (F11)."""
    switch = Switch()
    server = await raw(switch.talk)
    book = HostBook({server.host: HostPolicy(server.host, profile="nexus")})
    http = client(book, Limits(attempts=1, rest=600.0))
    for _ in range(3):
        await asyncio.gather(http.fetch(get(server)), return_exceptions=True)
    assert http.resting() == {server.host}
    switch.dead = False
    with asking(Asker()):
        await http.fetch(get(server))
    assert switch.heads[3:] == ["GET /v2/", "GET /v2/team/app/manifests/v1"]


async def test_one_answer_between_failures_keeps_a_host_in_use(raw: Any, client: Any) -> None:
    """Failures in a row are what counts, and other hosts are asked as ever."""
    switch = Switch()
    server = await raw(switch.talk)
    http = client(limits=Limits(attempts=1, rest=600.0))
    for number in range(8):
        switch.dead = number % 3 != 2
        await asyncio.gather(http.fetch(get(server)), return_exceptions=True)
    assert len(switch.heads) == 8
    assert http.resting() == frozenset()


async def test_a_gateway_without_a_server_rests_too(serve: Any, client: Any) -> None:
    """502, 503 and 504 come from what stands before a dead registry; 500 is an answer of the registry itself (F11)."""
    for status, asked in ((502, 3), (500, 9)):
        server = await serve(saying(status))
        http = client(limits=Limits(attempts=1, rest=600.0))
        for _ in range(9):
            await asyncio.gather(http.fetch(get(server)), return_exceptions=True)
        assert len(server.requests) == asked


async def test_all_hosts_together_get_so_many_at_once(serve: Any, client: Any) -> None:
    """`settings.requests`: three hosts, and never more than two requests under way."""
    most, under_way = [0], [0]

    async def handle(_: web.Request) -> web.Response:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        await asyncio.sleep(0)
        under_way[0] -= 1
        return web.Response()

    servers = [await serve(handle) for _ in range(3)]
    http = client(shares=HostShares(requests=2))
    await asyncio.gather(*(http.fetch(get(server)) for server in servers for _ in range(10)))
    assert most[0] == 2


async def test_a_slot_of_all_hosts_is_not_held_by_who_waits_for_one(serve: Any, client: Any) -> None:
    """A host that answers nothing takes its own slots of the whole, and no more."""
    gate, came = asyncio.Event(), asyncio.Semaphore(0)

    async def hang(_: web.Request) -> web.Response:
        came.release()
        await gate.wait()
        return web.Response()

    slow, quick = await serve(hang), await serve(saying(200))
    book = HostBook({slow.host: HostPolicy(slow.host, requests=1)})
    http = client(book, shares=HostShares(requests=2))
    waiting = [asyncio.create_task(http.fetch(get(slow))) for _ in range(10)]
    await came.acquire()
    for _ in range(5):
        await http.fetch(get(quick))
    waiting[5].cancel()
    gate.set()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert len(slow.requests) == 9


def test_all_hosts_together_have_one_bandwidth() -> None:
    """`settings.bandwidth`: what one host takes the other waits for, and the stricter of both limits counts."""
    shares = HostShares(bandwidth=100.0)
    free, slow = HostPolicy("a.example"), HostPolicy("b.example", bandwidth=10.0)
    one, other = (shares.bucket(policy, Party.RUNS, up=False) for policy in (free, slow))
    assert one is not None
    assert other is not None
    assert one.take(100, 0.0) == 1.0
    assert other.take(10, 0.0) == 1.1
    assert other.take(10, 1.1) == 0.9
    assert shares.bucket(free, Party.RUNS, up=True) is not one


async def test_a_paced_stream_comes_in_small_pieces_and_does_not_stall(serve: Any, client: Any) -> None:
    """At most 64 KiB at a time in both directions; our own waiting is no fault of the host (peers A12)."""
    got: list[int] = []

    async def handle(request: web.Request) -> web.Response:
        got.append(len(await request.read()))
        return web.Response(body=b"y" * 200_000 if request.method == "GET" else b"")

    server = await serve(handle)
    http = client(limits=Limits(stall=2.0, window=0.3, floor=500_000.0), shares=HostShares(bandwidth=400_000.0))

    async def body() -> Any:
        yield b"x" * 200_000

    async with http.stream(get(server)) as answer:
        sizes = [len(piece) async for piece in answer.chunks()]
    await http.fetch(HttpRequest("PUT", f"{server.url}/v2/x", server.host, body=Upload(200_000, body)))
    assert (sum(sizes), got) == (200_000, [0, 200_000])
    assert max(sizes) <= 64 * 1024
