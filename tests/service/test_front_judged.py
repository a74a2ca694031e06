"""The front, judged by the clients that people use: an image that nobody mirrored, in each form of its name."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from mirrord.testing.charts import build_chart
from mirrord.testing.running import run
from tests.support.artifacts import build_artifact
from tests.support.frontdesk import ALIAS, NAMESPACE, FrontDesk, fronted
from tests.support.judges import ANYWHERE, CHUNK, containerd, containerd_fetcher, judged
from tests.support.walking import walk_layout

IMAGE = build_image(layer_size=5 * CHUNK, seed="fronted")
NAME = "library/app"
CACHES = pytest.mark.parametrize("program", ["docker-registry", "registry3"])


@pytest.fixture
async def upstream() -> AsyncIterator[DockerRegistry]:
    require("docker-registry")
    async with DockerRegistry(access_log=True) as registry:
        await push(IMAGE, registry.url, NAME, ["v1"])
        yield registry


@pytest.fixture
async def front(upstream: DockerRegistry, tmp_path: Path) -> AsyncIterator[FrontDesk]:
    async with fronted(tmp_path, upstream.host) as made:
        yield made


def reads(upstream: DockerRegistry) -> dict[str, int]:
    """Count the requests for the content of each blob."""
    hits = [hit for hit in upstream.hits() if hit.method == "GET" and "/blobs/" in hit.path]
    return Counter(hit.path.rpartition("/")[2].partition("?")[0] for hit in hits)


@pytest.mark.parametrize("form", ["prefix", "host"])
@pytest.mark.parametrize("judge", ANYWHERE)
async def test_each_client(judge: str, form: str, front: FrontDesk, upstream: DockerRegistry, tmp_path: Path) -> None:
    """Each gets the image with upstream's digests; upstream sends each blob once, and a second pull asks it nothing."""
    reference = front.reference(form, f"{NAME}:v1")
    assert await judged(judge, reference, tmp_path / "first") == IMAGE.digest
    assert set(reads(upstream).values()) == {1}
    before = len(upstream.hits())
    assert await judged(judge, reference, tmp_path / "second") == IMAGE.digest
    assert [hit for hit in upstream.hits()[before:] if "/tags/list" not in hit.path] == []


@pytest.mark.parametrize("arguments", [(1, 1, 0), (2, 1, 0), (2, 4, CHUNK)], ids=["1.7", "2", "2-parallel"])
async def test_a_namespace(
    arguments: tuple[int, int, int], front: FrontDesk, upstream: DockerRegistry, tmp_path: Path
) -> None:
    """As the mirror of another registry, containerd adds `?ns=` to each request; parallel ranges are one read."""
    require(containerd_fetcher())
    judge = containerd(*arguments, namespace=NAMESPACE)
    assert await judge(f"{front.host}/{NAME}:v1", tmp_path) == IMAGE.digest
    assert reads(upstream) == dict.fromkeys(IMAGE.blobs, 1)


@pytest.mark.parametrize("table", ["registry", "registry.mirror"])
async def test_registries_conf(table: str, front: FrontDesk, tmp_path: Path) -> None:
    """With the front as place or as mirror of a registry, skopeo pulls under the name that the image has at home."""
    require("skopeo")
    place = f'location = "{front.host}/{ALIAS}"\ninsecure = true\n'
    between = "" if table == "registry" else 'location = "home.example"\n[[registry.mirror]]\n'
    (tmp_path / "registries.conf").write_text(f'[[registry]]\nprefix = "home.example"\n{between}{place}')
    layout, configured = tmp_path / "layout", ("--registries-conf", tmp_path / "registries.conf", "--insecure-policy")
    asked = ("copy", "--all", f"docker://home.example/{NAME}:v1", f"oci:{layout}:v1")
    copied = await run("skopeo", *configured, *asked, env={"HOME": str(tmp_path)})
    assert copied.status == 0, copied.output
    assert dict(walk_layout(layout)) == {"v1": IMAGE.digest}


@pytest.mark.parametrize("program", ["helm3", "helm4"])
async def test_charts(program: str, front: FrontDesk, upstream: DockerRegistry, tmp_path: Path) -> None:
    """`helm pull oci://…` gets a chart, byte by byte."""
    require(program)
    chart = build_chart("app", "1.2.3")
    (tmp_path / chart.file).write_bytes(chart.data)
    environ = {f"HELM_{name}_HOME": str(tmp_path / name) for name in ("CACHE", "CONFIG", "DATA")}
    to = f"oci://{upstream.host}/charts"
    pushed = await run(program, "push", "--plain-http", tmp_path / chart.file, to, env=environ)
    assert pushed.status == 0, pushed.output
    for number, form in enumerate(("prefix", "host")):
        place = tmp_path / f"chart{number}"
        place.mkdir()
        source = f"oci://{front.reference(form, 'charts/app')}"
        options = ("--version", "1.2.3", "--plain-http", "--destination", place)
        pulled = await run(program, "pull", source, *options, env=environ)
        assert pulled.status == 0, pulled.output
        assert (place / chart.file).read_bytes() == chart.data


async def test_what_is_about_an_image(tmp_path: Path) -> None:
    """`oras discover` finds what upstream lists about an image."""
    require("oras")
    sbom = build_artifact(IMAGE)
    async with Registry() as double:
        await push(IMAGE, double, NAME, ["v1"])
        await push(sbom, double, NAME, ["sbom"])
        async with fronted(tmp_path, double.host) as front:
            asked = ("discover", "--plain-http", "--format=json", front.reference("prefix", f"{NAME}:v1"))
            found = await run("oras", *asked, env={"HOME": str(tmp_path)})
    assert found.status == 0, found.output
    assert [one["digest"] for one in json.loads(found.output)["referrers"]] == [sbom.digest]


async def test_what_is_about_an_image_by_tag(front: FrontDesk, upstream: DockerRegistry, tmp_path: Path) -> None:
    """Where upstream does not know referrers, clients read the tag that stands for them, through the front too."""
    require("oras")
    (tmp_path / "sbom.json").write_text("{}")
    attached = await run(
        "oras",
        *("attach", "--plain-http", "--artifact-type=application/vnd.example.sbom", f"{upstream.host}/{NAME}:v1"),
        *(f"{tmp_path}/sbom.json:application/json", "--disable-path-validation", "--format=json", "--no-tty"),
        env={"HOME": str(tmp_path)},
    )
    assert attached.status == 0, attached.output
    lists = []
    for reference in (f"{upstream.host}/{NAME}:v1", front.reference("prefix", f"{NAME}:v1")):
        found = await run("oras", "discover", "--plain-http", "--format=json", reference, env={"HOME": str(tmp_path)})
        assert found.status == 0, found.output
        lists.append([one["digest"] for one in json.loads(found.output)["referrers"]])
    assert len(lists[0]) == 1
    assert lists[0] == lists[1]


@CACHES
async def test_a_cache_above(program: str, front: FrontDesk, upstream: DockerRegistry, tmp_path: Path) -> None:
    """docker-registry as a cache of the front has all of it; upstream sends each blob once."""
    require("skopeo", program)
    async with DockerRegistry(upstream=f"http://{front.host}", program=program) as cache:
        for number in range(2):
            reference = f"{cache.host}/{ALIAS}/{NAME}:v1"
            assert await judged("skopeo", reference, tmp_path / f"judge{number}") == IMAGE.digest
    assert reads(upstream) == dict.fromkeys(IMAGE.blobs, 1)


@CACHES
async def test_a_cache_below(program: str, upstream: DockerRegistry, tmp_path: Path) -> None:
    """A cache of docker-registry is an upstream like any other; once pulled, nothing of it is read again."""
    require("skopeo", program)
    cache = DockerRegistry(upstream=upstream.url, program=program, access_log=True)
    async with cache, fronted(tmp_path, cache.host) as front:
        reference = front.reference("prefix", f"{NAME}:v1")
        assert await judged("skopeo", reference, tmp_path / "first") == IMAGE.digest
        assert reads(cache) == dict.fromkeys(IMAGE.blobs, 1)
        await cache.stop()
        assert await judged("skopeo", reference, tmp_path / "second") == IMAGE.digest


async def test_a_crowd(tmp_path: Path) -> None:
    """Fifty clients that ask for the same new image at once are one read of each blob upstream."""
    require("skopeo")
    image = build_image(["linux/amd64"], layers=1, layer_size=1 << 20, seed="crowd")
    async with Registry() as double:
        await push(image, double, NAME, ["v1"])
        (layer,) = image.layers
        held = double.faults.on("GET", f"/blobs/{layer}", times=None).stall(after=100_000)
        async with fronted(tmp_path, double.host) as front:
            assert (await front.get(f"{front.path(NAME)}/manifests/v1")).status == 200
            asking = [asyncio.create_task(front.get(f"{front.path(NAME)}/blobs/{layer}")) for _ in range(50)]
            await held.reached.wait()
            held.release()
            answers = await asyncio.gather(*asking)
        assert {(one.status, one.body) for one in answers} == {(200, image.blobs[layer])}
        assert double.count("GET", f"/blobs/{layer}") == 1


@pytest.mark.parametrize("judge", ["skopeo", "podman", "containerd-2"])
async def test_another_upstream_sends_garbage(judge: str, upstream: DockerRegistry, tmp_path: Path) -> None:
    """While one upstream sends wrong bytes and hangs, the same image comes whole from another one, by one read."""
    async with Registry() as hostile:
        await push(IMAGE, hostile, NAME, ["v1"])
        both = [upstream.host, hostile.host]
        async with fronted(tmp_path, upstream.host, upstreams=both, allow=[f"{host}/**" for host in both]) as front:
            layer, path = IMAGE.layers[0], f"/v2/{NAME}/{{}}?ns={hostile.host}"
            assert (await front.get(path.format("manifests/v1"))).body == IMAGE.body
            fault = hostile.faults.on("GET", f"/blobs/{layer}", times=None).corrupt(0).stall(after=3 * CHUNK)
            asked = asyncio.create_task(front.get(path.format(f"blobs/{layer}")))
            await fault.reached.wait()
            assert await judged(judge, front.reference("prefix", f"{NAME}:v1"), tmp_path / "pulled") == IMAGE.digest
            assert set(reads(upstream).values()) == {1}
            assert not asked.done()
            fault.release()
            with pytest.raises(aiohttp.ClientPayloadError):
                await asked
