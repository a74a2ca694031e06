"""What was taken down is answered by 451 with the reason: in `local`, in the cache, and from upstream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from mirrord.model.digest import Digest
from mirrord.names.denied import Denied, DeniedEntry
from mirrord.syncer.values import LOCAL
from mirrord.testing import Registry, build_image, push
from tests.support.pulling import Pulls, pulling

IMAGE = build_image(["linux/amd64"], seed="mirrored")
OTHER = build_image(["linux/amd64"], seed="other")
REASON = 'ticket "4711", 版权'
BLOB = next(iter(IMAGE.blobs))


class Scene(NamedTuple):
    """A front, and its upstream with `team/app:v1` and `v2`; another repository has the same image."""

    pulls: Pulls
    upstream: Registry

    def deny(self, image: str = "", *digests: Digest, mirror: str = "") -> None:
        """Take one thing down, as a reload does."""
        name = image.replace("up.test", self.upstream.host)
        denied = Denied([DeniedEntry(3, REASON, name, digests, mirror)])
        self.pulls.world.services = replace(self.pulls.services(), denied=denied)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with Registry() as upstream:
        for repository in ("team/app", "team/copy"):
            await push(IMAGE, upstream, repository, ["v1"])
            await push(OTHER, upstream, repository, ["v2"])
        async with pulling(tmp_path, upstream.host, allow=["up.test/team/*"]) as pulls:
            upstream.forget()
            yield Scene(pulls, upstream)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["manifests/v1", f"manifests/{IMAGE.digest}", f"blobs/{BLOB}", "tags/list"])
async def test_a_repository(scene: Scene, path: str, method: str) -> None:
    """Nothing of it is served and nobody is asked; the reason is in the body, and in a header for HEAD."""
    scene.deny("up.test/team/app")
    answer = await scene.pulls.ask(f"up.test/team/app/{path}", method)
    assert answer.status == 451
    assert "4711" in answer.headers["warning"]
    if method == "GET":
        assert (answer.code, REASON in answer.message) == ("DENIED", True)
        assert "up.test/team/app" in answer.message
        assert scene.upstream.host not in answer.message
    assert scene.upstream.count("*") == 0
    assert (await scene.pulls.ask("up.test/team/copy/manifests/v1", method)).status == 200


async def test_a_tag(scene: Scene) -> None:
    """The others are served; the list of tags is without it."""
    scene.deny("up.test/team/app:v1")
    assert (await scene.pulls.ask("up.test/team/app/manifests/v1")).status == 451
    assert (await scene.pulls.ask("up.test/team/app/manifests/v2")).status == 200
    assert json.loads((await scene.pulls.ask("up.test/team/app/tags/list")).body)["tags"] == ["v2"]


async def test_a_digest(scene: Scene) -> None:
    """Under any tag of any repository, by HEAD and GET, also what the cache had before; no blob is denied."""
    path = "up.test/team/copy/manifests/v1"
    assert (await scene.pulls.ask(path)).status == 200
    scene.deny("", IMAGE.digest)
    for ask in (path, "up.test/team/app/manifests/v1", f"up.test/team/app/manifests/{IMAGE.digest}"):
        for method in ("GET", "HEAD"):
            answer = await scene.pulls.ask(ask, method)
            assert (answer.status, "4711" in answer.headers["warning"]) == (451, True), (ask, method)
    assert (await scene.pulls.ask(f"up.test/team/app/referrers/{IMAGE.digest}")).status == 451
    assert (await scene.pulls.ask(f"up.test/team/app/manifests/sha256-{IMAGE.digest.hex}.sig")).status == 451
    assert (await scene.pulls.ask("up.test/team/app/manifests/v2")).status == 200
    assert (await scene.pulls.ask(f"up.test/team/app/blobs/{BLOB}")).status == 200
    look = await scene.pulls.front.look("up.test/team/app:v1")
    assert look.comes_from != "local"


async def test_what_local_has(scene: Scene) -> None:
    """A copy in `local` is denied by its source, its mirror and its digest, also without `front:`."""
    world = scene.pulls.world
    mirror = world.mirror({"repository": f"{scene.upstream.host}/team/app", "tags": ["v1", "v2"]}, LOCAL)
    await world.run(mirror)
    for fronts in (world.services.fronts, {}):
        world.services = replace(world.services, fronts=fronts, denied=None, mirrors={"image": [mirror]})
        assert (await scene.pulls.ask("app/manifests/v1")).status == 200
        for image, digests, name in (
            ("up.test/team/app:v1", (), ""),
            ("", (IMAGE.digest,), ""),
            ("", (), "app"),
            ("up.test/team/*", (), ""),
        ):
            scene.deny(image, *digests, mirror=name)
            assert (await scene.pulls.ask("app/manifests/v1")).status == 451
            other = 451 if name or "*" in image else 200
            assert (await scene.pulls.ask("app/manifests/v2")).status == other


async def test_blobs_that_local_still_has(scene: Scene) -> None:
    """Without a ledger a takedown leaves them in `local`: those that only denied images have are refused there."""
    world = scene.pulls.world
    gone, stays = (build_image(["linux/amd64"], seed=seed, shared_layers=1) for seed in ("gone", "stays"))
    shared = next(iter(gone.blobs.keys() & stays.blobs.keys()))
    alone = sorted(gone.blobs.keys() - stays.blobs.keys())
    for image, tag in ((gone, "v3"), (stays, "v4")):
        await push(image, scene.upstream, "team/app", [tag])
    mirror = world.mirror({"repository": f"{scene.upstream.host}/team/app", "tags": ["v3", "v4"]}, LOCAL)
    await world.run(mirror)
    for fronts in (world.services.fronts, {}):
        world.services = replace(world.services, fronts=fronts, mirrors={"image": [mirror]})
        scene.deny("", OTHER.digest)  # `local` never had that
        assert {(await scene.pulls.ask(f"app/blobs/{blob}")).status for blob in (*alone, shared)} == {200}
        scene.deny("", gone.digest)
        for method in ("GET", "HEAD"):
            assert {(await scene.pulls.ask(f"app/blobs/{blob}", method)).status for blob in alone} == {451}
            assert (await scene.pulls.ask(f"app/blobs/{shared}", method)).status == 200
        refused = await scene.pulls.ask(f"app/blobs/{alone[0]}")
        assert (refused.code, REASON in refused.message) == ("DENIED", True)
    scene.deny("", gone.digest, stays.digest)
    assert (await scene.pulls.ask(f"app/blobs/{shared}")).status == 451


async def test_a_blob_that_upstream_shows(scene: Scene) -> None:
    """What `local` refuses may be of other images of its source: upstream is asked, and says whether it has it."""
    world = scene.pulls.world
    mirror = world.mirror({"repository": f"{scene.upstream.host}/team/app", "tags": ["v1"]}, LOCAL)
    await world.run(mirror)
    world.services = replace(world.services, mirrors={"image": [mirror]})
    scene.deny("", IMAGE.digest)
    asked = scene.upstream.count("*", f"/blobs/{BLOB}")
    assert (await scene.pulls.ask(f"up.test/team/app/blobs/{BLOB}")).status == 200
    assert scene.upstream.count("*", f"/blobs/{BLOB}") > asked


async def test_pulls_of_blobs_look_once(scene: Scene) -> None:
    """A look reads all that a repository has: one for all pulls, and one more after something came."""
    world, looks = scene.pulls.world, list[str]()

    class Counting(Denied):
        def manifest(self, name: str, ref: str) -> DeniedEntry | None:
            looks.append(ref)
            return super().manifest(name, ref)

    gone, stays = (build_image(["linux/amd64"], seed=seed, shared_layers=1) for seed in ("gone", "stays"))
    shared = next(iter(gone.blobs.keys() & stays.blobs.keys()))
    for image, tag in ((gone, "v3"), (stays, "v4")):
        await push(image, scene.upstream, "team/app", [tag])

    async def bring(*tags: str) -> None:
        mirror = world.mirror({"repository": f"{scene.upstream.host}/team/app", "tags": [*tags]}, LOCAL)
        await world.run(mirror)
        world.services = replace(world.services, mirrors={"image": [mirror]})

    async def pull(blob: str) -> list[int]:
        return [one.status for one in await asyncio.gather(*(scene.pulls.ask(f"app/blobs/{blob}") for _ in range(5)))]

    await bring("v3")
    denied = Counting([DeniedEntry(3, REASON, "", (gone.digest,))])
    world.services = replace(scene.pulls.services(), denied=denied)
    looks.clear()
    assert {*await pull(shared), *await pull(min(gone.blobs))} == {451}
    assert looks.count(gone.digest) == 1
    world.services = replace(world.services, denied=None)
    await bring("v3", "v4")
    world.services = replace(scene.pulls.services(), denied=denied)
    looks.clear()
    assert {*await pull(shared)} == {200}
    assert {*await pull(min(gone.blobs.keys() - stays.blobs.keys()))} == {451}
    assert looks.count(gone.digest) == 1
