"""One mirror of many images as its operator runs it: real registries, skopeo as the judge, and interrupted runs."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from mirrord.commands import PlanMirrors, Sync
from mirrord.failpoints import CRASH_STATUS
from mirrord.model.run import Result
from mirrord.serve.remote import ControlClient
from mirrord.testing import DockerRegistry, Image, Registry, build_image, push, require
from mirrord.testing.running import run
from tests.support.commands import Desk
from tests.support.imagetools import skopeo_copy

APPS, TAGS = 12, 5


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def small(seed: str) -> Image:
    return build_image(["linux/amd64"], index=False, layers=1, layer_size=500, seed=seed)


def listed(desk: Desk, *lines: str) -> None:
    (desk.folder / "conf.d").mkdir(exist_ok=True)
    (desk.folder / "conf.d" / "images.txt").write_text("".join(f"{line}\n" for line in lines))


def mirrors(desk: Desk, target: str, to: str = "[hub, local]") -> None:
    desk.configure(
        f"settings: {{listen: '127.0.0.1:0'}}\ntargets: {{hub: {{kind: image, to: {target}/m}}}}\n"
        f"mirrors: [{{name: many, kind: image, from: {{list: images.txt}}, to: {to}}}]\n"
    )


async def test_skopeo_finds_every_image_under_its_name(desk: Desk) -> None:
    """Images of two real registries are at a third one and in `local`, byte by byte, where skopeo looks for them."""
    require("docker-registry", "skopeo")
    async with DockerRegistry() as one, DockerRegistry() as two, DockerRegistry() as target, DockerRegistry() as copy:
        images: dict[str, Image] = {}
        for registry, repository, tag in ((one, "team/web", "1.25"), (one, "team/db", "16"), (two, "tool", "v9")):
            images[f"{registry.host}/{repository}:{tag}"] = image = build_image(layer_size=5000, seed=repository)
            await push(image, registry.url, repository, [tag])
        listed(desk, *images)
        mirrors(desk, target.host)
        async with desk.serving() as daemon:
            (ran,) = await ControlClient(desk.folder / "state").carry_out(Sync())
            assert ran.result is Result.SUCCESS
            for number, (name, image) in enumerate(images.items()):
                path = name.replace(":", "_", 1)
                for place in (f"{target.host}/m/{path}", f"{daemon.address}/{path}"):
                    copied = await skopeo_copy(f"docker://{place}", f"docker://{copy.host}/n{number}:x")
                    assert copied.status == 0, copied.output
                    raw = await run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{place}")
                    assert raw.output.encode() == image.body
            (plan,) = await ControlClient(desk.folder / "state").carry_out(PlanMirrors())
            assert not plan.active


async def test_a_real_registry_is_mirrored_as_it_lists_itself(desk: Desk) -> None:
    """Globs over the list of a real registry: what it has is mirrored, what comes is found in the next run."""
    require("docker-registry")
    async with DockerRegistry() as source, DockerRegistry() as target:
        for name in ("team/web", "team/db", "other"):
            await push(small(name), source.url, name, ["v1"])
        desk.configure(
            f"settings: {{listen: '127.0.0.1:0'}}\ntargets: {{hub: {{kind: image, to: {target.host}/m}}}}\n"
            "mirrors: [{name: many, kind: image, to: hub, from: "
            f"{{registry: '{source.host}', repositories: ['team/*'], tags: ['v*']}}}}]\n"
        )
        assert (await desk.run("check")).status == 0
        assert (await desk.run("sync")).status == 0
        await push(small("new"), source.url, "team/new", ["v1"])
        said = await desk.run("sync", "--json")
        assert said.status == 0, said.err
        raw = await run("curl", "-s", f"{target.url}/v2/_catalog")
        called = source.host.replace(":", "_")
        assert json.loads(raw.output)["repositories"] == [f"m/{called}/team/{app}" for app in ("db", "new", "web")]


async def fill(desk: Desk, source: Registry, target: Registry) -> set[str]:
    """Fill a registry, list all its tags, and return their places at the target."""
    names = [(f"app{app}", f"v{tag}") for app in range(APPS) for tag in range(TAGS)]
    for app, tag in names:
        await push(small(app + tag), source, app, [tag])
    listed(desk, *(f"{source.host}/{app}:{tag}" for app, tag in names))
    mirrors(desk, target.host, "hub")
    return {f"/v2/m/{source.host.replace(':', '_')}/{app}/manifests/{tag}" for app, tag in names}


def named(target: Registry, called: str) -> set[str]:
    """Return the tags that a target has, as places."""
    return {f"/v2/{name}/manifests/{tag}" for name, tags in target.tags.items() for tag in tags if called in name}


def puts(target: Registry) -> Iterator[str]:
    """Yield where manifests were put since the last call of `forget`."""
    return (one.path for one in target.log if one.method == "PUT" and "/manifests/" in one.path)


async def test_after_a_kill_only_what_is_missing_is_copied(desk: Desk) -> None:
    """Kill -9 in the middle: the next run pushes no tag again, and reads content of missing ones only."""
    async with Registry() as source, Registry() as target:
        places = await fill(desk, source, target)
        crashed = await desk.run("sync", MIRRORD_FAILPOINTS="push.tag=exit:30")
        assert crashed.status == CRASH_STATUS, crashed
        before = named(target, "app")
        assert 30 <= len(before) < len(places)
        source.forget()
        target.forget()
        again = await desk.run("sync")
        assert again.status == 0, again.err
        assert {*puts(target)} == places - before
        assert source.count("GET", "/manifests/") == len(places - before)
        assert named(target, "app") == places
        await _nothing_left(desk, source, target, places)


async def test_a_run_that_was_stopped_goes_on(desk: Desk) -> None:
    """SIGTERM in the middle: what was copied is recorded, so that the next run asks the target for the rest only."""
    async with Registry() as source, Registry() as target:
        places = await fill(desk, source, target)
        held = target.faults.on("PUT", "/manifests/", times=None, skip=30).hold()
        async with desk.started("sync") as process:
            await held.reached.wait()
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 30)
        target.faults.clear()
        before = named(target, "app")
        assert 20 <= len(before) < len(places)
        source.forget()
        target.forget()
        again = await desk.run("sync")
        assert again.status == 0, again.err
        assert {*puts(target)} == places - before
        assert named(target, "app") == places
        await _nothing_left(desk, source, target, places)


async def _nothing_left(desk: Desk, source: Registry, target: Registry, places: Collection[str]) -> None:
    """Look whether a further run costs one HEAD a tag at the source, and nothing at the target."""
    source.forget()
    target.forget()
    assert (await desk.run("sync")).status == 0
    assert target.log == []
    assert sorted(one.method for one in source.log) == ["HEAD"] * len(places)
