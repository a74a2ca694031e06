"""Two mirrors share a layer, and one has a hostile source: whole runs, the healthy one from a real registry."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mirrord.blobs.source_queue import Patience
from mirrord.config.load import Configuration
from mirrord.daemon.runner import Runner
from mirrord.daemon.runtime import Snapshot
from mirrord.model.run import Result, Run
from mirrord.syncer.values import Mirror
from mirrord.syncers.image.syncer import SYNCER
from mirrord.testing import DockerRegistry, Fault, Image, Moment, Registry, build_image, push, require
from mirrord.testing.images import Builder
from tests.support.world import World, open_world

MIB = 1 << 20
QUICK = Patience(window=1.0)
"""The default but for the window: on a busy machine a healthy source may need a while for its first byte, too. If it
were put back for that, it would be asked a second time, or not again before the test ends."""


def image_of(seed: str) -> Image:
    """Return an image with the layer that all of them have, and a config of its own."""
    return build_image(["linux/amd64"], layers=1, layer_size=3 * MIB, seed=seed, shared_layers=1)


def claiming(size: int) -> Image:
    """Return an image whose manifest says that the common layer has so many bytes."""
    made, builder = image_of("evil"), Builder()
    builder.include(made)
    document = json.loads(made.body)
    document["layers"][0]["size"] = size
    return builder.image(builder.manifest(document))


GOOD = image_of("good")
LAYER = GOOD.layers[0]


class House:
    """The runner over a world: two mirrors, each with its own source and target."""

    def __init__(self, world: World, evil: Registry, good: DockerRegistry) -> None:
        self.world, self.evil, self.good = world, evil, good
        self.runner: Runner

    async def configure(self) -> None:
        mirrors = [await self._mirror("evil", self.evil.host), await self._mirror("good", self.good.host)]
        syncers = {"image": SYNCER}
        snapshot = Snapshot(Configuration(mirrors=tuple(mirrors)), syncers, self.world.services)
        self.runner = Runner(lambda: snapshot, self.world.store, self.world.services.events, lambda: self.world.now)

    async def _mirror(self, name: str, host: str) -> Mirror:
        target = await self.world.registry(f"{name}-target")
        return self.world.mirror({"repository": f"{host}/team/{name}:main"}, target, name=name)

    async def both(self) -> tuple[Run, Run]:
        """Run both; the healthy one begins when the hostile source was asked for the common layer."""
        async with asyncio.timeout(60):
            first = asyncio.create_task(self.runner.sync("evil"))
            await self.evil.wait(Moment.STARTED, "GET", LAYER)
            good = await self.runner.sync("good")
            return await first, good

    def asked(self) -> int:
        """Count how often the real registry was asked for the common layer."""
        return sum(hit.method == "GET" and LAYER in hit.path for hit in self.good.hits())


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    require("docker-registry")
    async with (
        open_world(tmp_path, patience=QUICK) as world,
        DockerRegistry(access_log=True) as good,
        contextlib.AsyncExitStack() as stack,
    ):
        await push(GOOD, good.url, "team/good", ["main"])
        made = House(world, await world.registry("evil-source"), good)
        await push(image_of("evil"), made.evil, "team/evil", ["main"])
        await made.configure()
        stack.push_async_callback(made.runner.stop, 5)
        stack.callback(made.evil.faults.clear)
        yield made


def of_layer(house: House) -> Fault:
    return house.evil.faults.on("GET", LAYER, times=None)


async def test_a_dripping_source_holds_up_nobody_else(house: House) -> None:
    """At 2 KB/s, above the floor, a shared layer would take hours: the healthy mirror goes on by its own source."""
    of_layer(house).drip(2048)
    evil, good = await house.both()
    assert (good.result, good.error) == (Result.SUCCESS, ""), good.receipts
    assert house.asked() == 1
    assert house.evil.sent(LAYER) < MIB
    assert evil.result is Result.SUCCESS, evil.receipts
    assert house.evil.count("GET", LAYER) == 1


async def test_a_source_that_delivers_is_asked_once_for_both(house: House) -> None:
    """Two mirrors with one layer: one GET of it in all."""
    fault = house.evil.faults.on("GET", LAYER).hold()
    first = asyncio.create_task(house.runner.sync("evil"))
    async with asyncio.timeout(60):
        await fault.reached.wait()
        fault.release()
        runs = [await first, await house.runner.sync("good")]
    assert [run.result for run in runs] == [Result.SUCCESS] * 2
    assert (house.evil.count("GET", LAYER), house.asked()) == (1, 0)


ERRORS: dict[str, Callable[[Fault], Fault]] = {
    "404": lambda fault: fault.status(404),
    "403": lambda fault: fault.status(403),
    "500": lambda fault: fault.status(500),
    "reset": lambda fault: fault.close(),
    "cut": lambda fault: fault.truncate(100_000),
    "wrong bytes": lambda fault: fault.corrupt(70_000),
    "redirect to metadata": lambda fault: fault.redirect("http://169.254.169.254/latest/meta-data/"),
    "other length": lambda fault: fault.header("Content-Length", "12345"),
}


@pytest.mark.parametrize("wrong", ERRORS)
async def test_an_error_is_its_own_mirror_s(house: House, wrong: str) -> None:
    """Whatever a source does, the other mirror succeeds without a word of it; its own one is served or told why not."""
    ERRORS[wrong](of_layer(house))
    evil, good = await house.both()
    assert (good.result, good.error, good.receipts[0].detail) == (Result.SUCCESS, "", "main: 2 blobs sent")
    assert house.asked() == 1
    if evil.result is not Result.SUCCESS:
        said = evil.receipts[0].detail
        assert house.evil.host in said or "169.254.169.254" in said
        assert house.good.host not in said
    run = await house.runner.sync("evil")
    assert run.result in (Result.SUCCESS, Result.NOOP)  # the layer is in the spool by now


@pytest.mark.parametrize("factor", [10, 0.5], ids=["larger", "smaller"])
async def test_a_wrong_size_hurts_its_own_mirror_only(house: House, factor: float) -> None:
    """A manifest with another size for a layer that others have: they do not wait for it, and do not hear of it."""
    fault = of_layer(house).stall(MIB)
    await push(claiming(round(len(GOOD.blobs[LAYER]) * factor)), house.evil, "team/evil", ["main"])
    async with asyncio.timeout(60):
        first = asyncio.create_task(house.runner.sync("evil"))
        await house.evil.wait(Moment.STARTED, "GET", LAYER)
        good = await house.runner.sync("good")
        fault.release()
        evil = await first
    assert (good.result, good.error) == (Result.SUCCESS, ""), good.receipts
    assert house.asked() == 1
    assert evil.result is Result.FAILED
    assert house.evil.host in evil.receipts[0].detail or "as its descriptor says" in evil.receipts[0].detail
    assert house.good.host not in evil.receipts[0].detail
