"""Clients of served repositories who are slow, or say nothing, do not keep others from cloning."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirrord.syncer.values import Services
from mirrord.syncers.git.names import MARK
from mirrord.syncers.git.syncer import SYNCER
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.running import run
from mirrord.wire.git.pktline import DELIMITER, FLUSH, encode
from tests.support.crowd import Client, crowd, request, troubles
from tests.support.frontserver import open_front
from tests.support.gitcontent import fill
from tests.support.opening import open_services

GIT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
PACK = "/git/app.git/git-upload-pack"
TYPE = "Content-Type: application/x-git-upload-pack-request"
SIZE = 6_000_000  # more than the kernel keeps for a connection


@dataclass(slots=True)
class Site:
    """A served cache."""

    url: str
    services: Services
    upstream: Upstream

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    def fetch(self, pace: float | None) -> Client:
        """Return a client that wants all of it."""
        tip = self.upstream.refs()["refs/heads/main"]
        body = encode("command=fetch") + DELIMITER + encode(f"want {tip}") + encode("done") + FLUSH
        return Client(request(PACK, TYPE, "Git-Protocol: version=2", method="POST", body=body), pace)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_services(tmp_path / "state") as services:
        assert services.keep is not None
        folder = services.keep / "git" / "app.git"
        await run("git", "init", "--quiet", "--bare", "-b", "main", folder, env=GIT)
        (folder / MARK).write_text("app")
        upstream = Upstream(folder)
        fill(upstream, 20, SIZE)
        async with open_front(services, SYNCER) as url:
            yield Site(url, services, upstream)


@pytest.mark.parametrize("count", [8, 20])
async def test_cloning_beside_slow_clients(site: Site, tmp_path: Path, count: int) -> None:
    """While many read at 2 kB/s and as many post one byte, `git clone` and `git ls-remote` work; nobody is reset."""
    begun = Client(request(PACK, TYPE, "Content-Length: 1000", method="POST") + b"0")
    slow = [site.fetch(2000.0) for _ in range(count)]
    loose = asyncio.create_task(asyncio.to_thread(crowd, site.address, [*slow, *([begun] * count)], 12))
    done = await run("git", "clone", "--quiet", f"{site.url}/git/app.git", tmp_path / "c", env=GIT, seconds=60)
    assert done.status == 0, done.output
    listed = await run("git", "ls-remote", f"{site.url}/git/app.git", env=GIT)
    assert (listed.status, "refs/heads/main" in listed.output) == (0, True)
    await loose
    assert troubles(slow) == {"late": count}
    assert {client.status for client in slow} == {200}


async def test_many_clones_at_once(site: Site) -> None:
    """Dozens who clone at one moment all get all of it: those for whom there is no place yet wait."""
    ended = await asyncio.to_thread(crowd, site.address, [site.fetch(None) for _ in range(30)], 100)
    assert troubles(ended) == {}
    assert {client.size > SIZE for client in ended} == {True}


@pytest.mark.parametrize("header", ["", "version=0", "version=1", "version=2", "version=9", "x:version=2:y", "; rm"])
async def test_the_same_answers_as_http_backend(site: Site, header: str) -> None:
    """What a clone asks first is answered byte for byte as git's own CGI program does, in each version."""
    upstream = site.upstream
    upstream.git("config", "uploadpack.allowFilter", "true")
    upstream.git("config", "uploadpack.allowReachableSHA1InWant", "true")
    backend = {
        "GIT_PROJECT_ROOT": str(upstream.path.parent),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": "/app.git/info/refs",
        "QUERY_STRING": "service=git-upload-pack",
        "REQUEST_METHOD": "GET",
        "HTTP_GIT_PROTOCOL": header,
    }
    out = await asyncio.to_thread(
        subprocess.run, ["git", "http-backend"], env={**os.environ, **GIT, **backend}, check=True, capture_output=True
    )
    _, _, expected = out.stdout.partition(b"\r\n\r\n")
    reader, writer = await asyncio.open_connection(*site.address)
    writer.write(
        b"GET /git/app.git/info/refs?service=git-upload-pack HTTP/1.0\r\n" + f"Git-Protocol: {header}\r\n\r\n".encode()
    )
    head, _, body = (await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")
    writer.close()
    assert (head.startswith(b"HTTP/1.0 200"), b"x-git-upload-pack-advertisement" in head) == (True, True)
    assert body == expected
