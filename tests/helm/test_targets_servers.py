"""Servers that make their own index: Coding, and ChartMuseum as a double and for real."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.errors import (
    BrokenError,
    ContentError,
    DeniedError,
    ImmutableError,
    MirrordError,
    RefusedError,
    ServerError,
)
from mirrord.model.digest import Digest
from mirrord.syncer.values import NoLedger
from mirrord.syncers.helm.transfer.chartmuseum import ChartMuseumTarget
from mirrord.syncers.helm.transfer.museum_api import api_url
from mirrord.syncers.helm.transfer.server_index import CodingTarget, ServedIndex
from mirrord.testing.servers import require
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.secret import Credential, Secret
from tests.support.chartfiles import pack_chart, sign_chart
from tests.support.chartprograms import HELMS, ChartMuseum, helm, helms, open_chartmuseum
from tests.support.chartservers import ChartMuseumServer, ChartServer, CodingServer
from tests.support.chartworld import ChartWorld, index_of, open_chart_world, read_listing, version_of

ONE, TWO = pack_chart("crane", "1.0.0", size=400_000), pack_chart("crane", "1.1.0")
CHANGED = pack_chart("crane", "1.0.0", description="built again")
ITEM, DIGEST = "crane-1.0.0", Digest.of(ONE)
KINDS = ("coding", "chartmuseum")
USER = ("ann", "correct horse battery staple")


def server_of(world: ChartWorld) -> ChartServer:
    assert isinstance(world.server, ChartServer)
    return world.server


@pytest.mark.parametrize("kind", KINDS)
async def test_few_requests(kind: str, world: ChartWorld) -> None:
    """A run costs one look at the index, one POST a file, and one look at what came of it."""
    target = await world.target(kind)
    await target.held()
    for one in (ONE, TWO):
        await world.put(target, one, sign_chart(one))
    await target.finish(index_of(ONE, TWO))
    server = server_of(world)
    files = 4 if kind == "chartmuseum" else 2
    assert (server.count("GET"), server.count("POST"), server.count("*")) == (2, files, 2 + files)
    sent = sum(exchange.received for exchange in server.select("POST", ""))
    assert sent < len(ONE) + len(TWO) + 6000


async def test_coding_gets_the_archive_alone(world: ChartWorld) -> None:
    """Coding's POST goes to the repository's own URL with the archive as its body and its length."""
    target = await world.target("coding")
    await world.put(target, ONE, sign_chart(ONE))
    (post,) = server_of(world).select("POST", "")
    assert post.target == "/team/charts"
    assert post.headers["content-length"] == str(len(ONE))
    assert server_of(world).files == {"crane-1.0.0.tgz": ONE}


async def test_chartmuseum_gets_the_provenance_first(world: ChartWorld) -> None:
    """Archive and provenance come byte for byte, and the archive is never there without its provenance."""
    target = await world.target("chartmuseum")
    await world.put(target, ONE, sign_chart(ONE))
    assert [post.target for post in server_of(world).select("POST", "")] == ["/api/prov", "/api/charts"]
    assert server_of(world).files == {"crane-1.0.0.tgz": ONE, "crane-1.0.0.tgz.prov": sign_chart(ONE)}


@pytest.mark.parametrize(
    ("url", "context", "api"),
    [
        ("https://h", "", "https://h/api/charts"),
        ("https://h/org/repo", "", "https://h/api/org/repo/charts"),
        ("https://h/ctx/org/repo/", "/ctx", "https://h/ctx/api/org/repo/charts"),
        ("https://h/ctx", "ctx/", "https://h/ctx/api/charts"),
        ("https://h/ctxx/repo", "/ctx", "https://h/ctx/api/ctxx/repo/charts"),
    ],
)
def test_where_the_api_is(url: str, context: str, api: str) -> None:
    """`api` goes between the context path and the repository."""
    assert api_url(url, context) == api


async def test_context_path(world: ChartWorld) -> None:
    """A ChartMuseum below a context path, with a repository below that, is written to and read."""
    target = await world.target("chartmuseum", path="/ctx/org/repo", context="/ctx")
    await world.put(target, ONE)
    await target.finish(index_of(ONE))
    assert await target.held() == {ITEM: DIGEST}
    assert server_of(world).count("POST", "^/ctx/api/org/repo/charts$") == 1


@pytest.mark.parametrize("status", [409, 400])
async def test_existing_with_the_same_digest(status: int, world: ChartWorld) -> None:
    """A refusal as existing is success when the index shows the same digest, whichever status says it."""
    target = await world.target("coding", refuses=status)
    for _ in range(2):
        await world.put(target, ONE)
    await target.finish(index_of(ONE))
    assert server_of(world).count("POST") == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_existing_with_another_digest(kind: str, world: ChartWorld) -> None:
    """A refusal as existing becomes one that names both digests when the index shows another one."""
    target = await world.target(kind)
    await world.put(target, CHANGED)
    with pytest.raises(ImmutableError, match=f"{Digest.of(CHANGED)}.*{DIGEST}") as caught:
        await world.put(target, ONE)
    assert caught.value.status == 409


@pytest.mark.parametrize("kind", KINDS)
async def test_replacing_where_the_server_forbids_it(kind: str, world: ChartWorld) -> None:
    """A server that lets nothing be replaced answers `replace` with ImmutableError."""
    options = {"force": False} if kind == "chartmuseum" else {}
    target = await world.target(kind, **options)
    await world.put(target, CHANGED)
    with pytest.raises(ImmutableError):
        await world.put(target, ONE, replace=True)


@pytest.mark.parametrize("kind", KINDS)
async def test_existing_but_not_listed(kind: str, world: ChartWorld) -> None:
    """A refusal as existing of something that no index lists is the server's refusal, in its own words."""
    target = await world.target(kind, lag=100)
    await world.put(target, ONE)
    with pytest.raises(RefusedError, match="exists") as caught:
        await world.put(target, ONE)
    assert not isinstance(caught.value, ImmutableError)


async def test_replaced_by_one_without_provenance(world: ChartWorld) -> None:
    """The new archive takes the place of the old one: at no time is the version missing, whatever ends the upload."""
    target, server = await world.target("chartmuseum"), server_of(world)
    assert isinstance(server, ChartMuseumServer)
    await world.put(target, ONE, sign_chart(ONE))
    server.faults.on("POST", "/api/charts", times=3).status(503)
    with pytest.raises(ServerError):
        await world.put(target, CHANGED, replace=True)
    assert server.files["crane-1.0.0.tgz"] == ONE
    await world.put(target, CHANGED, replace=True)
    await target.finish(index_of(CHANGED))
    assert server.files["crane-1.0.0.tgz"] == CHANGED
    assert server.count("DELETE") == 0


async def test_replaced_at_coding_where_it_may(world: ChartWorld) -> None:
    """A Coding repository that may be overwritten takes the new content."""
    target = await world.target("coding", overwrite=True)
    for one in (CHANGED, ONE):
        await world.put(target, one, replace=True)
    await target.finish(index_of(ONE))
    assert await target.held() == {ITEM: DIGEST}


@pytest.mark.parametrize("kind", KINDS)
async def test_an_index_made_in_the_background(kind: str, world: ChartWorld) -> None:
    """An index that shows an upload a little later is waited for."""
    target = await world.target(kind, lag=2)
    await world.put(target, ONE)
    await target.finish(index_of(ONE))
    before = 1 if kind == "chartmuseum" else 0  # it is looked at before the first upload
    assert server_of(world).count("GET", "index.yaml") == before + 3


@pytest.mark.parametrize("kind", KINDS)
async def test_an_index_that_never_shows_it(kind: str, world: ChartWorld) -> None:
    """A server that took a chart and never lists it is an error that names the chart."""
    target = await world.target(kind, lag=100)
    await world.put(target, ONE)
    with pytest.raises(ContentError, match=ITEM):
        await target.finish(index_of(ONE))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trouble", ["503", "cut in the body", "answer lost"])
async def test_sent_again_from_the_spool(kind: str, trouble: str, world: ChartWorld) -> None:
    """An upload that breaks is sent again without asking the source again; an answer that was lost is no conflict."""
    target = await world.target(kind)
    fault = server_of(world).faults.on("POST", "")
    if trouble == "503":
        fault.status(503)
    elif trouble == "cut in the body":
        fault.refuse_after(100_000, code=502)
    else:
        fault.close_mid_header()
    await world.put(target, ONE)
    await target.finish(index_of(ONE))
    assert await target.held() == {ITEM: DIGEST}
    assert server_of(world).count("POST") == 2
    assert world.read == {DIGEST: len(ONE)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "error", "posts"),
    [(413, RefusedError, 1), (507, ServerError, 1), (401, DeniedError, 1), (400, RefusedError, 1)],
)
async def test_refusals_are_final(
    kind: str, status: int, error: type[Exception], posts: int, world: ChartWorld
) -> None:
    """A server that says no, or that it is full, is not asked again, and its error goes out as what it is."""
    target = await world.target(kind)
    server_of(world).faults.on("POST", "", times=None).status(status, b"no")
    with pytest.raises(error, match=f"status {status}"):
        await world.put(target, ONE)
    assert server_of(world).count("POST") == posts


async def test_giving_up(world: ChartWorld) -> None:
    """After three uploads that broke it is over."""
    target = await world.target("coding")
    server_of(world).faults.on("POST", "", times=None).refuse_after(100_000, code=502)
    with pytest.raises((ServerError, BrokenError)):
        await world.put(target, ONE)
    assert server_of(world).count("POST") == 3


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"", b"entries: 5\n"])
async def test_an_index_that_is_none(body: bytes, world: ChartWorld) -> None:
    """What a server sends in place of an index is an error, never an empty repository."""
    target = await world.target("coding")
    server_of(world).faults.on("GET", "index.yaml").status(200, body)
    with pytest.raises(ContentError):
        await target.held()


@pytest.mark.parametrize("server", [CodingServer(user=USER), ChartMuseumServer(user=USER)], ids=KINDS)
async def test_basic_authentication(server: ChartServer, tmp_path: Path) -> None:
    """Credentials of the host go to the server, as Basic asks for them, and archives arrive whole."""
    async with server:
        policy = HostPolicy(server.host, Credential(USER[0], Secret(USER[1])))
        async with open_chart_world(tmp_path, book=HostBook({server.host: policy})) as world:
            kind = CodingTarget if isinstance(server, CodingServer) else ChartMuseumTarget
            target = kind(ServedIndex(world.http, server.url, read_listing, {}))
            await world.put(target, ONE)
            await target.finish(index_of(ONE))
            assert await target.held() == {ITEM: DIGEST}
    assert world.read == {DIGEST: len(ONE)}


@contextlib.asynccontextmanager
async def real(tmp_path: Path, *options: str) -> AsyncIterator[tuple[ChartWorld, ChartMuseum, ChartMuseumTarget]]:
    require("chartmuseum")
    async with open_chartmuseum(USER, *options) as server:
        host = server.url.removeprefix("http://")
        policy = HostPolicy(host, Credential(USER[0], Secret(USER[1])))
        async with open_chart_world(tmp_path, book=HostBook({host: policy})) as world:
            yield world, server, ChartMuseumTarget(ServedIndex(world.http, server.url, read_listing, {}))


async def test_real_chartmuseum(tmp_path: Path) -> None:
    """The real ChartMuseum takes charts with provenance, lists them, refuses other content, replaces when asked."""
    async with real(tmp_path) as (world, server, target):
        assert await target.held() == {}
        for one in (ONE, TWO, ONE):
            await world.put(target, one, sign_chart(one))
        await target.finish(index_of(ONE, TWO))
        assert await target.held() == {ITEM: DIGEST, "crane-1.1.0": Digest.of(TWO)}
        stored = {file.name: file.read_bytes() for file in server.storage.iterdir()}
        assert stored["crane-1.0.0.tgz"] == ONE
        assert stored["crane-1.0.0.tgz.prov"] == sign_chart(ONE)
        with pytest.raises(ImmutableError):
            await world.put(target, CHANGED)
        await world.put(target, CHANGED, sign_chart(CHANGED), replace=True)
        await target.finish(index_of(CHANGED, TWO))
        assert (await target.held())[ITEM] == Digest.of(CHANGED)
        await world.put(target, ONE, replace=True)
        await target.finish(index_of(ONE, TWO))
        assert (await target.held())[ITEM] == DIGEST
        ends: dict[str, MirrordError | None] = {}
        await target.remove("museum", [version_of(TWO)], NoLedger(), ends.__setitem__)
        assert ends == {"crane-1.1.0": None}
        assert {file.name for file in server.storage.iterdir() if "1.1.0" in file.name} == set()


async def test_real_chartmuseum_below_a_context_path(tmp_path: Path) -> None:
    """Context path and tenants are where the real ChartMuseum has them."""
    async with real(tmp_path, "--context-path=/ctx", "--depth=2") as (world, server, _):
        target = ChartMuseumTarget(ServedIndex(world.http, f"{server.url}/ctx/org/repo", read_listing, {}))
        await world.put(target, ONE)
        await target.finish(index_of(ONE))
        assert await target.held() == {ITEM: DIGEST}
        assert (server.storage / "org/repo/crane-1.0.0.tgz").read_bytes() == ONE


@pytest.mark.parametrize("binary", helms() or HELMS[-1:])
@pytest.mark.parametrize("kind", KINDS)
async def test_real_helm_pulls_from_the_doubles(kind: str, binary: str, world: ChartWorld) -> None:
    """The doubles are chart repositories to the real helm: what was put is what it pulls."""
    require(binary)
    target = await world.target(kind)
    await world.put(target, ONE)
    await target.finish(index_of(ONE))
    with tempfile.TemporaryDirectory() as folder:
        async with helm(binary) as run:
            added = await run("repo", "add", "mirror", server_of(world).url)
            assert added.status == 0, added.output
            pulled = await run("pull", "mirror/crane", "--version", "1.0.0", "-d", folder)
            assert pulled.status == 0, pulled.output
        data = await asyncio.to_thread((Path(folder) / "crane-1.0.0.tgz").read_bytes)
    assert data == ONE
