"""`mirrord takedown` beside runs, at registries that do not delete, with indexes, and how often it asks."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from tests.support.commands import Desk
from tests.support.walking import walk

OURS, OTHER = (build_image(["linux/amd64", "linux/arm64"], seed=seed) for seed in ("ours", "other"))
REASON = "ticket 4711"


def desk_for(folder: Path, source: str, targets: Sequence[DockerRegistry], **settings: Any) -> Desk:
    """Mirror all tags of `up/app` to these registries, as `m/app`."""
    desk, denied = Desk(folder), folder / "denied.yaml"
    denied.touch()
    names = {f"t{number}": {"kind": "image", "to": f"{one.host}/m"} for number, one in enumerate(targets)}
    wanted = {"repository": f"{source}/up/app", "tags": ["*"]}
    sections = {
        "settings": {"denied": str(denied), **settings},
        "targets": names,
        "mirrors": [{"name": "app", "kind": "image", "from": wanted, "to": [*names, "local"]}],
    }
    desk.configure("".join(f"{name}: {json.dumps(value)}\n" for name, value in sections.items()))
    return desk


@pytest.mark.parametrize(("program", "looks"), [("docker-registry", 2), ("registry3", 1)])
async def test_how_often_each_tag_is_asked_for(tmp_path: Path, program: str, looks: int) -> None:
    """One HEAD for each tag that is there, whether it goes or stays; one more just before deletions by digest."""
    require(program)
    async with Registry() as source, DockerRegistry(program=program, access_log=True) as target:
        await push(OURS, source, "up/app", ["v1", "copy"])
        await push(OTHER, source, "up/app", ["v2", "v3"])
        desk = desk_for(tmp_path, source.host, [target])
        assert (await desk.run("sync")).status == 0
        before = len(target.hits())
        done = await desk.run("takedown", f"{source.host}/up/app:v1", "--reason", REASON, "--json")
        assert (done.status, done.document["remark"]) == (0, ""), (done.out, done.err)
        asked = Counter(hit.path.rpartition("/")[2] for hit in target.hits()[before:] if hit.method == "HEAD")
        assert {tag: asked[tag] for tag in ("v1", "copy", "v2", "v3")} == dict.fromkeys(
            ("v1", "copy", "v2", "v3"), looks
        )
        assert await walk(target, "m/app") == dict.fromkeys(("v2", "v3"), str(OTHER.digest))


async def test_a_registry_that_does_not_delete(tmp_path: Path) -> None:
    """It is denied and gone elsewhere; what is left is listed, with what to do, each time."""
    require("docker-registry")
    async with Registry() as source, DockerRegistry(deletes=False) as refuses, DockerRegistry() as target:
        await push(OURS, source, "up/app", ["v1", "copy"])
        await push(OTHER, source, "up/app", ["v2"])
        desk = desk_for(tmp_path, source.host, [refuses, target])
        assert (await desk.run("sync")).status == 0
        for words in (("--reason", REASON), ()):
            done = await desk.run("takedown", f"{source.host}/up/app:v1", *words, "--json")
            left = done.document["left"]
            assert (done.status, {(one["target"], one["what"]) for one in left}) == (2, {("t0", "v1"), ("t0", "copy")})
            assert all("REGISTRY_STORAGE_DELETE_ENABLED" in one["why"] for one in left), left
            assert await walk(target, "m/app") == {"v2": str(OTHER.digest)}
        still = (await desk.run("takedown", "--json")).document["denied"][0]["still"]
        assert sorted(still) == ["app at t0: copy", "app at t0: v1"]


@pytest.mark.parametrize("what", [":v1", f"@{OURS.digest}", "wildcard", "mirror"])
async def test_beside_a_run(tmp_path: Path, what: str) -> None:
    """It comes while the first run reads from a slow source: that ends, and nothing denied is left at the target."""
    require("docker-registry")
    async with Registry() as source, DockerRegistry() as target:
        await push(OURS, source, "up/app", ["v1", "copy"])
        named = {"wildcard": f"{source.host}/up/*", "mirror": "app"}.get(what, f"{source.host}/up/app{what}")
        desk = desk_for(tmp_path, source.host, [target], listen="127.0.0.1:0")
        fault = source.faults.on("GET", "/blobs/").hold()
        async with desk.serving():
            syncing = asyncio.create_task(desk.run("sync"))
            await fault.reached.wait()
            taking = asyncio.create_task(desk.run("takedown", named, "--reason", REASON, "--json"))
            denied = tmp_path / "denied.yaml"
            while not taking.done() and REASON not in await asyncio.to_thread(denied.read_text):  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.01)
            fault.release()
            done = await taking
            await syncing
            assert (done.status, done.document["left"]) == (0, []), (done.out, done.err)
            assert await walk(target, "m/app") == {}
            assert (await desk.run("takedown", "--json")).document["denied"][0]["still"] == []
