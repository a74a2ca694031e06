"""Each fault goes wrong exactly as ordered."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from mirrord.model.digest import Digest
from mirrord.testing import Faults, Moment, Registry, build_image, push

DATA = bytes(range(256)) * 4000
DIGEST = Digest.of(DATA)


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with Registry(socket_buffer=8192) as double:
        double.content.put_blob("a/b", DATA)
        yield double


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def blob(registry: Registry) -> str:
    return f"{registry.url}/v2/a/b/blobs/{DIGEST}"


async def test_status(registry: Registry, client: aiohttp.ClientSession) -> None:
    """A chosen status, body and headers come as often as ordered, after as many as ordered."""
    fault = registry.faults.on("GET", "/blobs/", times=2, skip=1).status(429, b"slow down", {"Retry-After": "7"})
    seen = []
    for _ in range(4):
        async with client.get(blob(registry)) as answer:
            seen.append((answer.status, answer.headers.get("Retry-After")))
            await answer.read()
    assert seen == [(200, None), (429, "7"), (429, "7"), (200, None)]
    assert fault.hits == 2


async def test_truncate(registry: Registry, client: aiohttp.ClientSession) -> None:
    """The connection ends after so many bytes of a longer message."""
    registry.faults.on("GET", "/blobs/").truncate(1000)
    got = bytearray()
    async with client.get(blob(registry)) as answer:
        assert answer.content_length == len(DATA)
        with pytest.raises(aiohttp.ClientPayloadError):  # noqa: PT012 - the loop is the statement
            async for chunk in answer.content.iter_any():
                got += chunk
    assert got == DATA[:1000]
    assert registry.log[0].sent == 1000


async def test_stall(registry: Registry, client: aiohttp.ClientSession) -> None:
    """Bytes stop where ordered and go on when released."""
    fault = registry.faults.on("GET", "/blobs/").stall(after=5000)
    async with client.get(blob(registry)) as answer:
        assert await answer.content.readexactly(5000) == DATA[:5000]
        await fault.reached.wait()
        assert registry.log[0].sent == 5000
        assert Moment.LAST_SENT not in registry.log[0].numbers
        fault.release()
        assert await answer.read() == DATA[5000:]


async def test_hold(registry: Registry, client: aiohttp.ClientSession) -> None:
    """No answer comes before the release."""
    fault = registry.faults.on("GET", "/blobs/").hold()
    task = asyncio.ensure_future(client.get(blob(registry)))
    await fault.reached.wait()
    assert registry.log[0].status == 0
    fault.release()
    async with await task as answer:
        assert answer.status == 200


async def test_stop_with_a_waiting_request(registry: Registry) -> None:
    """A registry can be stopped while requests wait at a gate."""
    fault = registry.faults.on("GET", "/blobs/").hold()
    async with aiohttp.ClientSession() as session:
        task = asyncio.ensure_future(session.get(blob(registry)))
        await fault.reached.wait()
        await registry.stop()
        with pytest.raises(aiohttp.ClientError):
            await task


async def test_a_client_that_leaves(registry: Registry) -> None:
    """A request whose client left ends in the log."""
    fault = registry.faults.on("GET", "/blobs/").hold()
    async with aiohttp.ClientSession() as session:
        task = asyncio.ensure_future(session.get(blob(registry)))
        await fault.reached.wait()
        task.cancel()
        exchange = await registry.wait(Moment.ENDED, "GET", "/blobs/")
    assert exchange.status == 0


@pytest.mark.parametrize("verb", ["close", "close_mid_header"])
async def test_close(registry: Registry, client: aiohttp.ClientSession, verb: str) -> None:
    """The connection ends without an answer, or within its headers."""
    getattr(registry.faults.on("GET", "/blobs/", times=None), verb)()
    with pytest.raises(aiohttp.ClientError):
        await client.get(blob(registry))


async def test_corrupt(registry: Registry, client: aiohttp.ClientSession) -> None:
    """Chosen bytes are flipped, the length stays."""
    registry.faults.on("GET", "/blobs/").corrupt(10, -1)
    async with client.get(blob(registry)) as answer:
        got = await answer.read()
    assert [n for n in range(len(DATA)) if got[n] != DATA[n]] == [10, len(DATA) - 1]
    assert registry.blobs[DIGEST] == DATA


async def test_headers(registry: Registry, client: aiohttp.ClientSession) -> None:
    """Headers of the answer are set, taken away and blown up."""
    registry.faults.on("GET", "/blobs/").encode("gzip").header("Docker-Content-Digest", None).oversize(5000)
    async with aiohttp.ClientSession(auto_decompress=False) as session, session.get(blob(registry)) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert "Docker-Content-Digest" not in answer.headers
        assert len(answer.headers["X-Oversize"]) == 5000


async def test_redirect(registry: Registry, client: aiohttp.ClientSession) -> None:
    """The client is sent elsewhere."""
    registry.faults.on("GET", "/blobs/").redirect("https://evil.test/x")
    async with client.get(blob(registry), allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (307, "https://evil.test/x")


async def test_other_bytes(registry: Registry, client: aiohttp.ClientSession) -> None:
    """Other bytes come under the true headers (bad inputs 26, 35)."""
    await push(build_image(["linux/amd64"]), registry, "a/b", ["main"])
    registry.faults.on("GET", "/manifests/").answer(b"<html>", "text/html")
    async with client.get(f"{registry.url}/v2/a/b/manifests/main") as answer:
        assert (await answer.read(), answer.content_type) == (b"<html>", "text/html")


async def test_change_between_requests(registry: Registry, client: aiohttp.ClientSession) -> None:
    """The world changes after one request and before the next (bad input 43)."""
    first, second = build_image(["linux/amd64"]), build_image(["linux/arm64"])
    await push(first, registry, "a/b", ["main"])
    await push(second, registry, "a/b")
    registry.faults.on("HEAD", "/manifests/").then(lambda: registry.tags["a/b"].update(main=second.digest))
    seen = []
    for method in ("HEAD", "GET"):
        async with client.request(method, f"{registry.url}/v2/a/b/manifests/main") as answer:
            seen.append(answer.headers["Docker-Content-Digest"])
    assert seen == [first.digest, second.digest]


async def test_do_before(registry: Registry, client: aiohttp.ClientSession) -> None:
    """The world changes before the request is worked on."""
    registry.faults.on("GET", "/blobs/").do(registry.content.links.clear)
    async with client.get(blob(registry)) as answer:
        assert answer.status == 404


async def test_refuse_in_the_middle_of_an_upload(registry: Registry, client: aiohttp.ClientSession) -> None:
    """An upload is refused after so many bytes, and the rest is not taken."""
    registry.faults.on("PUT", "/blobs/uploads/").refuse_after(20_000, 401, {"WWW-Authenticate": "Bearer x"})
    async with client.post(f"{registry.url}/v2/a/b/blobs/uploads/") as answer:
        place = answer.headers["Location"]

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(DATA), 10_000):
            yield DATA[start : start + 10_000]

    headers = {"Content-Length": str(len(DATA))}
    async with client.put(f"{registry.url}{place}&digest={DIGEST}", data=body(), headers=headers) as answer:
        assert answer.status == 401
    put = registry.select("PUT", "/uploads/")[0]
    assert 20_000 <= put.received < len(DATA)


async def test_slow(registry: Registry, client: aiohttp.ClientSession) -> None:
    """Slow reading and sending move all bytes, in small pieces."""
    registry.faults.on("GET", "/blobs/").drip(20e6)
    registry.faults.on("PUT", "/uploads/").throttle(20e6)
    async with client.get(blob(registry)) as answer:
        assert await answer.read() == DATA
    async with client.post(f"{registry.url}/v2/c/d/blobs/uploads/") as answer:
        place = answer.headers["Location"]
    async with client.put(f"{registry.url}{place}&digest={DIGEST}", data=DATA) as answer:
        assert answer.status == 201


def test_first_ordered_acts_first() -> None:
    """Of two faults the one ordered first acts; healing forgets both and opens their gates."""
    faults = Faults()
    first, second = faults.on("GET|HEAD", "/a"), faults.on("*", "/a", times=None)
    assert faults.take("POST", "/a") is second
    assert faults.take("GET", "/a?x=1") is first
    assert faults.take("GET", "/a") is second
    assert faults.take("GET", "/b") is None
    faults.clear()
    assert faults.take("GET", "/a") is None
    assert first.gate.is_set()
