"""Names in `local` and in layouts, set for many images at once: what that costs, and what it must not change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from mirrord.blobs.disk import DiskStore
from mirrord.errors import StorageError
from mirrord.files import nothing
from mirrord.model.digest import Digest
from mirrord.model.plan import Action, Step
from mirrord.model.run import Outcome, Receipt, Result
from mirrord.syncer.values import LOCAL, NoLedger
from mirrord.syncers.image.transfer import waiting
from mirrord.syncers.image.transfer.publishing import Names, Whole
from mirrord.syncers.image.transfer.waiting import WaitingImages
from mirrord.testing import build_image, push
from mirrord.transfer.fanout import Delivery, Gate
from mirrord.wire.oci import layout_index, layout_writer
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.layout import INDEX, Layout
from mirrord.wire.oci.manifest import Manifest
from tests.support.world import World, open_world

TAGS = 120


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only numbers decide."""
    monkeypatch.setattr(waiting, "SOON", 3600.0)


async def test_many_tags_are_written_down_a_few_times(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Naming a tag costs a bounded share of what is written once: index, log and ledger grow as their content does."""
    source = await world.registry("source")
    image = build_image(["linux/amd64"], layers=1, layer_size=100)
    await push(image, source, "team/app", [f"v{number:03}" for number in range(TAGS)])
    written: list[int] = []
    replace = layout_index.replace_top

    def counted(path: Path, body: bytes) -> None:
        written.append(len(body))
        replace(path, body)

    intents: list[int] = []
    intend = world.store.intend

    async def intended(entries: Sequence[Any]) -> None:
        intents.append(len(entries))
        await intend(entries)

    monkeypatch.setattr(layout_writer, "replace_top", counted)
    monkeypatch.setattr(world.store, "intend", intended)
    from_ = {"repository": f"{source.host}/team/app", "tags": ["*"]}
    run = await world.run(world.mirror(from_, LOCAL, places={"out": f"oci:{world.folder}/out"}))
    assert run.result is Result.SUCCESS, run.receipts
    assert len(run.receipts) == len(run.plan.active if run.plan else ()) == 2 * TAGS
    final = (world.folder / "out" / "app" / INDEX).stat().st_size
    assert sum(written) <= (waiting.SHARE + 4) * final
    assert sum(intents) == 2 * TAGS
    assert len(intents) <= 2 * 40  # 8 ln 120 is 38
    assert len(Layout.open(world.folder / "out" / "app").names()) == TAGS
    again = await world.run(world.mirror(from_, LOCAL, places={"out": f"oci:{world.folder}/out"}))
    assert again.result is Result.NOOP


async def test_what_is_brought_is_looked_for_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look at the disk says all that an image lacks there, and one more, for many together, that it came."""
    source = await world.registry("source")
    for number in range(20):
        image = build_image(["linux/amd64"], layers=2, layer_size=100, seed=f"{number}")
        await push(image, source, "team/app", [f"v{number}"])
    assert isinstance(world.services.blobs, DiskStore)
    missing, looks = world.services.blobs.missing, list[int]()

    async def looked(digests: Collection[Digest]) -> frozenset[Digest]:
        looks.append(len(digests))
        return await missing(digests)

    monkeypatch.setattr(world.services.blobs, "missing", looked)
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, LOCAL))
    assert run.result is Result.SUCCESS, run.receipts
    assert sum(looks) == 20 * (3 + 4)  # config and layers, then these and the manifest
    assert len(looks) <= 2 * 20


class Shelf:
    """A destination that only has names; `broken` digests cannot be named."""

    host, repository = "", "shelf"

    def __init__(self) -> None:
        self.tags: dict[str, Descriptor] = {}
        self.times: list[int] = []
        self.broken: set[str] = set()

    async def head_manifest(self, ref: str, deadline: float | None = None) -> Descriptor | None:
        """Look at the names."""
        assert deadline is None
        return self.tags.get(ref)

    async def publish(self, manifest: Manifest, names: Sequence[str]) -> None:
        """Set the names of one."""
        await self.publish_all([(manifest, names)])

    async def publish_all(self, images: Sequence[tuple[Manifest, Sequence[str]]]) -> None:
        """Set all or nothing."""
        self.times.append(len(images))
        if any(manifest.digest in self.broken for manifest, _ in images):
            raise StorageError("lost")
        self.tags |= {name: manifest.descriptor for manifest, names in images for name in names}


class Desk:
    """Somebody who lets images be named on a shelf."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.waiting = WaitingImages(cast("Any", self.shelf), NoLedger())
        self.receipts: list[Receipt] = []
        self.was: dict[str, str | None] = {}

    async def add(self, seed: str, *names: str, told: Callable[[], None] = nothing) -> Manifest:
        """Let an image wait for its names; `told` hears that it has them."""
        image = build_image(["linux/amd64"], layers=1, layer_size=10, seed=seed)
        manifest = Manifest.parse(image.body, image.media_type)
        step = Step(Action.COPY, seed, manifest.digest, "shelf", names, "because")

        def receipt(found: Names) -> Receipt:
            self.was |= {f"{seed} {name}": digest for name, digest in found.was.items()}
            told()
            return Receipt(step, Outcome.DONE)

        async def made() -> None:
            return None

        await self.waiting.add(Whole(manifest, step, made), receipt, Delivery(step, Gate(1, 0.0), self.receipts.append))
        return manifest


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    for number in range(waiting.SHARE):  # the first ones need not wait
        await made.add(f"early-{number}", f"early-{number}")
    assert len(made.receipts) == waiting.SHARE
    yield made
    await made.waiting.aclose()


async def test_a_receipt_comes_with_the_name(desk: Desk) -> None:
    """An image that waits has no receipt yet; at the end it has both, in the order in which images came."""
    await desk.add("one", "v1")
    assert "v1" not in desk.shelf.tags
    assert desk.receipts[-1].step.item != "one"
    await desk.waiting.settle()
    assert "v1" in desk.shelf.tags
    assert desk.receipts[-1].step.item == "one"


async def test_nobody_waits_long(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing else comes for a while, the next tick sets what waits."""
    monkeypatch.setattr(waiting, "SOON", 0.01)
    told = asyncio.Event()
    await desk.add("one", "v1", told=told.set)
    async with asyncio.timeout(20):
        await told.wait()
    assert "v1" in desk.shelf.tags


async def test_one_that_fails_hurts_no_other(desk: Desk) -> None:
    """Of images that are named together the one that cannot be is told so; the others have their names."""
    broken = build_image(["linux/amd64"], layers=1, layer_size=10, seed="bad")
    desk.shelf.broken.add(broken.digest)
    desk.waiting._named = 80  # so many that three more wait
    for seed in ("good", "bad", "fine"):
        await desk.add(seed, seed)
    desk.shelf.times.clear()
    await desk.waiting.settle()
    assert {one.step.item: one.outcome for one in desk.receipts[-3:]} == {
        "good": Outcome.DONE,
        "bad": Outcome.FAILED,
        "fine": Outcome.DONE,
    }
    assert desk.shelf.tags.keys() >= {"good", "fine"}
    assert desk.shelf.times == [3, 1, 1, 1]


async def test_a_name_that_comes_twice_is_asked_for_twice(desk: Desk) -> None:
    """Two images for one name: what it stands for is looked at for each of them, and the later one has it."""
    desk.waiting._named = 80
    first = await desk.add("first", "main")
    second = await desk.add("second", "main")
    await desk.waiting.settle()
    assert desk.was == desk.was | {"first main": None, "second main": first.digest}
    assert desk.shelf.tags["main"].digest == second.digest
