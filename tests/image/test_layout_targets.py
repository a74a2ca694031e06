"""OCI layouts on this machine as targets of image mirrors, judged by skopeo."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

from mirrord.model.plan import Action
from mirrord.model.run import Result
from mirrord.testing import Image, build_image, push, require
from mirrord.testing.images import REF_NAME
from mirrord.testing.running import run as program
from mirrord.wire.oci.layout import Layout
from tests.support.layouts import write_layout
from tests.support.world import World, by_target


async def seen(folder: Path, tag: str) -> bytes:
    """Return the manifest that skopeo finds under a tag of a layout, once all of it can be copied from there."""
    require("skopeo")
    place = f"oci:{folder}:{tag}"
    copied = await program("skopeo", "copy", "-q", "--insecure-policy", "--all", place, f"dir:{folder.parent}/{tag}")
    assert copied.status == 0, copied.output
    return (await program("skopeo", "inspect", "--raw", place)).output.encode()


def stamp(folder: Path) -> tuple[int, int]:
    state = (folder / "index.json").stat()
    return state.st_ino, state.st_mtime_ns


async def test_a_mirror_writes_layouts_beside_registries(world: World) -> None:
    """`oci:/dir` gets one layout at `<to>/<name>`, each tag a name in it; every blob is read once for both targets."""
    images = {"v1": build_image(seed="1"), "v2": build_image(["linux/amd64"], seed="2")}
    source, one = await world.registry("source"), await world.registry("one")
    for tag, image in images.items():
        await push(image, source, "team/app", [tag])
    backup = world.folder / "backup"
    from_ = {"repository": f"{source.host}/team/app", "tags": ["v*"]}
    keys: dict[str, Any] = {"places": {"backup": f"oci:{backup}/"}, "trust": 0, "as": "team/app"}
    mirror = world.mirror(from_, one, **keys)
    run = await world.run(mirror)
    assert run.result is Result.SUCCESS, run.receipts
    for tag, image in images.items():
        assert await seen(backup / "team/app", tag) == image.body
    blobs = {digest for image in images.values() for digest in image.blobs}
    assert source.count("GET", "/blobs/") == len(blobs)
    before = stamp(backup / "team/app")
    world.wire.exchanges.clear()
    again = await world.run(mirror)
    assert again.result is Result.NOOP
    asked = [one.method for one in world.wire.exchanges if "/tags/" not in one.path and "/referrers/" not in one.path]
    assert {*asked} == {"HEAD"}
    assert stamp(backup / "team/app") == before


async def test_a_layout_that_is_gone_is_written_again(world: World) -> None:
    """The record is not believed where the disk says otherwise; a moved tag moves, and its entry is one."""
    first, second = build_image(seed="a"), build_image(seed="b")
    source = await world.registry("source")
    await push(first, source, "team/app", ["main"])
    folder = world.folder / "backup" / "app"
    mirror = world.mirror({"repository": f"{source.host}/team/app:main"}, places={"backup": f"oci:{folder.parent}"})
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert (await world.run(mirror)).result is Result.NOOP
    shutil.rmtree(folder)
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert await seen(folder, "main") == first.body
    await push(second, source, "team/app", ["main"])
    assert (await world.run(mirror)).result is Result.SUCCESS
    entries = json.loads((folder / "index.json").read_bytes())["manifests"]
    assert [(one["digest"], one["annotations"]) for one in entries] == [(second.digest, {REF_NAME: "main"})]


async def test_builds_are_published_into_a_layout(world: World) -> None:
    """A publish gives both names at once; with `if_newest` a newer build that is there is left alone."""

    def built(seed: str, created: str) -> tuple[Image, str]:
        annotations = {"org.opencontainers.image.created": created}
        image = build_image(["linux/amd64"], seed=seed, annotations=annotations)
        return image, f"oci:{write_layout(image, world.folder / seed)}"

    source = await world.registry("source")
    folder = world.folder / "backup" / "app"
    mirror = world.mirror({"repository": f"{source.host}/team/app:main"}, places={"backup": f"oci:{folder.parent}"})
    (new, at_new), (old, at_old) = built("new", "2024-05-02T00:00:00Z"), built("old", "2024-05-01T00:00:00Z")
    assert (await world.publish(mirror, at_new, "main-c2", "main")).result is Result.SUCCESS
    assert await seen(folder, "main") == await seen(folder, "main-c2") == new.body
    late = await world.publish(mirror, at_old, "main-c1", "main", if_newest=True)
    assert late.result is Result.SUCCESS
    assert by_target(late)["backup"].left == ("main",)
    assert await seen(folder, "main-c1") == old.body
    assert await seen(folder, "main") == new.body
    moved = await world.publish(mirror, at_old, "main-c2", "main")
    assert moved.plan is not None
    assert [step.action for step in moved.plan.steps] == [Action.REFUSE]


async def test_two_runs_into_one_layout_lose_nothing(world: World) -> None:
    """Mirrors of two daemons may share a folder: content is written whole, and no name of the other's is lost."""
    source = await world.registry("source")
    for number in range(6):
        await push(build_image(["linux/amd64"], seed=str(number % 3)), source, f"team/{number % 2}", [f"v{number}"])
    keys: dict[str, Any] = {"places": {"backup": f"oci:{world.folder}/backup"}, "as": "app"}
    sources = [{"repository": f"{source.host}/team/{half}", "tags": ["v*"]} for half in range(2)]
    mirrors = [world.mirror(from_, name=f"m{half}", **keys) for half, from_ in enumerate(sources)]
    runs = await asyncio.gather(*map(world.run, mirrors))
    assert [run.result for run in runs] == [Result.SUCCESS] * 2
    assert sorted(Layout.open(world.folder / "backup" / "app").names()) == [f"v{number}" for number in range(6)]


async def test_a_run_that_is_cut_short_is_finished_by_the_next(world: World) -> None:
    """Nothing half written has a name; the next run brings what is missing and reads nothing twice."""
    image = build_image(layer_size=100_000)
    source = await world.registry("source")
    await push(image, source, "team/app", ["main"])
    folder = world.folder / "backup" / "app"
    mirror = world.mirror({"repository": f"{source.host}/team/app:main"}, places={"backup": f"oci:{folder.parent}"})
    last = max(image.blobs, key=lambda digest: len(image.blobs[digest]))
    gate = source.faults.on("GET", f"/blobs/{last}").stall(after=1000)
    running = asyncio.ensure_future(world.run(mirror))
    await gate.reached.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not (folder / "index.json").exists() or Layout.open(folder).names() == ()
    gate.release()
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert await seen(folder, "main") == image.body
    assert not [*folder.rglob("*.part")]


async def test_other_folders_are_left_alone(world: World) -> None:
    """A folder that holds something else is not written into; other targets get theirs."""
    source, one = await world.registry("source"), await world.registry("one")
    await push(build_image(), source, "team/app", ["main"])
    folder = world.folder / "backup" / "app"
    folder.mkdir(parents=True)
    (folder / "precious").write_text("x")
    mirror = world.mirror(
        {"repository": f"{source.host}/team/app:main"}, one, places={"backup": f"oci:{folder.parent}"}
    )
    run = await world.run(mirror)
    assert run.result is Result.PARTIAL
    assert "something else" in by_target(run)["backup"].detail
    assert [file.name for file in folder.iterdir()] == ["precious"]
    assert one.tags["mirror/app"]


async def test_layouts_may_lie_below_one_another(world: World) -> None:
    """Images called `a/b/c` and `a/b` have a layout each, whichever comes first; other content is foreign."""
    require("skopeo")
    source, one = await world.registry("source"), await world.registry("one")
    image = build_image(["linux/amd64"])
    await push(image, source, "team/app", ["main"])
    folder = world.folder / "backup"
    from_, places = {"repository": f"{source.host}/team/app:main"}, {"backup": f"oci:{folder}"}
    for number, name in enumerate(("a/b/c", "a", "a/b")):
        keys: dict[str, Any] = {"as": name}
        mirror = world.mirror(from_, one, name=f"m{number}", places=places, **keys)
        assert by_target(await world.run(mirror))["backup"].good
        shown = await program("skopeo", "inspect", "--raw", f"oci:{folder / name}:main")
        assert shown.output.encode() == image.body
    (folder / "x" / "y").mkdir(parents=True)
    (folder / "x" / "y" / "precious").write_text("x")
    mirror = world.mirror(from_, one, name="foreign", places=places, **{**keys, "as": "x"})
    assert "something else" in by_target(await world.run(mirror))["backup"].detail
