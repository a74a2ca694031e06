"""From where chart archives are taken, whose credentials go along, and what becomes of them on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mirrord.blobs.hashed_file import HashedFile
from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.source_queue import TRIES
from mirrord.errors import (
    BrokenError,
    ContentError,
    DeniedError,
    DigestError,
    MissingError,
    ServerError,
    StalledError,
    StorageError,
    TooLargeError,
)
from mirrord.events import Events
from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import CHART_TYPES, PROVENANCE_TYPE, ChartVersion
from mirrord.syncers.helm.plan.survey import ChartArchive
from mirrord.syncers.helm.upstream import fetch
from mirrord.syncers.helm.upstream.fetch import ChartSource
from mirrord.testing import Registry
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import Chart, build_chart
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import Limits
from mirrord.wire.oci.descriptor import OCI_MANIFEST
from mirrord.wire.secret import Credential, Secret
from tests.support.auth import Auth
from tests.support.signing import ShapeSigner

CRANE = build_chart("crane", "1.2.0+b", {"files/filler": Random(7).randbytes(20_000)})
OTHER = build_chart("crane", "1.3.0")
PASSWORD = "correct-horse-7"
ANN = Credential("ann", Secret(PASSWORD))
DOOR = ("ann", PASSWORD)


@pytest.fixture
async def repository() -> AsyncIterator[ChartRepository]:
    async with ChartRepository(path="/stable") as made:
        yield made


@pytest.fixture
async def stranger() -> AsyncIterator[ChartRepository]:
    async with ChartRepository() as made:
        yield made


def book_of(*repositories: ChartRepository) -> HostBook:
    return HostBook({one.host: HostPolicy(one.host, credential=ANN) for one in repositories})


@asynccontextmanager
async def source(repository: str, book: HostBook | None = None, **options: Any) -> AsyncIterator[ChartSource]:
    async with Http(book or HostBook(), limits=Limits(attempts=2, patience=0.0), jitter=lambda: 0.0) as http:
        yield ChartSource(http, repository, **options)


@asynccontextmanager
async def archive(source: ChartSource, chart: ChartVersion, folder: Path, *also: Digest) -> AsyncIterator[ChartArchive]:
    """Get an archive into a spool below `folder`, in which nothing is left but content by digest."""
    async with spools(folder) as pool, source.archive(chart, pool, "m/", also) as found:
        yield found


@asynccontextmanager
async def spools(folder: Path) -> AsyncIterator[SpoolPool]:
    pool = SpoolPool(folder, 64 << 20, Events())
    try:
        yield pool
    finally:
        await pool.aclose()
        assert [file.name for file in folder.glob("*") if not file.name.startswith("sha256-")] == []


async def get(source: ChartSource, chart: ChartVersion, folder: Path, *also: Digest) -> bytes:
    async with (
        spools(folder) as pool,
        source.archive(chart, pool, "m/", also) as found,
        pool.reader(found.source, "m/t") as reader,
    ):
        data = b"".join([chunk async for chunk in reader.chunks()])
        assert (found.digest, found.size) == (Digest.of(data), len(data))
        return data


def seen(repository: ChartRepository) -> list[str | None]:
    return [exchange.headers.get("authorization") for exchange in repository.log]


async def test_one_request_for_an_archive(
    repository: ChartRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive costs one request, is hashed and counted once as it comes, and is had by targets from its spool."""
    repository.add(CRANE)
    counted: list[int] = []
    hashed: list[int] = []
    add = HashedFile.add

    def count(self: HashedFile, data: bytes, at: int | None) -> None:
        hashed.append(len(data))
        add(self, data, at)

    monkeypatch.setattr(HashedFile, "add", count)
    monkeypatch.setattr(Digest, "hasher", lambda _: pytest.fail("hashed again"))
    async with (
        spools(tmp_path) as pool,
        source(repository.url, on_bytes=counted.append) as charts,
        charts.archive(CRANE.listed(), pool, "m/") as found,
    ):
        for target in ("m/one", "m/two"):
            async with pool.reader(found.source, target) as reader:
                assert b"".join([chunk async for chunk in reader.chunks()]) == CRANE.data
    assert repository.count("*", "") == 1
    assert sum(counted) == sum(hashed) == len(CRANE.data) == repository.sent()


@pytest.mark.parametrize("tags", [True, False], ids=["ETag", "no ETag"])
async def test_a_break_where_no_digest_is_listed(tags: bool, repository: ChartRepository, tmp_path: Path) -> None:
    """An archive is gone on with where its server vouches that it is still the same, else asked for from the start."""
    repository.tags = tags
    repository.add(CRANE)
    repository.faults.on("GET", "tgz").truncate(1000)
    async with source(repository.url) as charts:
        assert await get(charts, replace(CRANE.listed(), digest=None), tmp_path) == CRANE.data
    asked = [(one.headers.get("range"), one.headers.get("if-range") is not None) for one in repository.log]
    assert asked == [(None, False), ("bytes=1000-", True) if tags else (None, False)]


NEAR = {
    "12 relative": ("charts/{}", "/stable/charts/{}"),
    "12 with a dot": ("./charts/{}", "/stable/charts/{}"),
    "12 from the root of the host": ("/{}", "/{}"),
    "12 down and up": ("charts/../{}", "/stable/{}"),
    "12 own query": ("charts/{}?x=1#y", "/stable/charts/{}"),
    "12 absolute": ("{url}/far/{}", "/stable/far/{}"),
    "12 other spelling of the host": ("HTTP://{host}/stable/{}", "/stable/{}"),
}


@pytest.mark.parametrize(("url", "path"), NEAR.values(), ids=NEAR)
async def test_own_host(url: str, path: str, repository: ChartRepository, tmp_path: Path) -> None:
    """What is on the repository's own host is fetched with its credentials, however the URL is written (helm#9868)."""
    repository.auth = Auth(basic=DOOR)
    repository.files[path.format(CRANE.file)] = CRANE.data
    entry = CRANE.listed(url.format(CRANE.file, url=repository.url, host=repository.host))
    async with source(repository.url, book_of(repository)) as charts:
        assert await get(charts, entry, tmp_path) == CRANE.data
    assert seen(repository)[-1] == ANN.basic


@pytest.mark.parametrize("slash", ["", "/"])
async def test_query_of_the_repository(slash: str, repository: ChartRepository, tmp_path: Path) -> None:
    """A relative URL inherits the repository's query, where some keep a token; the provenance is beside the path."""
    repository.add(CRANE, prov=CRANE.provenance(ShapeSigner()))
    address = f"{repository.url}{slash}?token=abc123"
    async with source(address) as charts, archive(charts, CRANE.listed(), tmp_path) as found:
        assert await found.provenance() == repository.files[f"charts/{CRANE.file}.prov"]
    assert [one.target for one in repository.log] == [
        f"/stable/charts/{CRANE.file}?token=abc123",
        f"/stable/charts/{CRANE.file}.prov?token=abc123",
    ]


@pytest.mark.parametrize("url", ["http://{host}/{file}", "//{host}/{file}"], ids=["11 absolute", "12 two slashes"])
async def test_other_host(url: str, repository: ChartRepository, stranger: ChartRepository, tmp_path: Path) -> None:
    """What an index lists on another host is fetched without the repository's credentials, and without its query."""
    stranger.add(CRANE)
    entry = CRANE.listed(url.format(host=stranger.host, file=f"charts/{CRANE.file}"))
    async with source(f"{repository.url}?token=abc123", book_of(repository)) as charts:
        assert await get(charts, entry, tmp_path) == CRANE.data
    assert seen(stranger) == [None]
    assert [one.query for one in stranger.log] == [""]
    assert repository.count("*", "") == 0


async def test_other_host_refuses(repository: ChartRepository, stranger: ChartRepository, tmp_path: Path) -> None:
    """11: when the other host wants credentials, the message names the switch that would send them, and no secret."""
    stranger.auth = Auth(basic=DOOR)
    entry = CRANE.listed(f"http://{stranger.host}/{CRANE.file}")
    async with source(repository.url, book_of(repository)) as charts:
        with pytest.raises(DeniedError, match="pass_credentials: true") as caught:
            await get(charts, entry, tmp_path)
    assert stranger.host in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert set(seen(stranger)) == {None}


async def test_pass_credentials(repository: ChartRepository, stranger: ChartRepository, tmp_path: Path) -> None:
    """With `pass_credentials` the other host gets the repository's credentials; whom it redirects to does not."""
    stranger.auth = Auth(basic=DOOR)
    stranger.files["a.tgz"] = CRANE.data
    entry = CRANE.listed(f"http://{stranger.host}/a.tgz")
    async with source(repository.url, book_of(repository), pass_credentials=True) as charts:
        assert await get(charts, entry, tmp_path) == CRANE.data
        assert set(seen(stranger)) == {ANN.basic}
        async with ChartRepository() as third:
            third.files["b.tgz"] = CRANE.data
            stranger.faults.on("GET", "a.tgz").redirect(f"{third.url}/b.tgz")
            assert await get(charts, entry, tmp_path) == CRANE.data
            assert seen(third) == [None]


async def test_own_credentials_come_first(
    repository: ChartRepository, stranger: ChartRepository, tmp_path: Path
) -> None:
    """A host that the operator wrote credentials for gets those, also with `pass_credentials`."""
    bob = Credential("bob", Secret("staple-battery-9"))
    stranger.auth = Auth(basic=("bob", "staple-battery-9"))
    stranger.files["a.tgz"] = CRANE.data
    book = HostBook({**book_of(repository).policies, stranger.host: HostPolicy(stranger.host, credential=bob)})
    async with source(repository.url, book, pass_credentials=True) as charts:
        await get(charts, CRANE.listed(f"http://{stranger.host}/a.tgz"), tmp_path)
    assert ANN.basic not in seen(stranger)
    assert seen(stranger)[-1] == bob.basic


async def test_listed_and_not_there(repository: ChartRepository, tmp_path: Path) -> None:
    """55: an archive that is listed and gone is a MissingError that names host and path."""
    async with source(repository.url) as charts:
        with pytest.raises(MissingError, match=r"/stable/charts/crane-1\.2\.0\+b\.tgz: status 404"):
            await get(charts, CRANE.listed(), tmp_path)


async def test_no_url(repository: ChartRepository, tmp_path: Path) -> None:
    """An entry without URL is refused by name."""
    async with source(repository.url) as charts:
        with pytest.raises(ContentError, match=r"crane-1\.2\.0\+b: its entry has no URL"):
            await get(charts, replace(CRANE.listed(), urls=()), tmp_path)


async def test_wrong_bytes_twice(repository: ChartRepository, tmp_path: Path) -> None:
    """Other bytes than the index promises are asked for once more, then refused with both digests."""
    repository.add(CRANE)
    async with source(repository.url) as charts:
        with pytest.raises(DigestError, match=f"{CRANE.digest}, not {OTHER.digest}"):
            await get(charts, CRANE.listed(digest=OTHER.digest), tmp_path)
    assert repository.count("GET", "tgz") == 2


async def test_wrong_bytes_once(repository: ChartRepository, tmp_path: Path) -> None:
    """A copy that heals is taken."""
    repository.add(CRANE)
    repository.faults.on("GET", "tgz").corrupt(100)
    async with source(repository.url) as charts:
        assert await get(charts, CRANE.listed(), tmp_path) == CRANE.data


async def test_several_digests(repository: ChartRepository, tmp_path: Path) -> None:
    """50: where an index lists a version twice, the bytes decide which digest is right."""
    repository.add(CRANE)
    async with source(repository.url) as charts:
        assert await get(charts, CRANE.listed(digest=OTHER.digest), tmp_path, CRANE.digest) == CRANE.data
    assert repository.count("GET", "tgz") == 1


async def test_no_digest(repository: ChartRepository, tmp_path: Path) -> None:
    """An entry without digest takes what comes, as long as it is this chart."""
    repository.add(CRANE)
    repository.files[f"charts/{OTHER.file}"] = CRANE.data
    async with source(repository.url) as charts:
        assert await get(charts, replace(CRANE.listed(), digest=None), tmp_path) == CRANE.data
        with pytest.raises(ContentError, match=r"says version '1\.2\.0\+b', not '1\.3\.0'"):
            await get(charts, replace(OTHER.listed(), digest=None), tmp_path)


async def test_another_chart_with_the_right_digest(repository: ChartRepository, tmp_path: Path) -> None:
    """53: bytes as promised, but of another chart than the entry says, are refused."""
    repository.files[f"charts/{OTHER.file}"] = CRANE.data
    async with source(repository.url) as charts:
        with pytest.raises(ContentError, match=r"not '1\.3\.0'"):
            await get(charts, OTHER.listed(digest=CRANE.digest), tmp_path)


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
async def test_broken_connections(ranges: bool, repository: ChartRepository, tmp_path: Path) -> None:
    """A download that breaks goes on where it was; a server without ranges sends again what is then dropped."""
    repository.add(CRANE)
    repository.ranges = ranges
    repository.faults.on("GET", "tgz").truncate(1000)
    repository.faults.on("GET", "tgz").truncate(1500)
    async with source(repository.url) as charts:
        assert await get(charts, CRANE.listed(), tmp_path) == CRANE.data
    asked = [one.headers.get("range") for one in repository.log]
    assert asked[0] is None
    assert all(one is not None for one in asked[1:])
    assert len(asked) == 3


async def test_a_connection_that_always_breaks(repository: ChartRepository, tmp_path: Path) -> None:
    """A source that breaks without end is given up after a bounded number of requests."""
    repository.add(CRANE)
    repository.faults.on("GET", "tgz", times=None).truncate(10)
    async with source(repository.url) as charts:
        with pytest.raises(BrokenError):
            await get(charts, CRANE.listed(), tmp_path)
    assert repository.count("GET", "tgz") == TRIES


async def test_another_part(repository: ChartRepository, tmp_path: Path) -> None:
    """A server that sends another part than was asked for is not believed."""
    repository.add(CRANE)
    repository.faults.on("GET", "tgz").truncate(1000)
    repository.faults.on("GET", "tgz").header("Content-Range", f"bytes 7-99/{len(CRANE.data)}")
    async with source(repository.url) as charts:
        with pytest.raises(ContentError, match="another part"):
            await get(charts, CRANE.listed(), tmp_path)


async def test_too_long(repository: ChartRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive beyond the limit is not read to its end."""
    monkeypatch.setattr(fetch, "LONGEST_ARCHIVE", 1000)
    repository.add(CRANE)
    async with source(repository.url) as charts:
        with pytest.raises(TooLargeError, match="more than 1000 bytes"):
            await get(charts, CRANE.listed(), tmp_path)
    assert repository.count("GET", "tgz") == 1


async def test_content_encoding_of_an_archive(repository: ChartRepository, tmp_path: Path) -> None:
    """A server that takes the .gz in a .tgz for an encoding is understood as helm understands it: the bytes count."""
    repository.add(CRANE)
    repository.faults.on("GET", "tgz").encode("gzip")
    async with source(repository.url) as charts:
        assert await get(charts, CRANE.listed(), tmp_path) == CRANE.data


async def provenance(repository: ChartRepository, tmp_path: Path) -> bytes | None:
    async with source(repository.url) as charts, archive(charts, CRANE.listed(), tmp_path) as found:
        return await found.provenance()


async def test_provenance(repository: ChartRepository, tmp_path: Path) -> None:
    """The provenance comes byte for byte."""
    prov = CRANE.provenance(ShapeSigner()) + b"\r\n trailing \n"
    repository.add(CRANE, prov=prov)
    assert await provenance(repository, tmp_path) == prov


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_no_provenance(status: int, repository: ChartRepository, tmp_path: Path) -> None:
    """Where there is none, there is none, whichever way the server says so (S3: 403)."""
    repository.add(CRANE)
    repository.faults.on("GET", "prov", times=None).status(status)
    assert await provenance(repository, tmp_path) is None


async def test_page_instead_of_provenance(repository: ChartRepository, tmp_path: Path) -> None:
    """A page with status 200 is no provenance (artifacthub#1427)."""
    repository.page = b"<!DOCTYPE html><title>My charts</title>"
    repository.add(CRANE)
    assert await provenance(repository, tmp_path) is None


async def test_bad_provenance(repository: ChartRepository, tmp_path: Path) -> None:
    """A provenance of another archive, or an endless one, is an error and not passed on."""
    repository.add(CRANE, prov=CRANE.provenance(ShapeSigner(), digest=OTHER.digest))
    with pytest.raises(ContentError, match="but the archive is"):
        await provenance(repository, tmp_path)
    repository.files[f"charts/{CRANE.file}.prov"] = bytes(2 << 20)
    with pytest.raises(TooLargeError, match="a provenance file"):
        await provenance(repository, tmp_path)


async def test_provenance_that_cannot_be_had_now(repository: ChartRepository, tmp_path: Path) -> None:
    """A server in trouble is not taken for one without provenance."""
    repository.add(CRANE)
    repository.faults.on("GET", "prov", times=None).status(503)
    with pytest.raises(ServerError):
        await provenance(repository, tmp_path)


async def test_a_server_that_is_silent_about_provenance(
    repository: ChartRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Provenance files that never come hold up three charts for a while, and no other; the archives are had."""
    monkeypatch.setattr(fetch, "PATIENCE", 0.05)
    charts = [build_chart("crane", f"1.{number}.0") for number in range(6)]
    for chart in charts:
        repository.add(chart)
    repository.faults.on("GET", "prov", times=None).hold()
    async with source(repository.url) as archives:
        for chart in charts:
            async with archive(archives, chart.listed(), tmp_path) as found:
                assert found.digest == chart.digest
                with pytest.raises(StalledError):
                    await found.provenance()
    assert repository.count("GET", "prov") == fetch.SILENT
    repository.faults.clear()


CHART_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


def put(registry: Registry, chart: Chart, tag: str, prov: bytes | None = None, kind: str = CHART_LAYER) -> None:
    """Put a chart where `helm push` would."""

    def blob(media_type: str, data: bytes) -> dict[str, object]:
        digest = registry.content.put_blob("team/crane", data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    layers = [blob(kind, chart.data)]
    if prov is not None:
        layers.append(blob(PROVENANCE_TYPE, prov))
    config = blob("application/vnd.cncf.helm.config.v1+json", b"{}")
    body = json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()
    registry.content.put_manifest("team/crane", OCI_MANIFEST, body, tag)


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with Registry(auth=Auth(bearer=DOOR)) as made:
        yield made


@pytest.mark.parametrize("tail", ["", ":1.2.0+b", ":1.2.0_b"])
@pytest.mark.parametrize("kind", CHART_TYPES)
async def test_in_a_registry(
    kind: str, tail: str, registry: Registry, repository: ChartRepository, tmp_path: Path
) -> None:
    """An entry may lead to a registry (helm#12322): with the tag of its version, its credentials, its provenance."""
    prov = CRANE.provenance(ShapeSigner())
    put(registry, CRANE, "1.2.0_b", prov, kind)
    book = HostBook({registry.host: HostPolicy(registry.host, credential=ANN)})
    entry = CRANE.listed(f"oci://{registry.host}/team/crane{tail}")
    async with source(repository.url, book) as charts, archive(charts, entry, tmp_path) as found:
        assert (found.digest, found.size) == (CRANE.digest, len(CRANE.data))
        assert await found.provenance() == prov
    assert repository.count("*", "") == 0


async def test_a_repository_that_is_a_registry(registry: Registry, tmp_path: Path) -> None:
    """A source that is itself `oci://` is read the same way; an archive without provenance has none."""
    registry.auth = None
    put(registry, CRANE, "1.2.0_b")
    registry.faults.on("GET", "/blobs/").truncate(1000)
    async with source(f"oci://{registry.host}/team") as charts:
        entry = replace(CRANE.listed(f"oci://{registry.host}/team/crane:1.2.0_b"), digest=None)
        async with archive(charts, entry, tmp_path) as found:
            assert found.digest == CRANE.digest
            assert await found.provenance() is None
    assert registry.count("GET", "/blobs/") == 2


async def test_an_image_in_place_of_a_chart(registry: Registry, tmp_path: Path) -> None:
    """A tag that stands for something else than a chart is refused (helm#31775)."""
    registry.auth = None
    put(registry, CRANE, "1.2.0_b", kind="application/vnd.oci.image.layer.v1.tar+gzip")
    async with source(f"oci://{registry.host}/team") as charts:
        with pytest.raises(ContentError, match="is no chart"):
            await get(charts, CRANE.listed(f"oci://{registry.host}/team/crane"), tmp_path)


async def test_cancelled_in_the_middle(repository: ChartRepository, tmp_path: Path) -> None:
    """A download that is cancelled leaves nothing behind but what the next one may go on from."""
    repository.add(CRANE)
    stalled = repository.faults.on("GET", "tgz").stall(after=5000)
    async with source(repository.url) as charts:
        task = asyncio.create_task(get(charts, CRANE.listed(), tmp_path))
        await stalled.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stalled.release()
        assert await get(charts, CRANE.listed(), tmp_path) == CRANE.data


async def test_no_room(repository: ChartRepository, tmp_path: Path) -> None:
    """A spool that cannot be written to is our trouble and not the repository's."""
    repository.add(CRANE)
    async with source(repository.url) as charts:
        with pytest.raises(StorageError):
            await get(charts, CRANE.listed(), tmp_path / "gone")
