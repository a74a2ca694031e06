"""Mirrors of some platforms: what arrives, what it costs, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirrord.model.memory import LastSeen
from mirrord.model.origin import ConfigOrigin
from mirrord.model.plan import Action
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import Image, Registry, build_image, push
from mirrord.testing.images import OCI_INDEX, Builder
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.oci.subset import ORIGIN, PLATFORMS
from tests.support.artifacts import build_artifact
from tests.support.dated import DatedRegistry
from tests.support.layouts import write_layout
from tests.support.world import World

PLACE = "mirror/app"
FOUR = ("linux/amd64", "linux/arm64/v8", "linux/s390x", "linux/arm/v7")
TWO = ["linux/amd64", "linux/arm64"]
SAID = "index changed: 2 of 4 platforms; any signature or attestation of the source's index does not fit it"


@pytest.fixture(autouse=True)
def facts(world: World) -> None:
    """Let runs note what the next one need not ask for."""
    world.services = replace(world.services, facts=world.store)


async def filled(world: World, tag: str = "v1", seed: str = "image") -> tuple[Registry, Image]:
    source = await world.registry("source")
    image = build_image(FOUR, layers=1, seed=seed)
    await push(image, source, "team/app", [tag])
    return source, image


def at(target: Registry, tag: str = "v1", place: str = PLACE) -> tuple[str, dict[str, Any]]:
    """Return the digest and the content of what a tag of a target stands for."""
    digest = target.tags[place][tag]
    return digest, json.loads(target.manifests[place][digest][1])


def names(document: dict[str, Any]) -> list[str]:
    return ["/".join(entry["platform"].values()) for entry in document["manifests"]]


async def test_two_of_four(world: World) -> None:
    """Targets get an index of the wanted platforms and no byte of others, and record, plan and receipt say so."""
    source, image = await filled(world)
    one = await world.registry("one")
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, one, LOCAL, platforms=TWO)
    planned = await world.plan(mirror)
    assert [step.reason for step in planned.steps] == 2 * [f"v1 not there; {SAID}"]
    assert planned.remarks == (f"v1: {SAID}",)
    run = await world.run(mirror)
    assert run.result is Result.SUCCESS, run.receipts
    assert [receipt.detail.partition("; ")[2] for receipt in run.receipts] == 2 * [SAID.partition("; ")[0]]
    digest, index = at(one)
    entries = image.document()["manifests"]
    assert index["manifests"] == entries[:2]
    assert index["annotations"] == {PLATFORMS: "linux/amd64,linux/arm64", ORIGIN: image.digest}
    children = {entry["digest"]: image.manifests[entry["digest"]] for entry in entries[:2]}
    assert {key: found for key, found in one.manifests[PLACE].items() if key != digest} == children
    wanted = {part["digest"] for key in children for part in _parts(image.document(key))}
    assert one.blobs.keys() == wanted
    assert world.local_tags() == {"v1": digest}
    known: dict[tuple[str, str], LastSeen] = dict(await world.store.memory("app"))
    size = sum(len(image.blobs[blob]) for blob in wanted)
    assert {(seen.digest, seen.size, seen.platforms) for seen in known.values()} == {(digest, size, FOUR[:2])}


def _parts(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [document["config"], *document["layers"]]


async def test_what_it_costs(world: World) -> None:
    """The index is read once for plan and transfer; after that a run costs the HEAD of the tag, and no GET."""
    source, image = await filled(world)
    one, two = await world.registry("one"), await world.registry("two")
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, one, two, platforms=TWO)
    source.forget()
    await world.run(mirror)
    gets = [
        found.path.rpartition("/")[2] for found in source.log if found.method == "GET" and "/manifests/" in found.path
    ]
    assert sorted(gets) == sorted([image.digest, *(entry["digest"] for entry in image.document()["manifests"][:2])])
    turned = world.mirror({"repository": f"{source.host}/team/app:v1"}, one, two, platforms=TWO[::-1])
    for again in (mirror, turned):
        source.forget()
        world.later(days=1)
        assert (await world.run(again)).result is Result.NOOP
        content = [found for found in source.log if "/manifests/" in found.path or "/blobs/" in found.path]
        assert [(found.method, found.path.rpartition("/")[2]) for found in content] == [("HEAD", "v1")]


async def test_all_that_it_has(world: World) -> None:
    """An index with no other platform arrives byte for byte and unmarked, is read once, and never again."""
    source, one = await world.registry("source"), await world.registry("one")
    image = build_image(TWO, layers=1)
    await push(image, source, "team/app", ["v1"])
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, one, platforms=[*TWO, "linux/s390x"])
    source.forget()
    run = await world.run(mirror)
    assert (one.manifests[PLACE], one.blobs) == (dict(image.manifests), dict(image.blobs))
    assert "index changed" not in f"{run.receipts} {run.remarks}"
    assert source.count("GET", f"/manifests/{image.digest}") == 1
    world.later(days=1)
    source.forget()
    assert (await world.run(mirror)).result is Result.NOOP
    assert source.count("GET", "/manifests/") == source.count("GET", "/blobs/") == 0


async def test_other_platforms(world: World) -> None:
    """When platforms are added or taken away tags move to what is left then; without the key to the image itself."""
    source, image = await filled(world)
    one = await world.registry("one")
    here = {"repository": f"{source.host}/team/app:v1"}
    found = []
    for platforms in (TWO, ["linux/s390x"], TWO[::-1], None, TWO):
        keys: dict[str, Any] = {"platforms": platforms} if platforms else {}
        await world.run(world.mirror(here, one, **keys))
        found.append(at(one)[0])
    two, alone = found[:2]
    assert found == [two, alone, two, image.digest, two]
    assert names(at(one)[1]) == list(FOUR[:2])


@pytest.mark.parametrize("docker", [False, True])
async def test_images_without_an_index(world: World, docker: bool) -> None:
    """Bad input 47: the config says what an image is for: it arrives as it is, or is missing with what it has."""
    source, one = await world.registry("source"), await world.registry("one")
    arm, amd = [build_image([name], docker=docker, layers=1, index=False) for name in ("linux/arm64/v8", "linux/amd64")]
    await push(arm, source, "team/app", ["arm"])
    await push(amd, source, "team/app", ["amd"])
    here = {"repository": f"{source.host}/team/app", "tags": ["arm", "amd"]}
    mirror = world.mirror(here, one, platforms=["linux/arm64"])
    source.forget()
    run = await world.run(mirror)
    assert run.result is Result.PARTIAL
    assert run.plan
    assert run.plan.missing == ("amd: has none of the platforms linux/arm64; it has linux/amd64; correct platforms:",)
    assert one.tags[PLACE] == {"arm": arm.digest}
    assert one.manifests[PLACE] == dict(arm.manifests)
    configs = [image.document()["config"]["digest"] for image in (arm, amd)]
    read = [f"/manifests/{image.digest}" for image in (arm, amd)] + [f"/blobs/{config}" for config in configs]
    assert [source.count("GET", path) for path in read] == [1, 1, 1, 1]
    world.later(days=1)
    source.forget()
    again = await world.run(mirror)
    assert (again.plan and again.plan.missing) == run.plan.missing
    assert source.count("GET", "/manifests/") == source.count("GET", "/blobs/") == 0


async def test_none_of_them(world: World) -> None:
    """An index without any of the platforms is missing where it is named, and a problem where a pattern chose it."""
    source, _ = await filled(world, "v1")
    await push(build_image(["linux/amd64", "linux/riscv64"], layers=1), source, "team/app", ["v2"])
    one = await world.registry("one")
    wrong = "v2: has none of the platforms linux/arm64; it has linux/amd64, linux/riscv64; correct platforms:"
    by_name = world.mirror(
        {"repository": f"{source.host}/team/app", "tags": ["v1", "v2"]}, one, platforms=["linux/arm64"]
    )
    run = await world.run(by_name)
    assert (run.result, run.plan and run.plan.missing) == (Result.PARTIAL, (wrong,))
    assert list(one.tags[PLACE]) == ["v1"]
    chosen = world.mirror({"repository": f"{source.host}/team/app", "tags": ["v*"]}, one, platforms=["linux/arm64"])
    run = await world.run(chosen)
    assert (run.result, run.problems, run.plan and run.plan.missing) == (Result.NOOP, (wrong,), ())
    nothing = world.mirror({"repository": f"{source.host}/team/app", "tags": ["*2"]}, one, platforms=["linux/arm64"])
    run = await world.run(nothing)
    said = "none of the images that are chosen has linux/arm64 (1); correct platforms:"
    assert (run.result, run.problems, run.plan and run.plan.missing) == (Result.FAILED, (wrong,), (said,))


async def test_many_platforms(world: World) -> None:
    """Of an index with many platforms the first are named, now and from the notes, and the others are counted."""
    source, one = await world.registry("source"), await world.registry("one")
    await push(build_image([f"linux/arm/v{n}" for n in range(10, 40)], layers=1), source, "team/app", ["v1"])
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, one, platforms=TWO)
    first, second = [(await world.run(mirror)).plan for _ in range(2)]
    assert first
    assert second
    assert first.missing == second.missing
    assert first.missing[0].endswith("linux/arm/v28, linux/arm/v29 and 10 more; correct platforms:")


async def test_notes_of_another_form(world: World) -> None:
    """Notes of a version that writes other indexes are not read: the images are."""
    source, image = await filled(world)
    one = await world.registry("one")
    name = f"platforms:{source.host}/team/app:v1"
    await world.store.note("app", name, {"": "0 linux/amd64,linux/arm64", image.digest: "in another form"})
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, one, platforms=TWO)
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert (await world.store.recall("app", name)).keys() == {"", image.digest}
    assert names(at(one)[1]) == list(FOUR[:2])


async def test_what_is_no_image(world: World) -> None:
    """Artifacts are for no platform, and arrive as they are; so does what an index has beside its images."""
    source, one = await world.registry("source"), await world.registry("one")
    artifact, builder, image = build_artifact(), Builder(), build_image(["linux/amd64", "linux/arm64"], layers=1)
    builder.include(artifact)
    builder.include(image)
    entries = [dict(artifact.root), *image.document()["manifests"]]
    mixed = builder.image(builder.manifest({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}))
    await push(artifact, source, "team/app", ["a"])
    await push(mixed, source, "team/app", ["mixed"])
    here = {"repository": f"{source.host}/team/app", "tags": ["a", "mixed"]}
    assert (await world.run(world.mirror(here, one, platforms=["linux/arm64"]))).result is Result.SUCCESS
    assert at(one, "a")[0] == artifact.digest
    assert at(one, "mixed")[1]["manifests"] == [entries[0], entries[2]]


async def test_a_digest_without_a_name(world: World) -> None:
    """What would get another digest and has no name cannot be asked for by anybody; with a tag it can."""
    source, image = await filled(world)
    one = await world.registry("one")
    bare, named = f"{source.host}/team/app@{image.digest}", f"{source.host}/team/app:v1@{image.digest}"
    run = await world.run(world.mirror({"repository": bare}, one, platforms=TWO))
    assert run.result is Result.FAILED
    assert run.plan
    assert run.plan.missing[0].startswith(f"{image.digest}: with some of its platforms it is another image, without a")
    assert (await world.run(world.mirror({"repository": named}, one, platforms=TWO))).result is Result.SUCCESS
    assert names(at(one)[1]) == list(FOUR[:2])


async def test_tags_that_never_move(world: World) -> None:
    """Immutable tags cost no request once they are recorded, whatever platforms are asked for later."""
    source, _ = await filled(world)
    one, two = await world.registry("one"), await world.registry("two")
    here: dict[str, Any] = {"repository": f"{source.host}/team/app", "tags": ["v1"]}
    await world.run(world.mirror(here, one, platforms=TWO, immutable=["v*"]))
    first = at(one)[0]
    for platforms in (TWO, ["linux/s390x"]):
        source.forget()
        run = await world.run(world.mirror(here, one, platforms=platforms, immutable=["v*"]))
        assert (run.result, source.log) == (Result.NOOP, [])
    assert at(one)[0] == first
    await world.run(world.mirror(here, one, two, platforms=TWO, immutable=["v*"]))
    assert at(two)[0] == first


async def test_tags_that_are_settled(world: World) -> None:
    """A tag whose push is long ago costs no request, unless other platforms are asked for than those it has there."""
    source = await world.stack.enter_async_context(DatedRegistry(name="source", wire=world.wire))
    image = build_image(FOUR, layers=1)
    source.pushed = {"v1": "2024-01-01T00:00:00Z"}
    await push(image, source, "team/app", ["v1"])
    one = await world.registry("one")
    (world.folder / "x-daily.txt").write_text(f"{source.host}/team/app")
    book = HostBook({source.host: HostPolicy(source.host, profile="harbor")})
    async with Http(book, jitter=lambda: 0.0) as http:
        world.services = replace(world.services, http=http)
        asked = []
        for platforms in (TWO, TWO, ["linux/s390x"], ["linux/s390x"], None, None):
            keys: dict[str, Any] = {"platforms": platforms} if platforms else {}
            mirror = world.mirror({"list": "x-daily.txt"}, one, **keys)
            mirror = replace(mirror, origin=ConfigOrigin(str(world.folder / "a.yaml"), 1))
            source.forget()
            run = await world.run(mirror)
            assert run.result in (Result.SUCCESS, Result.NOOP), run
            (place,) = one.tags
            heads = source.count("HEAD", "/manifests/")
            asked.append((heads, [*names(at(one, place=place)[1])] if heads else []))
        assert asked == [(1, list(FOUR[:2])), (0, []), (1, ["linux/s390x"]), (0, []), (1, list(FOUR)), (0, [])]
        mirror = world.mirror({"list": "x-daily.txt"}, one, trust=0.0, platforms=TWO)
        mirror = replace(mirror, origin=ConfigOrigin(str(world.folder / "a.yaml"), 1))
        await world.run(mirror)
        one.content.manifests[place].clear()
        one.content.tags[place].clear()
        source.forget()
        assert (await world.run(mirror)).result is Result.SUCCESS
        assert (source.count("HEAD", "/manifests/"), source.count("GET", f"/manifests/{image.digest}")) == (0, 1)
        assert names(at(one, place=place)[1]) == list(FOUR[:2])


async def test_mirrors_of_many(world: World) -> None:
    """Every repository of a list and of a registry gets the platforms of its mirror."""
    source, image = await filled(world)
    await push(image, source, "team/other", ["v1"])
    one, two = await world.registry("one"), await world.registry("two")
    (world.folder / "images.txt").write_text(f"{source.host}/team/app:v1\n")
    listed = world.mirror({"list": "images.txt"}, one, platforms=TWO)
    listed = replace(listed, origin=ConfigOrigin(str(world.folder / "a.yaml"), 1))
    whole = world.mirror(
        {"registry": source.host, "repositories": ["team/*"], "tags": ["v1"]}, two, name="all", platforms=TWO
    )
    for mirror, target, count in ((listed, one, 1), (whole, two, 2)):
        run = await world.run(mirror)
        assert run.result is Result.SUCCESS, run
        assert run.remarks == tuple(f"{source.host}/team/{name}: v1: {SAID}" for name in ("app", "other")[:count])
        assert len(target.tags) == count
        for place in target.tags:
            assert names(at(target, place=place)[1]) == list(FOUR[:2])


async def test_one_repository_with_and_without_a_digest(world: World) -> None:
    """Lines of one repository with and without a digest keep their notes apart: no image is read twice."""
    source, image = await filled(world)
    await push(image, source, "team/app", ["v2"])
    one = await world.registry("one")
    lines = (f"{source.host}/team/app:v1", f"{source.host}/team/app:v2@{image.digest}")
    (world.folder / "images.txt").write_text("\n".join(lines))
    mirror = world.mirror({"list": "images.txt"}, one, platforms=TWO)
    mirror = replace(mirror, origin=ConfigOrigin(str(world.folder / "a.yaml"), 1))
    assert (await world.run(mirror)).result is Result.SUCCESS
    source.forget()
    world.later(days=1)
    assert (await world.run(mirror)).result is Result.NOOP
    assert source.count("GET", "/manifests/") == 0


async def test_layouts(world: World, tmp_path: Path) -> None:
    """Builds in layouts and what is published are cut down, too, and the same as from a registry."""
    source, image = await filled(world)
    one, two, three = [await world.registry(name) for name in ("one", "two", "three")]
    builds = tmp_path / "builds"
    write_layout(image, builds / "a", "main", "abcdef1234")
    assert (await world.run(world.mirror({"layouts": str(builds)}, one, platforms=TWO))).result is Result.SUCCESS
    assert {at(one, tag)[0] for tag in ("main", "main-abcdef1")} == {at(one, "main")[0]}
    await world.run(world.mirror({"repository": f"{source.host}/team/app:v1"}, two, platforms=TWO))
    assert at(one, "main") == at(two)
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, three, platforms=TWO)
    run = await world.publish(mirror, f"oci:{builds / 'a'}", "main-1", "main")
    assert run.result is Result.SUCCESS, run
    assert at(three, "main") == at(two)


async def test_many_indexes_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more is left than memory is meant for, the transfer reads an index again, and the same arrives."""
    monkeypatch.setattr("mirrord.syncers.image.upstream.subset.ROOM", 0)
    source, image = await filled(world)
    one = await world.registry("one")
    source.forget()
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:v1"}, one, platforms=TWO))
    assert run.result is Result.SUCCESS
    assert source.count("GET", f"/manifests/{image.digest}") == 2
    assert names(at(one)[1]) == list(FOUR[:2])


async def test_a_source_that_is_gone(world: World) -> None:
    """When no index can be read the run fails as if no tag could be asked for; what is there stays."""
    source, image = await filled(world)
    one = await world.registry("one")
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["v1"]}, one, platforms=TWO)
    planned = await world.plan(mirror)
    assert [step.action for step in planned.steps] == [Action.COPY]
    del source.content.manifests["team/app"][image.digest]
    run = await world.run(replace(mirror, name="other"))
    assert run.result is Result.FAILED
    assert one.tags == {}


@pytest.mark.parametrize("absent", [False, True])
async def test_a_source_that_limits_the_rate(world: World, absent: bool) -> None:
    """An index that cannot be read for now puts the run off, but not where a tag is missing for another reason."""
    source, _ = await filled(world, "v1")
    late = build_image(["linux/amd64", "linux/riscv64"], layers=1, seed="late")
    await push(late, source, "team/app", ["v2"])
    one = await world.registry("one")
    source.faults.on("GET", f"/manifests/{late.digest}", times=None).status(429, headers={"Retry-After": "3000"})
    wanted = {"repository": f"{source.host}/team/app", "tags": ["v1", "v2", *(["absent"] if absent else [])]}
    run = await world.run(world.mirror(wanted, one, platforms=["linux/amd64"]))
    assert run.plan is not None
    assert len(run.plan.missing) == (2 if absent else 1)
    assert run.plan.missing_code == ("content" if absent else "throttled")
    assert (run.result is Result.DEFERRED) is not absent
