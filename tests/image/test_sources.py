"""Where images come from: registries, layouts, archives, and folders of layouts."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mirrord.errors import ConfigError
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.image.syncer import SYNCER
from mirrord.testing import Image, build_image, push
from tests.support.artifacts import build_nested
from tests.support.layouts import write_docker_archive, write_layout, write_layout_tar
from tests.support.world import World

PLACE = "mirror/app"
REVISION = "org.opencontainers.image.revision"
REF_NAME = "org.opencontainers.image.ref.name"
CREATED = "org.opencontainers.image.created"


@pytest.mark.parametrize(
    ("rest", "keys", "tags"),
    [
        ("", {}, {"latest"}),
        (":v1", {}, {"v1"}),
        (":v1", {"names": ["stable"]}, {"stable"}),
        ("@DIGEST", {"names": ["pinned"]}, {"pinned"}),
        (":v1@DIGEST", {}, {"v1"}),
        ("", {"tags": ["v*"]}, {"v1", "v2"}),
        ("", {"tags": ["v2", "v*", "main"]}, {"v1", "v2", "main"}),
        ("", {"tags": ["[vm]*"]}, {"v1", "v2", "main"}),
        ("", {"tags": ["sha256-*"]}, {"sha256-abc.sig"}),
    ],
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else str(value),  # pytest-xdist wants one order
)
async def test_registry_sources(world: World, rest: str, keys: dict[str, list[str]], tags: set[str]) -> None:
    """Tags, digests, globs and other names arrive under the names that were asked for, with the source's content."""
    source, target = await world.registry("source"), await world.registry("one")
    images = {tag: build_image(seed=tag) for tag in ("latest", "main", "v1", "v2", "sha256-abc.sig")}
    for tag, image in images.items():
        await push(image, source, "team/app", [tag])
    repository = f"{source.host}/team/app{rest.replace('DIGEST', images['v1'].digest)}"
    run = await world.run(world.mirror({"repository": repository, **keys}, target, LOCAL))
    assert run.result is Result.SUCCESS
    renamed = {"stable": "v1", "pinned": "v1"}
    expected = {tag: str(images[renamed.get(tag, tag)].digest) for tag in tags}
    assert target.tags[PLACE] == world.local_tags() == expected
    assert (await world.run(world.mirror({"repository": repository, **keys}, target, LOCAL))).result is Result.NOOP


async def test_a_digest_without_a_name(world: World) -> None:
    """A digest that has no name is mirrored as content: it can be pulled by digest, and the second run does nothing."""
    image = build_image()
    source, target = await world.registry("source"), await world.registry("one")
    await push(image, source, "team/app")
    mirror = world.mirror({"repository": f"{source.host}/team/app@{image.digest}"}, target, LOCAL, trust=0.0)
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert target.tags == {}
    assert target.manifests[PLACE].keys() == image.manifests.keys()
    assert (await world.local(f"app/manifests/{image.digest}")).status == 200
    assert (await world.run(mirror)).result is Result.NOOP


def write_folder(image: Image, path: Path) -> dict[str, object]:
    return {"layout": write_layout(image, path)}


def write_tar(image: Image, path: Path) -> dict[str, object]:
    return {"layout": write_layout_tar(image, path.with_suffix(".tar"))}


def write_gzip(image: Image, path: Path) -> dict[str, object]:
    plain = write_layout_tar(image, path.with_suffix(".tar"))
    packed = path.with_suffix(".tar.gz")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    return {"layout": packed}


@pytest.mark.parametrize("write", [write_folder, write_tar, write_gzip])
async def test_layouts(world: World, write: Callable[[Image, Path], dict[str, object]]) -> None:
    """An OCI layout, as a folder or a tar, arrives byte for byte, read where it lies: nothing is spooled."""
    image = build_image(layer_size=200_000, shared_layers=1)
    targets = [await world.registry(name) for name in ("one", "two")]
    run = await world.run(world.mirror(write(image, world.folder / "build") | {"names": ["main"]}, *targets, LOCAL))
    assert run.result is Result.SUCCESS
    assert [target.tags for target in targets] == [{PLACE: {"main": image.digest}}] * 2
    assert targets[0].manifests[PLACE] == dict(image.manifests)
    assert world.local_tags() == {"main": image.digest}
    assert world.spooled() == []


async def test_embedded_content_of_a_layout(world: World) -> None:
    """A blob that stands only in its descriptor (image-spec, descriptor.md) is read from there."""
    image = build_image(["linux/amd64"], inline_config=True)
    folder = write_layout(image, world.folder / "build")
    config = image.document()["config"]["digest"]
    (folder / "blobs" / config.replace(":", "/")).unlink()
    target = await world.registry("one")
    run = await world.run(world.mirror({"layout": folder, "names": ["main"]}, target, LOCAL))
    assert run.result is Result.SUCCESS, run.receipts
    assert target.content.dangling() == []


async def test_a_damaged_layout_goes_nowhere(world: World) -> None:
    """A layer of a layout with other bytes than its digest says completes no upload and sets no tag."""
    image = build_image(layer_size=200_000)
    folder = write_layout(image, world.folder / "build")
    damaged = folder / "blobs" / image.layers[0].replace(":", "/")
    damaged.write_bytes(bytes(damaged.stat().st_size))
    target = await world.registry("one")
    run = await world.run(world.mirror({"layout": folder, "names": ["main"]}, target, LOCAL))
    assert {receipt.code for receipt in run.receipts} == {"digest_mismatch"}
    assert (target.tags, world.local_tags()) == ({}, {})
    assert image.layers[0] not in target.blobs


async def test_docker_archives_are_deterministic(world: World) -> None:
    """A `docker save` archive gets the same digest each time it is converted, and nothing is done the second time."""
    file = write_docker_archive(build_image(["linux/amd64"]), world.folder / "saved.tar", "team/app:v1")
    mirror = world.mirror({"archive": file, "names": ["main"]}, LOCAL)
    assert (await world.run(mirror)).result is Result.SUCCESS
    first = world.local_tags()
    for made in world.services.scratch.iterdir():
        made.rename(world.folder / made.name)
    again = world.mirror({"archive": file, "names": ["again"]}, LOCAL)
    assert (await world.run(again)).result is Result.SUCCESS
    assert world.local_tags() == first | {"again": first["main"]}
    assert (await world.run(mirror)).result is Result.NOOP


async def test_archives_with_several_images(world: World) -> None:
    """An image of an archive is chosen and called by its name; a wrong one is told, with those that are there."""
    file = write_docker_archive(build_image(["linux/amd64"]), world.folder / "saved.tar", "team/app:v1")
    assert (await world.run(world.mirror({"archive": file, "tag": "v1"}, LOCAL))).result is Result.SUCCESS
    assert world.local_tags().keys() == {"v1"}
    run = await world.run(world.mirror({"archive": file, "tag": "v9"}, LOCAL))
    assert (run.result, run.code) == (Result.FAILED, "missing")
    assert "team/app:v1" in run.error


async def test_a_folder_of_layouts(world: World) -> None:
    """Every layout gets its commit tag; the newest of each branch gets the branch tag, whatever order they lie in."""
    builds, target = world.folder / "builds", await world.registry("one")
    made = {}
    for number, (branch, day) in enumerate([("main", 3), ("main", 9), ("main", 5), ("feature/x", 1)]):
        said = {CREATED: f"2024-01-0{day}T00:00:00Z"}
        made[number] = build_image(["linux/amd64"], seed=str(number), annotations=said)
        write_layout(made[number], builds / f"{number}", branch, f"{number}" * 40)
    run = await world.run(world.mirror({"layouts": builds}, target, LOCAL))
    assert run.result is Result.SUCCESS
    assert target.tags[PLACE] == world.local_tags() == {
        "main-0000000": made[0].digest,
        "main-1111111": made[1].digest,
        "main-2222222": made[2].digest,
        "main": made[1].digest,
        "feature-x-3333333": made[3].digest,
        "feature-x": made[3].digest,
    }  # fmt: skip


@pytest.mark.parametrize("revision", ["abc1234", "abc1234def"])
async def test_buildx_annotations_on_the_platforms(world: World, revision: str) -> None:
    """Branch and commit, whole or shortened, may stand in each platform's manifest, where buildx puts them."""
    image = build_image(annotations={REF_NAME: "main", REVISION: revision})
    write_layout(image, world.folder / "builds" / "a")
    await world.run(world.mirror({"layouts": world.folder / "builds"}, LOCAL))
    assert world.local_tags() == {"main-abc1234": image.digest, "main": image.digest}


async def test_buildx_annotations_of_the_index(world: World) -> None:
    """The build of docs/how-to/publish-from-ci.md has all three in the index; a build that is being written waits."""
    builds = world.folder / "builds"
    said = {REF_NAME: "main", REVISION: "a" * 40, CREATED: "2024-01-02T00:00:00+00:00"}
    image = build_image(["linux/amd64", "linux/arm64"], index_annotations=said)
    hidden = write_layout(image, builds / f".{'a' * 40}")
    await world.run(world.mirror({"layouts": builds}, LOCAL))
    assert world.local_tags() == {}
    hidden.rename(builds / ("a" * 40))
    await world.run(world.mirror({"layouts": builds}, LOCAL))
    assert world.local_tags() == {"main-aaaaaaa": image.digest, "main": image.digest}


async def test_bad_layouts_are_problems(world: World) -> None:
    """What cannot be published from the folder is one sentence each, and the good ones go on."""
    builds = world.folder / "builds"
    good = build_image(seed="good")
    write_layout(good, builds / "good", "main", "1111111")
    write_layout(build_image(seed="a"), builds / "unnamed")
    write_layout(build_image(seed="b"), builds / "half", "main")
    write_layout(build_image(seed="c"), builds / "strange", "///", "2222222")
    write_layout(build_image(seed="d"), builds / "twice", "main", "1111111")
    write_layout(build_image(seed="e"), builds / "zz-slash", "feature/x", "3333333")
    write_layout(build_image(seed="f"), builds / "zz-two", "feature-x", "4444444")
    torn = build_image(seed="g")
    child = torn.document()["manifests"][0]["digest"]
    (write_layout(torn, builds / "torn", "main", "5555555") / "blobs" / child.replace(":", "/")).unlink()
    (builds / "empty").mkdir()
    (builds / "junk.tar").write_bytes(b"junk")
    (builds / ".hidden").mkdir()
    (builds / "README.txt").write_text("no layout")
    run = await world.run(world.mirror({"layouts": builds}, LOCAL))
    assert run.result is Result.PARTIAL
    assert run.plan is not None
    bad = {"unnamed", "half", "strange", "twice", "zz-two", "torn", "empty", "junk.tar"}
    assert {Path(problem.split(":")[0]).name for problem in run.plan.missing} == bad
    assert world.local_tags().keys() == {"main-1111111", "main", "feature-x-3333333", "feature-x"}
    assert world.local_tags()["main"] == good.digest


async def test_no_folder_of_layouts(world: World) -> None:
    """A folder that is not there is a problem with the key to correct."""
    plan = await world.plan(world.mirror({"layouts": world.folder / "nowhere"}, LOCAL))
    assert [("no such folder" in text, "from.layouts" in text) for text in plan.missing] == [(True, True)]


async def test_age_by_time_of_change(world: World) -> None:
    """Without a date in its annotations a build is as old as its folder."""
    builds = world.folder / "builds"
    images = [build_image(seed=str(number)) for number in range(2)]
    for number, (image, age) in enumerate(zip(images, (1000, 2000), strict=True)):
        os.utime(write_layout(image, builds / f"{number}", "main", f"{number}" * 7), (10_000 - age, 10_000 - age))
    await world.run(world.mirror({"layouts": builds}, LOCAL))
    assert world.local_tags()["main"] == images[0].digest


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ({}, "exactly one"),
        ({"repository": "a/b", "layout": "x"}, "exactly one"),
        ({"layout": "x", "tags": ["v1"]}, "tags needs repository"),
        ({"layouts": "x", "tag": "v1"}, "tag needs"),
        ({"layouts": "x", "names": ["v1"]}, "annotations"),
        ({"repository": "a/b", "tags": ["v1", "v2"], "names": ["x"]}, "a single tag"),
        ({"repository": "a/b", "tags": ["v*"], "names": ["x"]}, "a single tag"),
        ({"repository": "a/b", "names": ["not a tag"]}, "is not a tag"),
        ({"repository": "a/b", "mirror": True}, "Extra inputs"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_sources_that_make_no_sense(world: World, source: dict[str, object], word: str) -> None:
    """Bad input 67: a source that means nothing, or two things, is refused with what to write instead."""
    with pytest.raises(ValidationError, match=word):
        world.mirror(source, LOCAL)


@pytest.mark.parametrize(
    ("keys", "places", "found"),
    [
        ({}, {"t": "ghcr.io/team"}, {"t": "ghcr.io/team/app"}),
        ({"as": "crane/agent"}, {"t": "docker.io/gocrane"}, {"t": "docker.io/gocrane/crane/agent"}),
        ({}, {"t": "ghcr.io/team/{name}-mirror"}, {"t": "ghcr.io/team/app-mirror"}),
        ({"as": "x"}, {"t": "ghcr.io/{mirror}/{name}"}, {"t": "ghcr.io/app/x"}),
    ],
)
def test_places(world: World, keys: dict[str, str], places: dict[str, str], found: dict[str, str]) -> None:
    """The image is called `<to>/<name>` at a target, unless `to` says where the name goes."""
    more: dict[str, Any] = dict(keys)
    mirror = world.mirror({"repository": "nginx"}, LOCAL, places=places, **more)
    assert SYNCER.places(mirror) == ("docker.io/library/nginx", {LOCAL: f"local/{keys.get('as', 'app')}", **found})


@pytest.mark.parametrize("to", ["UPPER/x", "ghcr.io/team/{name}:v1", "ghcr.io/te am", "https://ghcr.io/x"])
def test_bad_places(world: World, to: str) -> None:
    """A target that is no repository is an error that names the target and the key."""
    with pytest.raises(ConfigError, match=r"targets\.t\.to"):
        SYNCER.places(world.mirror({"repository": "nginx"}, places={"t": to}))


async def test_a_layout_with_two_images_wants_a_tag(world: World) -> None:
    """A layout with several images lists them; with `tag` the one is taken, under that name."""
    one, two = build_image(seed="one"), build_nested(build_image(seed="two"))
    folder = write_layout(one, world.folder / "build", "one")
    write_layout(two, folder, "two", add=True)
    run = await world.run(world.mirror({"layout": folder}, LOCAL))
    assert run.result is Result.FAILED
    assert "one" in run.error
    assert (await world.run(world.mirror({"layout": folder, "tag": "two"}, LOCAL))).result is Result.SUCCESS
    assert world.local_tags() == {"two": two.digest}


async def test_no_name_at_all(world: World) -> None:
    """A layout whose image has no name asks for `names`."""
    folder = write_layout(build_image(), world.folder / "build")
    plan = await world.plan(world.mirror({"layout": folder}, LOCAL))
    assert "set names: [...]" in plan.error
