"""Sources that send more than any honest one, to a running daemon: others are served, and memory has an end."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mirrord.commands import Sync
from mirrord.model.run import Result, Run
from mirrord.serve.remote import ControlClient
from mirrord.testing import Registry, build_image, push
from mirrord.testing.images import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from mirrord.testing.server import listen
from tests.support.commands import Desk, Served

MIB = 1 << 20
MOST = 350 * 1024  # kB; an idle daemon has 80 MB


@dataclass
class Source:
    """A registry that makes up what it is asked for; manifests by the last part of their path, tag pages by number."""

    manifests: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    page: Any = None
    refusal: bytes = b""
    asked: list[str] = field(default_factory=list)
    host: str = ""

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.asked.append(f"{request.method} {request.path}")
        name = request.path.rpartition("/")[2]
        if name == "list":
            return await asyncio.to_thread(self.page, int(request.query.get("page", "0")))
        if name not in self.manifests:
            return web.Response(status=403 if self.refusal else 404, body=self.refusal)
        kind, body = self.manifests[name]
        body = body if isinstance(body, bytes) else await asyncio.to_thread(body)
        headers = {"Docker-Content-Digest": digest(body), "Content-Type": kind}
        return web.Response(body=body, headers=headers)


def digest(body: bytes) -> str:
    return f"sha256:{sha256(body).hexdigest()}"


def descriptor(kind: str, body_digest: str, size: int, **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "digest": body_digest, "size": size, **more}


@asynccontextmanager
async def running(source: Source, desk: Desk) -> AsyncIterator[Served]:
    """Serve `source` as mirror `evil`, and an ordinary one as `good`."""
    runner, port = await listen(source.answer)
    source.host = f"127.0.0.1:{port}"
    try:
        async with Registry() as well:
            await push(build_image(), well, "a", ["v1"])
            desk.configure(
                "settings: {listen: '127.0.0.1:0'}\nmirrors:\n"
                f"- {{name: evil, kind: image, to: local, from: {{repository: {source.host}/a, tags: ['*']}}}}\n"
                f"- {{name: good, kind: image, to: local, from: {{repository: {well.host}/a, tags: [v1]}}}}\n"
            )
            async with desk.serving() as daemon:
                yield daemon
    finally:
        await runner.cleanup()


async def both(desk: Desk, daemon: Served) -> Run:
    """Sync `evil`; `good` is done, and `/livez` answers, before that one has ended or soon after."""
    client = ControlClient(desk.folder / "state")
    evil = asyncio.create_task(client.carry_out(Sync(("evil",))))
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        (good,) = await client.carry_out(Sync(("good",)))
        assert good.result is Result.SUCCESS, good
        while not evil.done():
            async with session.get(f"http://{daemon.address}/livez") as answer:
                assert answer.status == 200
            await asyncio.sleep(0.05)
    (run,) = await evil
    return run


def peak(daemon: Served) -> int:
    """Return the most memory that the daemon ever had, in kB."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def one_tag(_: int) -> web.Response:
    return web.json_response({"name": "a", "tags": ["v1"]})


async def test_an_index_of_huge_manifests(desk: Desk) -> None:
    """A4: 150 platforms of 4 MiB and 25 000 layers each: refused by the number of layers, after a few of them."""
    layers = [descriptor(OCI_LAYER, digest(str(number).encode()), number) for number in range(25_000)]
    text = json.dumps({"schemaVersion": 2, "config": descriptor(OCI_CONFIG, digest(b"{}"), 2), "layers": layers})
    manifests: dict[str, tuple[str, Any]] = {}
    children = []
    for number in range(150):
        body = text.replace(digest(b"{}"), digest(str(number).encode())).encode()
        manifests[digest(body)] = (OCI_MANIFEST, lambda number=number: _huge(text, number))
        children.append(descriptor(OCI_MANIFEST, digest(body), len(body)))
    index = json.dumps({"schemaVersion": 2, "manifests": children}).encode()
    manifests |= {"v1": (OCI_INDEX, index), digest(index): (OCI_INDEX, index)}
    source = Source(manifests, one_tag)
    async with running(source, desk) as daemon:
        run = await both(desk, daemon)
        memory = peak(daemon)
    assert run.result is Result.FAILED
    assert "25000 layers or blobs; 1000 are the most" in run.receipts[0].detail
    assert len([path for path in source.asked if path.startswith("GET") and "sha256:" in path]) <= 40
    assert memory < MOST


def _huge(text: str, number: int) -> bytes:
    return text.replace(digest(b"{}"), digest(str(number).encode())).encode()


async def test_an_index_of_wide_indexes(desk: Desk) -> None:
    """A4: indexes of indexes that lead to more than an image may have: given up before all of it is read."""
    source = Source(Wide(), one_tag)
    async with running(source, desk) as daemon:
        run = await both(desk, daemon)
        memory = peak(daemon)
    assert run.result is Result.FAILED
    assert "more than 10000 manifests in one image" in run.receipts[0].detail
    assert len(source.asked) < 6000
    assert memory < MOST


class Wide(dict[str, tuple[str, Any]]):
    """An index of two indexes of 6000 manifests each."""

    def __init__(self) -> None:
        super().__init__()
        leaves = [self.keep(OCI_MANIFEST, self.manifest(number)) for number in range(12_000)]
        middle = [self.keep(OCI_INDEX, self.index(leaves[at : at + 6000])) for at in range(0, len(leaves), 6000)]
        root = self.index(middle)
        self["v1"] = OCI_INDEX, root
        self.keep(OCI_INDEX, root)

    def keep(self, kind: str, body: bytes) -> dict[str, Any]:
        self[digest(body)] = kind, body
        return descriptor(kind, digest(body), len(body))

    @staticmethod
    def manifest(number: int) -> bytes:
        empty = descriptor("application/vnd.oci.empty.v1+json", digest(b"{}"), 2, data="e30=")
        return json.dumps({"schemaVersion": 2, "config": empty, "annotations": {"n": str(number)}}).encode()

    @staticmethod
    def index(children: list[dict[str, Any]]) -> bytes:
        return json.dumps({"schemaVersion": 2, "manifests": children}).encode()


async def test_a_manifest_of_nothing_but_annotations(desk: Desk) -> None:
    """A4: 4 MiB of short annotations in each of eight manifests: carried, in a bounded part of memory."""
    manifests: dict[str, tuple[str, Any]] = {}
    children = []
    for number in range(8):
        notes = {f"{number}.{key}": "x" * 4 for key in range(190_000)}
        empty = descriptor("application/vnd.oci.empty.v1+json", digest(b"{}"), 2, data="e30=")
        body = json.dumps({"schemaVersion": 2, "config": empty, "annotations": notes}, separators=(",", ":")).encode()
        assert 3 * MIB < len(body) < 4 * MIB
        manifests[digest(body)] = OCI_MANIFEST, body
        children.append(descriptor(OCI_MANIFEST, digest(body), len(body)))
    index = json.dumps({"schemaVersion": 2, "manifests": children}).encode()
    manifests |= {"v1": (OCI_INDEX, index), digest(index): (OCI_INDEX, index)}
    async with running(Source(manifests, one_tag), desk) as daemon:
        run = await both(desk, daemon)
        memory = peak(daemon)
    assert run.result is Result.SUCCESS, run
    assert memory < MOST


async def test_tags_without_end(desk: Desk) -> None:
    """A4: 300 pages of 1000 tags: given up at 100 000, before a single one is asked for."""

    def page(number: int) -> web.Response:
        tags = [f"t{number}-{tag}" for tag in range(1000)]
        link = {"Link": f'</v2/a/tags/list?page={number + 1}>; rel="next"'} if number < 299 else {}
        return web.json_response({"name": "a", "tags": tags}, headers=link)

    source = Source(page=page)
    async with running(source, desk) as daemon:
        run = await both(desk, daemon)
        memory = peak(daemon)
    assert (run.result, run.code) == (Result.FAILED, "too_large")
    assert "more than 100000 tags" in run.error
    assert len(source.asked) == 101
    assert memory < MOST


async def test_one_page_of_all_tags(desk: Desk) -> None:
    """A4: a page of 8 MiB of the shortest tags is given up before anything is made of it."""
    body = json.dumps({"name": "a", "tags": ["a"] * 2_000_000}, separators=(",", ":")).encode()
    source = Source(page=lambda _: web.Response(body=body, content_type="application/json"))
    async with running(source, desk) as daemon:
        run = await both(desk, daemon)
        memory = peak(daemon)
    assert "more than 1000000 values" in run.error
    assert memory < MOST


@pytest.mark.parametrize("blanks", [3, 40, 1500])
async def test_a_link_of_empty_values(desk: Desk, blanks: int) -> None:
    """A1: a Link header of 207 bytes stopped the daemon for ever; now the list is read, and SIGTERM is obeyed."""
    pages: list[int] = []

    def page(number: int) -> web.Response:
        pages.append(number)
        link = {"Link": "</v2/a/tags/list?page=1>" + ";a=  " * blanks + '"'} if number == 0 else {}
        return web.json_response({"name": "a", "tags": [f"v{number}"]}, headers=link)

    async with running(Source(page=page), desk) as daemon:
        run = await both(desk, daemon)
        daemon.process.terminate()
        assert await asyncio.wait_for(daemon.process.wait(), 60) == 0
    assert (run.result, pages) == (Result.FAILED, [0])
    assert "malformed Link header" in run.error


async def test_errors_of_the_longest_text(desk: Desk) -> None:
    """A2: 64 KiB of what looks like the beginning of a password in each error, for a hundred tags."""

    def page(_: int) -> web.Response:
        return web.json_response({"name": "a", "tags": [f"v{number}" for number in range(100)]})

    source = Source(page=page, refusal=(b"://a:" * 3000 + b" ") * 4)
    async with running(source, desk) as daemon:
        run = await both(desk, daemon)
    assert run.result is Result.FAILED
    assert run.plan is not None
    assert "://a:" in run.plan.missing[0]
    assert max(map(len, run.plan.missing)) < 1200


async def test_a_quota_of_five_thousand_digits(desk: Desk) -> None:
    """A9: a header that no number can be read from is no reason to fail."""
    image = build_image()
    async with Registry() as source:
        await push(image, source, "a", ["v1"])
        source.faults.on("GET|HEAD", "/v2/", times=None).header("RateLimit-Remaining", "9" * 5000)
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\nmirrors:\n"
            f"- {{name: m, kind: image, to: local, from: {{repository: {source.host}/a, tags: ['*']}}}}\n"
        )
        async with desk.serving():
            (run,) = await ControlClient(desk.folder / "state").carry_out(Sync(("m",)))
    assert run.result is Result.SUCCESS, run
