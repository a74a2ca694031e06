"""The `local` store as a chart repository: what a path stands for, and what real helm makes of it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from mirrord.events import Events
from mirrord.files import LocalFile
from mirrord.model.digest import Digest
from mirrord.syncer.serving import Request, Response, Serves
from mirrord.syncer.values import Services
from mirrord.syncers.helm.front import respond
from mirrord.syncers.helm.names import CHARTS, INDEX, ChartVersion
from mirrord.syncers.helm.syncer import SYNCER
from mirrord.syncers.helm.transfer.emit import emit_json, emit_yaml
from mirrord.syncers.helm.transfer.target import IndexFile
from mirrord.testing.charts import build_chart
from mirrord.testing.servers import require
from tests.support.chartfiles import pack_chart, sign_chart
from tests.support.chartprograms import HELMS, helm
from tests.support.chartworld import ChartWorld, version_of
from tests.support.frontserver import open_front
from tests.support.localstore import place_in, said, sent
from tests.support.signing import GpgSigner

ONE, TWO = pack_chart("crane", "1.0.0", size=50_000), pack_chart("crane", "1.1.0+build.2")
EXTRAS = {"pubkey.gpg": b"\x99 a key", "artifacthub-repo.yml": b"repositoryID: x\n"}


def index_file(charts: tuple[ChartVersion, ...], *, as_json: bool = False) -> IndexFile:
    return IndexFile((emit_json if as_json else emit_yaml)(charts), charts, EXTRAS)


async def publish(world: ChartWorld, archives: Mapping[bytes, bytes | None], *, as_json: bool = False) -> IndexFile:
    """Publish archives with their provenance files to the `local` target of the mirror `app`."""
    target = await world.target("local")
    for archive, prov in archives.items():
        await world.put(target, archive, prov)
    index = index_file(tuple(map(version_of, archives)), as_json=as_json)
    await target.finish(index)
    return index


def services_of(world: ChartWorld) -> Services:
    return Services(world.http, world.spools, Events(), world.folder, world.store, world.links, world.folder)


async def ask(world: ChartWorld, path: str, method: str = "GET") -> Response:
    return await respond(Request(method, "/helm/", path, {}), services_of(world))


def read(answer: Response) -> bytes:
    return sent(answer)


def test_port() -> None:
    """The front fits the port."""
    assert isinstance(SYNCER.front, Serves)


@pytest.mark.parametrize(("as_json", "media_type"), [(False, "application/yaml"), (True, "application/json")])
async def test_the_index(world: ChartWorld, as_json: bool, media_type: str) -> None:
    """The index is served as it was published, by its digest, compressed too, and no cache keeps it unasked."""
    index = await publish(world, {ONE: None}, as_json=as_json)
    answer = await ask(world, f"app/{INDEX}")
    assert read(answer) == index.data
    assert isinstance(answer.gzipped, LocalFile)
    assert gzip.decompress(answer.gzipped.path.read_bytes()) == index.data
    expected = {"Content-Type": media_type, "ETag": f'"{Digest.of(index.data)}"', "Cache-Control": "no-cache"}
    assert answer.headers == expected


async def test_archives_and_what_follows_them(world: ChartWorld) -> None:
    """Archives, provenance, keys and the hub's file are served byte for byte, each with a type no browser runs."""
    await publish(world, {ONE: sign_chart(ONE), TWO: None})
    expected = {
        "charts/crane-1.0.0.tgz": (ONE, "application/gzip"),
        "charts/crane-1.1.0+build.2.tgz": (TWO, "application/gzip"),
        "charts/crane-1.1.0%2Bbuild.2.tgz": (TWO, "application/gzip"),
        "charts/crane-1.0.0.tgz.prov": (sign_chart(ONE), "text/plain; charset=utf-8"),
        "pubkey.gpg": (EXTRAS["pubkey.gpg"], "application/pgp-keys"),
        "artifacthub-repo.yml": (EXTRAS["artifacthub-repo.yml"], "application/yaml"),
    }
    for path, (data, media_type) in expected.items():
        answer = await ask(world, f"app/{path}")
        assert (answer.status, read(answer), answer.headers["Content-Type"]) == (200, data, media_type)
        assert answer.headers["ETag"] == f'"{Digest.of(data)}"'
        assert answer.gzipped is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "app",
        "app/",
        "app/charts",
        "app/charts/",
        "app/charts/crane-2.0.0.tgz",
        "app/charts/crane-1.1.0 build.2.tgz",
        "app/crane-1.0.0.tgz",
        "app/charts/charts/crane-1.0.0.tgz",
        "app/INDEX.YAML",
        "app/index.yaml/",
        "app/index.yaml%00",
        "app/index.yaml%0a",
        "none/index.yaml",
        "App/index.yaml",
        "../_helm/app/index.yaml",
        "_helm/app/index.yaml",
        "app/../app/index.yaml",
        "app/charts/../index.yaml",
        "app/charts/..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "app\\index.yaml",
        "app/_links.json",
        "a" * 10_000 + "/index.yaml",
        "%ff/index.yaml",
    ],
    ids=lambda path: f"21-{path[:30]}",
)
async def test_strange_paths(world: ChartWorld, path: str) -> None:
    """Bad input 21: whatever is no name of the repository is 404 in a few words, and nothing is made on disk."""
    await publish(world, {ONE: None, TWO: None})
    before = sorted(world.folder.rglob("*"))
    answer = await ask(world, path)
    assert (answer.status, isinstance(answer.body, bytes)) == (404, True)
    assert len(said(answer)) < 200
    assert sorted(world.folder.rglob("*")) == before


async def test_nothing_to_serve(world: ChartWorld) -> None:
    """Without state, before the first run, with a lost file or a broken store there is an answer without a path."""
    services = services_of(world)
    bare = Services(services.http, services.spools, services.events, services.scratch)
    assert (await respond(Request("GET", "/helm/", f"app/{INDEX}", {}), bare)).status == 404
    assert (await ask(world, f"app/{INDEX}")).status == 404
    await publish(world, {ONE: None})
    lost = place_in(world.store, Digest.of(ONE))
    assert lost is not None
    lost.unlink()
    assert b"next run" in said(await ask(world, "app/charts/crane-1.0.0.tgz"))
    (world.folder / "repositories" / "_helm" / "app" / "_links.jsonl").write_text("{")
    answer = await ask(world, f"app/{INDEX}")
    assert (answer.status, str(world.folder).encode() in said(answer)) == (500, False)


async def test_reading_only(world: ChartWorld) -> None:
    """Nothing can be posted, as it could to ChartMuseum (bad input 34)."""
    for path in ("app/api/charts", "api/charts", f"app/{INDEX}"):
        assert (await ask(world, path, "POST")).status == 405


async def test_over_http(world: ChartWorld) -> None:
    """A client gets gzip when it asks, 304 for the form it has, and parts of archives."""
    index = await publish(world, {ONE: None})
    async with open_front(services_of(world), SYNCER) as url, aiohttp.ClientSession(auto_decompress=False) as http:
        base = f"{url}/helm/app"
        for accepted, data in (("gzip", index.packed()), ("identity", index.data)):
            headers = {"Accept-Encoding": accepted}
            async with http.get(f"{base}/{INDEX}", headers=headers) as answer:
                assert (await answer.read(), answer.headers["Vary"]) == (data, "Accept-Encoding")
                tag = answer.headers["ETag"]
            async with http.get(f"{base}/{INDEX}", headers={**headers, "If-None-Match": tag}) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
        async with http.get(f"{base}/charts/crane-1.0.0.tgz", headers={"Range": "bytes=10-19"}) as answer:
            assert (answer.status, await answer.read()) == (206, ONE[10:20])
        async with http.get(f"{base}/none") as answer:
            assert (answer.status, answer.content_type) == (404, "text/plain")
        async with http.put(f"{base}/{INDEX}", data=b"x") as answer:
            assert answer.status == 405


@pytest.mark.parametrize("as_json", [False, True], ids=["yaml", "json"])
@pytest.mark.parametrize("binary", HELMS[:2])
async def test_real_helm(world: ChartWorld, tmp_path: Path, binary: str, as_json: bool) -> None:
    """`helm repo add`, `update`, `search`, `pull` and `template` work against what is served."""
    require(binary)
    await publish(world, {ONE: None, TWO: None}, as_json=as_json)
    async with open_front(services_of(world), SYNCER) as url, helm(binary) as run:
        assert (await run("repo", "add", "here", f"{url}/helm/app")).status == 0
        assert (await run("repo", "update")).status == 0
        found = await run("search", "repo", "here/", "--versions", "-o", "json")
        assert [one["version"] for one in json.loads(found.output)] == ["1.1.0+build.2", "1.0.0"]
        for version, data in (("1.0.0", ONE), ("1.1.0+build.2", TWO)):
            pulled = await run("pull", "here/crane", "--version", version, "-d", tmp_path)
            assert pulled.status == 0, pulled.output
            assert (tmp_path / f"crane-{version}.tgz").read_bytes() == data
        shown = await run("template", "x", "crane", "--repo", f"{url}/helm/app", "--version", "1.0.0")
        assert shown.status == 0, shown.output


@pytest.mark.parametrize("binary", HELMS[:2])
async def test_real_helm_verifies(world: ChartWorld, tmp_path: Path, binary: str) -> None:
    """`helm pull --verify` finds a provenance file that gpg signed upstream, byte for byte; a lost one is refused."""
    require(binary, "gpg", "gpgconf")
    home = tmp_path / "g"
    home.mkdir()
    chart = build_chart("crane", "2.0.0")
    with GpgSigner(home) as signer:
        (tmp_path / "keys.gpg").write_bytes(signer.keyring())
        await publish(world, {chart.data: chart.provenance(signer), ONE: None})
    assert await world.links.tag("_helm/app", f"{CHARTS}/crane-2.0.0.tgz.prov")
    async with open_front(services_of(world), SYNCER) as url, helm(binary) as run:
        assert (await run("repo", "add", "here", f"{url}/helm/app")).status == 0
        verify = ("pull", "here/crane", "--verify", "--keyring", tmp_path / "keys.gpg", "-d", tmp_path, "--version")
        good, bad = await asyncio.gather(run(*verify, "2.0.0"), run(*verify, "1.0.0"))
        assert good.status == 0, good.output
        assert bad.status != 0
