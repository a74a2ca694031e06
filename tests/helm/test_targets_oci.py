"""Charts in registries: the manifest that `helm push` makes, but the same each time."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest

from mirrord.errors import ContentError, ImmutableError, UnsupportedError
from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import CHART_TYPES, CONFIG_TYPE, PROVENANCE_TYPE
from mirrord.syncers.helm.transfer.oci import OciTarget
from mirrord.syncers.helm.transfer.oci_manifest import annotations_of, config_of
from mirrord.testing import DockerRegistry, Registry, build_image, push
from mirrord.testing.servers import require
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.secret import Credential, Secret
from tests.support.auth import Auth
from tests.support.chartfiles import pack_chart, sign_chart
from tests.support.chartprograms import HELMS, helm, helms
from tests.support.chartworld import CREATED, ChartWorld, open_chart_world, version_of

PLAIN = pack_chart("crane", "1.0.0")
RICH = pack_chart(
    "crane",
    "1.2.3-rc.1+build.7",
    description="Costs <of> clusters & “more”\tof \u2028it\x07",
    home="https://gocrane.io/?a=1&b=2",
    icon="https://gocrane.io/icon.svg",
    sources=["https://github.com/gocrane/crane", "https://gitee.com/finops/crane"],
    keywords=["finops", "成本"],
    maintainers=[
        {"name": "Ann", "email": "ann@example.com"},
        {"name": "Bob", "url": "https://b.example"},
        {"email": "c@d"},
    ],
    appVersion="v0.11.0",
    kubeVersion=">=1.18.0-0",
    deprecated=True,
    type="application",
    dependencies=[
        {
            "name": "redis",
            "version": "~1.2",
            "repository": "https://charts.example/?a&b",
            "condition": "redis.enabled",
            "tags": ["cache", "all"],
            "enabled": True,
            "import-values": ["data", {"parent": "p", "child": "c"}],
            "alias": "store",
        },
        {"name": "bare"},
    ],
    condition="crane.enabled",
    tags="a,b",
    annotations={
        "zebra": "last <&>",
        "artifacthub.io/changes": "- one\n- two\n",
        "org.opencontainers.image.title": "not this",
        "org.opencontainers.image.url": "https://this.example",
    },
)
HUGE = pack_chart("crane", "2.0.0", size=300_000)
HERE = "team/charts/crane"


def registry_of(world: ChartWorld) -> Registry:
    assert isinstance(world.server, Registry)
    return world.server


def manifest_at(registry: Registry, tag: str, repository: str = HERE) -> bytes:
    return registry.manifests[repository][registry.tags[repository][tag]][1]


async def test_what_is_pushed(world: ChartWorld) -> None:
    """Config, archive and provenance have helm's media types, and `+` in a version is `_` in the tag."""
    target = await world.target("oci")
    await world.put(target, RICH, sign_chart(RICH))
    registry = registry_of(world)
    assert [*registry.tags[HERE]] == ["1.2.3-rc.1_build.7"]
    manifest = json.loads(manifest_at(registry, "1.2.3-rc.1_build.7"))
    assert manifest["config"]["mediaType"] == CONFIG_TYPE
    layers = {layer["mediaType"]: registry.blobs[layer["digest"]] for layer in manifest["layers"]}
    assert layers == {CHART_TYPES[0]: RICH, PROVENANCE_TYPE: sign_chart(RICH)}
    assert [layer["digest"] for layer in manifest["layers"]] == sorted(layer["digest"] for layer in manifest["layers"])
    assert json.loads(registry.blobs[manifest["config"]["digest"]])["version"] == "1.2.3-rc.1+build.7"


async def test_reproducible(tmp_path: Path) -> None:
    """The same chart makes the same manifest, byte for byte, on another day at another registry."""
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        async with open_chart_world(tmp_path / name) as world:
            target = await world.target("oci")
            await world.put(target, RICH, sign_chart(RICH))
            made.append(manifest_at(registry_of(world), "1.2.3-rc.1_build.7"))
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("created", "written"),
    [
        (CREATED, "2024-05-17T12:00:00Z"),
        ("2022-05-07T14:58:53.647187+08:00", "2022-05-07T06:58:53Z"),
        ("2023-12-31T23:59:59Z", "2023-12-31T23:59:59Z"),
        (None, None),
        ("yesterday", None),
        ("2024-13-45T00:00:00Z", None),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", None),
    ],
)
def test_the_time_is_that_of_the_index(created: str | None, written: str | None) -> None:
    """`created` comes from the index, as helm writes times; without one there is none, never the time of the push."""
    key = "org.opencontainers.image.created"
    assert annotations_of({"name": "a", "version": "1.0.0"}, created).get(key) == written


def test_empty_fields_are_left_out() -> None:
    """What helm leaves out of a config is not in ours: nothing, null, false, and keys of the index alone."""
    entry = {"name": "a", "version": "1.0.0", "icon": "", "appVersion": None, "deprecated": False, "urls": ["a.tgz"]}
    assert config_of({**entry, "keywords": [], "digest": "x"}) == b'{"name":"a","version":"1.0.0"}'


def test_a_dependency_as_go_writes_it() -> None:
    """Name and repository of a dependency are there even when they are empty; the rest is not."""
    entry = {"name": "a", "dependencies": [{"alias": "b", "version": "1.x", "import-values": [{"y": "1", "a": "2"}]}]}
    wanted = b'{"name":"","version":"1.x","repository":"","import-values":[{"a":"2","y":"1"}],"alias":"b"}'
    assert config_of(entry) == b'{"name":"a","dependencies":[' + wanted + b"]}"


@pytest.mark.parametrize("entry", [{"maintainers": ["Ann"]}, {"dependencies": [None]}])
def test_metadata_that_helm_would_not_take(entry: Mapping[str, object]) -> None:
    """Metadata of the wrong shape is a ContentError."""
    with pytest.raises(ContentError):
        config_of(entry)


async def test_few_requests(world: ChartWorld) -> None:
    """Many versions are found by one list of tags and one GET for each tag that is there."""
    target = await world.target("oci")
    there = [pack_chart("crane", f"1.0.{patch}") for patch in range(4)]
    for one in there:
        await world.put(target, one)
    registry = registry_of(world)
    registry.forget()
    world.facts.clear()  # a first look
    wanted = [version_of(pack_chart("crane", f"1.0.{patch}")) for patch in range(10)]
    assert await target.held(wanted) == {version_of(one).item: Digest.of(one) for one in there}
    assert (registry.count("GET", "/tags/list"), registry.count("GET", "/manifests/")) == (1, 4)
    assert len(registry.log) == 5


async def test_tags_that_are_not_told(world: ChartWorld) -> None:
    """A registry that does not list its tags is asked for each of them."""
    target = await world.target("oci")
    await world.put(target, PLAIN)
    registry_of(world).faults.on("GET", "/tags/list").status(403)
    wanted = [version_of(PLAIN), *(version_of(pack_chart("crane", f"9.0.{patch}")) for patch in range(3))]
    assert await target.held(wanted) == {"crane-1.0.0": Digest.of(PLAIN)}


async def test_blobs_that_are_there_are_not_sent(world: ChartWorld) -> None:
    """A run that was killed before the tag sends the archive no second time, nor asks the source for it."""
    target = await world.target("oci")
    await world.put(target, HUGE)
    registry = registry_of(world)
    registry.tags[HERE].clear()
    registry.forget()
    world.read.clear()
    await world.put(target, HUGE)
    assert registry.count("PUT", "/blobs/") == 0
    assert registry.count("PUT", "/manifests/2.0.0") == 1


async def test_a_tag_of_something_else(world: ChartWorld) -> None:
    """A tag that is an image is not a chart that is held, and is not replaced unasked (helm/helm#31775)."""
    target = await world.target("oci")
    await push(build_image(), registry_of(world), HERE, ["1.0.0"])
    assert await target.held([version_of(PLAIN)]) == {}
    with pytest.raises(ImmutableError, match="no chart"):
        await world.put(target, PLAIN)


@pytest.mark.parametrize(
    ("name", "version"), [("Crane", "1.0.0"), ("crane_", "1.0.0"), ("crane", f"1.0.0-{'a' * 128}")]
)
async def test_what_a_registry_cannot_name(name: str, version: str, world: ChartWorld) -> None:
    """A chart that cannot be a repository and a tag is refused with the reason, never renamed."""
    target = await world.target("oci")
    archive = pack_chart(name, version)
    assert await target.held([version_of(archive)]) == {}
    with pytest.raises(UnsupportedError, match=name):
        await world.put(target, archive)
    assert registry_of(world).log == []


async def test_with_tokens(tmp_path: Path) -> None:
    """A registry behind a token server is written to with the credentials of its host."""
    async with Registry(auth=Auth(bearer=("ann", "secret"))) as registry:
        policy = HostPolicy(registry.host, Credential("ann", Secret("secret")))
        async with open_chart_world(tmp_path, book=HostBook({registry.host: policy})) as world:
            target = OciTarget(world.http, registry.host, "team/charts", {})
            await world.put(target, PLAIN)
            assert await target.held([version_of(PLAIN)]) == {"crane-1.0.0": Digest.of(PLAIN)}


@pytest.mark.parametrize("binary", helms() or HELMS[-1:])
@pytest.mark.parametrize("signed", [False, True], ids=["plain", "signed"])
@pytest.mark.parametrize("archive", [PLAIN, RICH], ids=["small", "rich"])
async def test_same_as_helm_push(binary: str, archive: bytes, signed: bool, tmp_path: Path, world: ChartWorld) -> None:
    """The real `helm push` of a file with the time of the index makes the same manifest and the same blobs."""
    require(binary)
    target = await world.target("oci")
    await world.put(target, archive, sign_chart(archive) if signed else None)
    chart = version_of(archive)
    file = tmp_path / chart.file
    file.write_bytes(archive)
    if signed:
        (tmp_path / f"{chart.file}.prov").write_bytes(sign_chart(archive))
    os.utime(file, (datetime.fromisoformat(CREATED).timestamp(),) * 2)
    ours = registry_of(world)
    async with Registry() as theirs, helm(binary) as run:
        pushed = await run("push", file, f"oci://{theirs.host}/team/charts", "--plain-http")
        assert pushed.status == 0, pushed.output
        tag = chart.version.replace("+", "_")
        assert manifest_at(ours, tag) == manifest_at(theirs, tag)
        assert ours.blobs == theirs.blobs


@pytest.mark.parametrize("binary", helms() or HELMS[-1:])
async def test_real_helm_pulls(binary: str, tmp_path: Path, world: ChartWorld) -> None:
    """The real helm pulls archive and provenance from a real registry that mirrord wrote to."""
    require(binary, "docker-registry")
    async with DockerRegistry() as registry, helm(binary) as run:
        target = OciTarget(world.http, registry.host, "team/charts", {})
        for one in (PLAIN, RICH):
            await world.put(target, one, sign_chart(one))
        assert len(await target.held([version_of(one) for one in (PLAIN, RICH)])) == 2
        for one in (PLAIN, RICH):
            chart = version_of(one)
            place = f"oci://{registry.host}/team/charts/{chart.name}"
            pulled = await run("pull", place, "--version", chart.version, "--plain-http", "--prov", "-d", tmp_path)
            assert pulled.status == 0, pulled.output
        newest = await run("show", "chart", f"oci://{registry.host}/team/charts/crane", "--plain-http")
        assert "version: 1.0.0" in newest.output
    files = {file.name: file.read_bytes() for file in tmp_path.glob("crane-*.tgz")}
    assert files == {"crane-1.0.0.tgz": PLAIN, "crane-1.2.3-rc.1+build.7.tgz": RICH}
    assert len([*tmp_path.glob("crane-*.prov")]) == 2
