"""Blobs that nobody has: one transfer for all who want one, ranges at once, and nothing wrong ever whole."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from mirrord.events import Events
from mirrord.model.digest import Digest
from mirrord.testing import Registry
from mirrord.testing.content import Content
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci.descriptor import OCI_MANIFEST
from tests.support.pulling import Answered, Pulls, pulling

MIB = 1 << 20
SIZE = 8 * MIB + 17
LAYER = random.Random(15).randbytes(SIZE)
DIGEST = Digest.of(LAYER)
CONFIG = b'{"architecture":"amd64","os":"linux"}'
BLOB = f"up.test/team/app/blobs/{DIGEST}"


class Scene(NamedTuple):
    """A front, and its upstream with one image, whose manifest was pulled."""

    pulls: Pulls
    upstream: Registry

    def blobs_read(self) -> int:
        """Return how often upstream was asked for content of blobs."""
        return self.upstream.count("GET", "/blobs/")


def an_image(content: Content, layer: bytes, repository: str = "team/app") -> None:
    """Put an image with one layer into a registry."""
    config, digest = content.put_blob(repository, CONFIG), content.put_blob(repository, layer)
    body = (
        f'{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}",'
        f'"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{len(CONFIG)}}},'
        f'"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{len(layer)}}}]}}'
    )
    content.put_manifest(repository, OCI_MANIFEST, body.encode(), "v1")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with Registry() as upstream, pulling(tmp_path, upstream.host) as pulls:
        an_image(upstream.content, LAYER)
        assert (await pulls.ask("up.test/team/app/manifests/v1")).status == 200
        upstream.forget()
        yield Scene(pulls, upstream)


def part(answer: Answered) -> bytes:
    return LAYER[int(answer.headers["content-range"].split()[1].partition("-")[0]) :][: len(answer.body)]


async def test_one_read_for_fifty_clients(tmp_path: Path) -> None:
    """Fifty clients want a cold blob of 200 MB, whole and in chunks: upstream is read once, and asked nothing else."""
    layer = random.Random(200).randbytes(200_000_000)
    digest = Digest.of(layer)
    async with Registry() as upstream, pulling(tmp_path, upstream.host) as pulls:
        an_image(upstream.content, layer)
        await pulls.ask("up.test/team/app/manifests/v1")
        upstream.forget()
        path, count = f"up.test/team/app/blobs/{digest}", len(layer)
        starts = [number * (count // 46) for number in range(46)]
        whole = [pulls.ask(path) for _ in range(4)]
        ranges = [pulls.ask(path, Range=f"bytes={start}-{start + 3 * MIB - 1}") for start in starts]
        answers = await asyncio.gather(*whole, *ranges)
        for answer in answers[:4]:
            assert (answer.status, hashlib.sha256(answer.body).hexdigest()) == (200, digest.hex)
        for start, answer in zip(starts, answers[4:], strict=True):
            assert (answer.status, answer.body == layer[start : start + 3 * MIB]) == (206, True)
        assert [(one.method, one.path.rpartition("/")[2]) for one in upstream.log] == [("GET", digest)]
        assert upstream.sent("/blobs/") == count
        again = await pulls.ask(path, Range="bytes=-10")
        assert (again.status, again.body) == (206, layer[-10:])
        assert upstream.count("*") == 1
        assert pulls.front.standing().cache_entries == 2


async def test_a_range_ahead_gets_its_headers_at_once(scene: Scene) -> None:
    """T15: 206 comes while upstream stands at its first bytes; the content follows when it is there."""
    fault = scene.upstream.faults.on("GET", "/blobs/").stall(after=1000)
    reader, writer = await asyncio.open_connection(*scene.pulls.address)
    writer.write(f"GET /v2/{BLOB} HTTP/1.1\r\nHost: m\r\nRange: bytes=8000000-\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 206 ")
    assert f"content-range: bytes 8000000-{SIZE - 1}/{SIZE}" in head.lower()
    fault.release()
    assert await reader.readexactly(SIZE - 8_000_000) == LAYER[8_000_000:]
    writer.close()
    assert scene.blobs_read() == 1


@pytest.mark.parametrize(
    ("asked", "status", "span"),
    [
        ("bytes=500-1499", 206, (500, 1500)),
        ("bytes=500-", 206, (500, SIZE)),
        ("bytes=-500", 206, (SIZE - 500, SIZE)),
        (f"bytes={SIZE - 10}-{SIZE + 10}", 206, (SIZE - 10, SIZE)),
        (f"bytes={SIZE}-{SIZE + 1}", 416, None),
        ("bytes=500-0", 416, None),
        ("bytes=a-b", 200, (0, SIZE)),
        (",".join(["bytes=0-1"] + ["0-1"] * 1000), 200, (0, SIZE)),
    ],
)
async def test_ranges_of_a_cold_blob(scene: Scene, asked: str, status: int, span: tuple[int, int] | None) -> None:
    """Bad input 29, T15: single ranges are served from one whole read, others are ignored or refused."""
    answer = await scene.pulls.ask(BLOB, Range=asked)
    assert answer.status == status
    if span is None:
        assert answer.headers["content-range"] == f"bytes */{SIZE}"
    else:
        assert answer.body == LAYER[span[0] : span[1]]
        assert ("content-range" in answer.headers) is (status == 206)
    assert scene.blobs_read() == 1


async def test_clients_that_cut_their_chunks(scene: Scene) -> None:
    """A chunked pull asks for `bytes=N-` and leaves: each chunk is right, and upstream is read once."""
    keeper = asyncio.create_task(scene.pulls.ask(BLOB))
    for start in range(0, SIZE, MIB):
        reader, writer = await asyncio.open_connection(*scene.pulls.address)
        writer.write(f"GET /v2/{BLOB} HTTP/1.1\r\nHost: m\r\nRange: bytes={start}-\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 206 ")
        count = min(MIB, SIZE - start)
        assert await reader.readexactly(count) == LAYER[start : start + count]
        writer.close()
    assert (await keeper).body == LAYER
    assert scene.blobs_read() == 1


async def test_upstream_dies_in_the_middle(scene: Scene) -> None:
    """T16: the transfer goes on where it broke off, and the client gets the right bytes in one answer."""
    scene.upstream.faults.on("GET", "/blobs/").truncate(3 * MIB)
    answer = await scene.pulls.ask(BLOB)
    assert (answer.status, answer.clean, Digest.of(answer.body)) == (200, True, DIGEST)
    first, second = scene.upstream.select("GET", "/blobs/")
    assert "range" not in first.headers
    assert second.headers["range"] == f"bytes={3 * MIB}-"


async def test_wrong_bytes_are_never_whole(scene: Scene) -> None:
    """T2, bad input 36: wrong content has a clean end for no client, and none of it is kept; right content heals it."""
    scene.upstream.faults.on("GET", "/blobs/", times=None).corrupt(5 * MIB)
    asked = [scene.pulls.ask(BLOB) for _ in range(3)] + [scene.pulls.ask(BLOB, Range=f"bytes={SIZE - 10}-")]
    for answer in await asyncio.gather(*asked):
        assert not answer.clean or answer.status >= 500
    assert scene.pulls.front.standing().cache_entries == 1
    assert not (await scene.pulls.ask(BLOB)).clean
    assert {one.reason for one in scene.pulls.failures()} <= {"restarted", "digest_mismatch"}
    assert {one.reference for one in scene.pulls.failures()} == {f"{scene.upstream.host}/team/app@{DIGEST}"}
    scene.upstream.faults.clear()
    healed = await scene.pulls.ask(BLOB)
    assert (healed.status, healed.clean, healed.body == LAYER) == (200, True, True)


PAGE = b"<html>no</html>"
ERROR = b'{"errors":[{"code":"DENIED","message":"no"}]}'


@pytest.mark.parametrize(
    ("status", "body", "seen"),
    [
        *[(404, PAGE, 404), (401, ERROR, 404), (403, ERROR, 403), (429, PAGE, 429), (500, PAGE, 502)],
        *[(401, PAGE, 502), (403, PAGE, 502), (403, b"[]", 502)],
    ],
)
async def test_errors_before_the_first_byte_are_answers(scene: Scene, status: int, body: bytes, seen: int) -> None:
    """T2, T4, T21: an upstream that refuses is an error in the registry's format, and its body is not content."""
    fault = scene.upstream.faults.on("GET", "/blobs/", times=None)
    fault.status(status, body, {"Content-Type": "text/html", "Retry-After": "0" if status == 429 else "30"})
    answer = await scene.pulls.ask(BLOB)
    assert (answer.status, answer.headers["content-type"]) == (seen, "application/json")
    assert scene.pulls.front.standing().cache_entries == 1
    scene.upstream.faults.clear()
    assert (await scene.pulls.ask(BLOB)).body == LAYER


async def test_a_blob_of_another_repository(scene: Scene) -> None:
    """T17, bad input 25: what is cached is not served under a name under which upstream does not have it."""
    assert (await scene.pulls.ask(BLOB)).body == LAYER
    scene.upstream.forget()
    other = f"up.test/team/other/blobs/{DIGEST}"
    for method in ("GET", "HEAD"):
        answer = await scene.pulls.ask(other, method)
        assert (answer.status, len(answer.body) < 1000) == (404, True)
    assert scene.blobs_read() == 0
    scene.upstream.content.put_blob("team/other", LAYER)
    assert (await scene.pulls.ask(other)).body == LAYER
    assert (await scene.pulls.ask(other, "HEAD")).headers["content-length"] == str(SIZE)
    assert scene.blobs_read() == 0
    assert scene.upstream.count("HEAD", "/team/other/blobs/") == 3


async def test_a_registry_that_refuses_head(scene: Scene) -> None:
    """T12: public.ecr.aws answers 401 to HEAD of a blob; one byte of it tells the size, and that it may be read."""
    scene.upstream.content.put_blob("team/other", LAYER)
    scene.upstream.faults.on("HEAD", "/blobs/", times=None).status(401)
    answer = await scene.pulls.ask(f"up.test/team/other/blobs/{DIGEST}", "HEAD")
    assert (answer.status, answer.headers["content-length"]) == (200, str(SIZE))
    (asked,) = scene.upstream.select("GET", "/blobs/")
    assert (asked.headers["range"], asked.sent) == ("bytes=0-0", 1)


async def test_clients_that_leave_hurt_nobody(scene: Scene) -> None:
    """The first of two clients leaves in the middle: the other one gets everything from the same transfer."""
    fault = scene.upstream.faults.on("GET", "/blobs/").stall(after=MIB)
    first = asyncio.create_task(scene.pulls.ask(BLOB))
    await fault.reached.wait()
    second = asyncio.create_task(scene.pulls.ask(BLOB))
    (entry,) = scene.pulls.services().spools.cache.busy
    while len(entry.spool.readers) < 3:  # noqa: ASYNC110 - both clients and the cache; nothing announces a reader
        await asyncio.sleep(0)
    first.cancel()
    fault.release()
    assert (await second).body == LAYER
    assert scene.blobs_read() == 1


async def test_clients_that_leave_in_line_are_read_nothing(scene: Scene) -> None:
    """A client that leaves while its blob waits for a turn at upstream costs no request, and the line moves on."""
    others = [bytes([number]) * MIB for number in range(12)]
    for number, layer in enumerate(others):
        an_image(scene.upstream.content, layer, f"team/{number}")
        await scene.pulls.ask(f"up.test/team/{number}/manifests/v1")
    fault = scene.upstream.faults.on("GET", "/blobs/", times=None).stall(after=1)
    blobs = [f"up.test/team/{number}/blobs/{Digest.of(layer)}" for number, layer in enumerate(others)]
    leaving = [await scene.pulls.begin(blob) for blob in blobs]
    await fault.reached.wait()
    for client in leaving:
        client.close()
    while scene.pulls.services().spools.cache.busy:  # noqa: ASYNC110 - nothing announces that
        await asyncio.sleep(0.01)
    read = scene.blobs_read()
    assert read < len(others)
    scene.upstream.faults.clear()
    assert (await scene.pulls.ask(BLOB)).body == LAYER
    assert scene.blobs_read() == read + 1


async def test_slow_clients_do_not_keep_others_from_an_upstream(tmp_path: Path) -> None:
    """Without room each slow client has a transfer of its own; more of them than `requests` hold up nobody else."""
    layers = [random.Random(number).randbytes(16 * MIB) for number in range(10)]
    async with Registry() as upstream, pulling(tmp_path, upstream.host, budget=MIB) as pulls:
        for number, layer in enumerate([*layers, LAYER]):
            an_image(upstream.content, layer, f"team/{number}")
            await pulls.ask(f"up.test/team/{number}/manifests/v1")
        blobs = [f"up.test/team/{number}/blobs/{Digest.of(layer)}" for number, layer in enumerate(layers)]
        slow = [await pulls.begin(blob) for blob in blobs]
        assert (await pulls.ask(f"up.test/team/10/blobs/{DIGEST}")).body == LAYER
        for client in slow:
            client.close()


async def test_a_reload_in_the_middle(scene: Scene) -> None:
    """A transfer that breaks after a reload goes on over the new way to upstreams, and its client does not notice."""
    seen: list[object] = []
    events = Events()
    events.listen(seen.append)
    async with Http(HostBook(), events, jitter=lambda: 0.0) as new:

        def reload() -> None:
            scene.pulls.configure(fresh=60)
            scene.pulls.world.services = replace(scene.pulls.services(), upstreams=new)

        scene.upstream.faults.on("GET", "/blobs/").truncate(MIB).do(reload)
        assert (await scene.pulls.ask(BLOB)).body == LAYER
        assert scene.blobs_read() == 2
        assert [type(one).__name__ for one in seen] == ["RequestDone"]


async def test_a_reload_that_removes_the_upstream(scene: Scene) -> None:
    """A transfer that breaks when its upstream is not listed any more ends: only listed upstreams are asked."""

    def reload() -> None:
        scene.pulls.configure(upstreams=["quay.io"], allow=["quay.io/a/b"])

    scene.upstream.faults.on("GET", "/blobs/").truncate(MIB).do(reload)
    assert not (await scene.pulls.ask(BLOB)).clean
    assert scene.upstream.count("*") == 1


async def test_sha512(scene: Scene) -> None:
    """T9: content by sha512 is verified and served under that name."""
    digest = Digest.of(LAYER, "sha512")
    scene.upstream.content.put_blob("team/app", LAYER, digest)
    answer = await scene.pulls.ask(f"up.test/team/app/blobs/{digest}")
    assert (answer.body == LAYER, answer.headers["docker-content-digest"]) == (True, digest)
    scene.upstream.content.put_blob("team/app", LAYER[:-1] + b"x", wrong := Digest.of(b"other", "sha512"))
    assert not (await scene.pulls.ask(f"up.test/team/app/blobs/{wrong}")).clean


async def test_a_blob_larger_than_the_spool(tmp_path: Path) -> None:
    """Without room a miss is passed through memory, whole or from an offset on, and is not kept."""
    async with Registry() as upstream, pulling(tmp_path, upstream.host, budget=4 * MIB) as pulls:
        an_image(upstream.content, LAYER)
        await pulls.ask("up.test/team/app/manifests/v1")
        assert (await pulls.ask(BLOB)).body == LAYER
        answer = await pulls.ask(BLOB, Range="bytes=5000000-")
        assert (answer.status, answer.body) == (206, LAYER[5_000_000:])
        assert upstream.count("GET", "/blobs/") == 2
        assert pulls.front.standing().cache_entries == 1
        while pulls.services().spools.cache.busy:  # noqa: ASYNC110 - the client has its last byte a moment earlier
            await asyncio.sleep(0)
        assert pulls.world.spooled() == []
