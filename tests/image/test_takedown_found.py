"""What is denied with an image: its platforms too, as far as its source is asked."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mirrord.commands import GetDenied, Takedown, Verify
from mirrord.model.digest import Digest
from mirrord.model.ledger import LedgerEntry
from mirrord.model.run import Result
from mirrord.model.verification import Level
from mirrord.syncer.values import Mirror
from mirrord.syncers.image.plan.called import called
from mirrord.syncers.image.upstream import parents
from mirrord.syncers.image.upstream.parents import left_in_indexes
from mirrord.syncers.image.upstream.takedown import find
from mirrord.testing import Image, Registry, build_image, push
from tests.support.artifacts import build_nested
from tests.support.localstore import place_in
from tests.support.verifying import Verified, opened
from tests.support.world import World

NOW = datetime(2026, 11, 28, tzinfo=UTC)


async def test_platforms_of_more_than_a_hundred_images(world: World) -> None:
    """A source is asked for a hundred images, and a remark says of how many the platforms are not known."""
    source, target = await world.registry("source"), await world.registry("one")
    images = [build_image(["linux/amd64", "linux/arm64"], seed=str(number)) for number in range(103)]
    for number, image in enumerate(images):
        await push(image, source, "team/app", [f"v{number}"])
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, target)
    world.services = replace(world.services, mirrors={"image": [mirror]})
    moves = {
        ("one", f"v{number}"): LedgerEntry("app", "one", f"v{number}", "", None, image.digest, world.now, world.now)
        for number, image in enumerate(images)
    }
    found = await find(f"{source.host}/team/app", world.services, {"app": moves})
    assert source.count("GET", "/manifests/") == 100
    assert {image.digest for image in images} < {*found.entry.digests}
    assert len(found.entry.digests) == 103 + 2 * 100
    assert found.remark == (
        "the platforms of 3 of 103 images are not known, and not denied by digest: "
        "a source is asked for 100 images at most"
    )


async def test_a_damaged_manifest_in_local_stops_no_takedown(world: World) -> None:
    """Its platforms are asked for at the source; where that has it no more, a remark says that they are not known."""
    source, index = await world.registry("source"), build_image(["linux/amd64", "linux/arm64"])
    await push(index, source, "team/app", ["v1"])
    assert world.services.blobs
    await world.services.blobs.put(index.digest, index.body)
    place = place_in(world.folder / "blobs", index.digest)
    assert place
    place.unlink()
    place.write_bytes(b"{")
    asked = f"{source.host}/team/app@{index.digest}"
    found = await find(asked, world.services, {})
    assert (len(found.entry.digests), found.remark) == (3, "")
    found = await find(f"{source.host}/team/other@{index.digest}", world.services, {})
    assert found.entry.digests == (index.digest,)
    assert found.remark.startswith("the platforms of 1 of 1 images are not known, and not denied by digest: ")


CONFIGURATION = """\
settings: {{denied: {denied}}}
targets: {{there: {{kind: image, to: "{target}/mirror"}}}}
mirrors:
- {{name: app, kind: image, from: {{repository: "{source}/team/app", tags: ["*"]}}, to: [there, local]}}
"""


@asynccontextmanager
async def mirrored(folder: Path, **images: Image) -> AsyncIterator[tuple[Verified, Registry, Registry]]:
    """Mirror images, by tag, to a registry and `local`."""
    (folder / "denied.yaml").touch()
    async with Registry() as source, Registry() as target:
        for tag, image in images.items():
            await push(image, source, "team/app", [tag])
        text = CONFIGURATION.format(denied=folder / "denied.yaml", source=source.host, target=target.host)
        async with opened(folder, text) as one:
            assert (await one.sync()).result is Result.SUCCESS
            yield one, source, target


async def test_no_byte_of_it_stays_on_the_disk(tmp_path: Path) -> None:
    """Not even where transfers keep what they read last, under a second name of the same file."""
    index, other = build_image(["linux/amd64", "linux/arm64"]), build_image(["linux/amd64"], seed="other")
    async with mirrored(tmp_path, v1=index, v2=other) as (one, source, _):
        assert {*index.blobs, *other.blobs} <= one.contents()
        await one.dispatcher.carry_out(Takedown(f"{source.host}/team/app:v1", "asked to"))
        assert one.contents() & {*index.blobs, *index.manifests} == set()
        assert {*other.blobs, *other.manifests} <= one.contents()


async def test_an_index_that_has_a_denied_platform_is_listed(tmp_path: Path) -> None:
    """It stays at targets with the platform that was named alone, until it is taken down as well."""
    index, other = build_image(["linux/amd64", "linux/arm64"]), build_image(["linux/amd64"], seed="other")
    child = next(one for one in index.manifests if one != index.digest)
    async with mirrored(tmp_path, v1=index, v2=other) as (one, source, target):
        command = Takedown(f"{source.host}/team/app@{child}", "asked to")
        for _ in range(2):
            done = await one.dispatcher.carry_out(command)
            assert [(left.target, left.what) for left in done.left] == [("local", "v1"), ("there", "v1")]
            assert all(f"take down {index.digest}, too" in left.why for left in done.left)
            command = replace(command, reason="")
        assert {*target.content.tags["mirror/app"]} == {"v1", "v2"}
        assert not (await one.dispatcher.carry_out(Takedown(f"{source.host}/team/app@{index.digest}", "too"))).left
        assert not (await one.dispatcher.carry_out(command)).left
        assert {*target.content.tags["mirror/app"]} == {"v2"}


async def test_an_index_in_an_index(tmp_path: Path) -> None:
    """It is found where `local` knows it, and where a target is asked; a list, a run and a verify say so, too."""
    inner, alone = build_image(["linux/amd64", "linux/arm64"], seed="inner"), build_image(["linux/amd64"], seed="x")
    outer = build_nested(inner, build_image(["linux/s390x"], seed="more"))
    child = next(one for one in inner.manifests if one != inner.digest)
    async with mirrored(tmp_path, v1=outer, v2=alone) as (one, source, _):
        services = replace(one.dispatcher.runtime.snapshot.services, repositories=None)
        moves = {("there", "v1"): LedgerEntry("app", "there", "v1", "", None, outer.digest, NOW, NOW)}
        left, within = await left_in_indexes(Digest(child), "", services, {"app": moves})
        assert ([said.what for said in left], within) == (["v1"], [outer.digest])
        done = await one.dispatcher.carry_out(Takedown(f"{source.host}/team/app@{child}", "asked to"))
        assert [(left.target, left.what) for left in done.left] == [("local", "v1"), ("there", "v1")]
        say = f"it is an index that has {child}, which was taken down; take down {outer.digest}, too"
        (listed,) = await one.dispatcher.carry_out(GetDenied())
        assert listed.still == (f"app at local: v1: {say}", f"app at there: v1: {say}")
        run = await one.sync()
        assert run.plan
        assert f"v1: {say}" in run.plan.remarks
        verified = await one.dispatcher.carry_out(Verify(("app",), Level.NAMES))
        said = [finding for target in verified[0].targets for finding in target.findings]
        assert {(one.target, one.code, say in one.text) for one in said} == {
            (target, "refused", True) for target in ("local", "there")
        }
        assert not (await one.dispatcher.carry_out(Takedown(f"{source.host}/team/app@{outer.digest}", "too"))).left
        assert not any(thing.still for thing in await one.dispatcher.carry_out(GetDenied()))


async def test_what_was_not_looked_at_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that cannot be read may have the platform, and so may those beyond the limit: none is told as gone."""
    images = {f"v{number}": build_image(["linux/amd64", "linux/arm64"], seed=str(number)) for number in range(3)}
    child = next(one for one in images["v0"].manifests if one != images["v0"].digest)
    async with mirrored(tmp_path, **images) as (one, source, target):
        services = replace(one.dispatcher.runtime.snapshot.services, repositories=None)  # which knows all of them
        moves = {
            ("there", tag): LedgerEntry("app", "there", tag, "", None, image.digest, NOW, NOW)
            for tag, image in images.items()
        }
        first, second, _ = sorted(images, key=lambda tag: images[tag].digest)
        monkeypatch.setattr(parents, "MOST", 2)
        target.faults.on("*", f"/manifests/{images[first].digest}", times=None).status(403)
        found, _ = await left_in_indexes(Digest(child), f"{source.host}/team/app", services, {"app": moves})
        said = {left.what: left.why for left in found}
        assert f"whether it has {child} is not known" in said[first]
        assert (second in said) is (second == "v0")
        assert "only 2 were asked for" in said["1 more images"]


async def test_the_ledger_is_searched_beside_the_event_loop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror may have a hundred thousand names, and the daemon answers clients meanwhile."""
    threads = set[threading.Thread]()

    def noted(mirror: Mirror) -> Any:
        threads.add(threading.current_thread())
        return called(mirror)

    monkeypatch.setattr(parents, "called", noted)
    image, mirror = build_image(["linux/amd64"]), world.mirror({"repository": "source.example/team/app"})
    world.services = replace(world.services, mirrors={"image": [mirror]})
    assert await left_in_indexes(Digest(image.digest), "source.example/team/app", world.services, {}) == ([], [])
    assert threads
    assert threading.main_thread() not in threads


async def test_one_broken_tag_leaves_others_alone(tmp_path: Path) -> None:
    """Names go although another one cannot be read; a manifest that this one may need is listed by its digest."""
    one, two, third = (build_image(["linux/amd64"], seed=seed) for seed in ("one", "two", "three"))
    async with mirrored(tmp_path, v1=one, v2=two, v3=third) as (open_, source, target):
        fault = target.faults.on("*", "/manifests/v3$", times=None).status(403)
        done = await open_.dispatcher.carry_out(Takedown(f"{source.host}/team/app:v1", "asked to"))
        assert {*target.content.tags["mirror/app"]} == {"v2", "v3"}
        assert [(left.target, left.what) for left in done.left] == [("there", "v1")]
        assert f"{one.digest} can still be pulled by digest: another tag may need it" in done.left[0].why
        fault.times = 0
        assert not (await open_.dispatcher.carry_out(Takedown(f"{source.host}/team/app:v1"))).left
        assert one.digest not in target.content.manifests["mirror/app"]
