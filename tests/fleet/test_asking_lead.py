"""The replica that copies for people changes in mid-copy: an image is copied once, and its end is told once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mirrord.asking.asked import AskState
from mirrord.daemon.asked_elsewhere import AskedElsewhere
from mirrord.errors import FencedError
from mirrord.model.request import AskRecord
from mirrord.record.database import UnwritableError
from mirrord.testing import Registry, push
from mirrord.testing.faults import Fault
from tests.support.askfleet import AskedReplica, asked_replica, runs_of
from tests.support.asking import small
from tests.support.fleets import FleetWorld, until

IMAGE = small("a")
BLOBS = "team/a/blobs/"


@dataclass
class World:
    """Two registries, and replicas that copy from one to the other."""

    fleet: FleetWorld
    folder: Path
    source: Registry
    target: Registry
    stack: AsyncExitStack
    replicas: list[AskedReplica] = field(default_factory=list)

    @property
    def image(self) -> str:
        return f"{self.source.host}/team/a:v1"

    async def replica(self, limits: str = "") -> AskedReplica:
        section = f"{{to: [hub], allow: ['{self.source.host}/team/**'], limits: {{{limits}}}}}"
        targets = f"targets: {{hub: {{kind: image, to: {self.target.host}/m}}}}"
        folder = self.folder / str(len(self.replicas))
        opening = asked_replica(folder, self.fleet.postgres, section, targets)
        self.replicas.append(await self.stack.enter_async_context(opening))
        return self.replicas[-1]

    async def led(self, limits: str = "") -> tuple[AskedReplica, AskedReplica]:
        """Return one that leads, and another one."""
        first, other = await self.replica(limits), await self.replica(limits)
        await first.lead()
        return first, other

    def told(self) -> list[list[str]]:
        """Return what each replica told of images that ended."""
        return [[one.result for one in replica.ends] for replica in self.replicas]

    def holding(self, server: Registry, method: str, pattern: str) -> Fault:
        return server.faults.on(method, pattern).hold()


@pytest.fixture
async def world(fleet_world: FleetWorld, tmp_path: Path) -> AsyncIterator[World]:
    async with Registry() as source, Registry() as target, AsyncExitStack() as stack:
        await push(IMAGE, source, "team/a", ["v1"])
        yield World(fleet_world, tmp_path, source, target, stack)


async def begun(world: World, leads: AskedReplica) -> tuple[str, Fault]:
    """Ask, and return the id when a blob of the image is being read."""
    held = world.holding(world.source, "GET", BLOBS)
    asked = await leads.desk.ask(world.image, [], ["token a"])
    await held.reached.wait()
    return asked.id, held


async def test_who_led_before_copies_to_its_end(world: World) -> None:
    """Whoever leads now waits for that: not one request more at the source, one run, and one end."""
    before, now = await world.led()
    number, held = await begun(world, before)
    await before.resign()
    await now.lead()
    await now.copies()
    held.release()
    ended = await now.desk.wait(number)
    assert ended
    assert (ended.state, ended.copied) == (AskState.DONE, True)
    await until(lambda: not now.desk._runs._tasks)
    assert world.told() == [["copied"], []]
    assert world.source.count("GET", BLOBS) == len(IMAGE.blobs)
    assert await runs_of(now) == 1


@pytest.mark.parametrize("fails", [False, True], ids=["works", "fails"])
async def test_who_led_before_was_stopped(world: World, fails: bool) -> None:
    """Another one takes over when its time ran out; what the late one says, also that it failed, is not told."""
    before, now = await world.led()
    number, held = await begun(world, before)
    if fails:
        held.status(403)
    await before.halt()
    others = world.holding(world.target, "PUT", "manifests/v1")
    await now.lead()
    await others.reached.wait()  # the copy of the new one is about to end
    await now.fleet.insist()
    with pytest.raises(FencedError):
        await before.fleet.insist()
    held.release()
    await until(lambda: not before.runtime.runner.running())
    before.fleet.halted = False
    others.release()
    ended = [await replica.desk.wait(number) for replica in world.replicas]
    assert [one and (one.state, one.copied) for one in ended] == [(AskState.DONE, True)] * 2
    await until(lambda: not now.desk._runs._tasks)
    assert sorted(world.told()) == [[], ["copied"]]
    assert world.source.count("GET", BLOBS) <= 2 * len(IMAGE.blobs)


async def test_who_led_before_leads_again(world: World) -> None:
    """What it still copies is not copied beside that once more."""
    first, other = await world.led()
    number, held = await begun(world, first)
    await first.resign()
    await other.lead()
    await other.resign()
    await first.lead()
    held.release()
    ended = await other.desk.wait(number)
    assert ended
    assert (ended.state, ended.copied) == (AskState.DONE, True)
    await until(lambda: not first.desk._runs._tasks)
    assert sorted(world.told()) == [[], ["copied"]]
    assert world.source.count("GET", BLOBS) == len(IMAGE.blobs)
    assert await runs_of(first) == 1


async def test_an_end_that_could_not_be_noted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leads next finds that all is there, and tells it; the other one does not, when it can note it at last."""
    before, now = await world.led()
    store, lost, note = before.runtime.store, [True], before.runtime.store.note_asked

    async def noting(*requests: AskRecord) -> None:
        if lost[0] and requests[0].ended:
            raise UnwritableError("away")
        await note(*requests)

    monkeypatch.setattr(store, "note_asked", noting)
    number, held = await begun(world, before)
    held.release()
    await until(lambda: before.desk._runs._ends and not before.runtime.runner.running())
    await before.resign()
    waits = asyncio.create_task(now.desk.wait(number))  # before it has looked at the record by itself
    await now.lead()
    ended = await waits
    lost[0] = False
    again = await before.desk.wait(number)
    assert ended
    assert ended == again
    assert world.told() == [[], ["present"]]
    assert world.source.count("GET", BLOBS) == len(IMAGE.blobs)


HOSTILE = (
    "a" * 5000,
    "a/" * 290,
    "x\0y",
    "team/\x1b[31ma",
    "team/a\n:v1",
    "team/\ud800",
    "../../etc",
    "@sha256:00",
    "é",
    "",
)


async def test_hostile_names_at_one_that_does_not_lead(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is one sentence without a look at the record; many good ones at once share a look, and `waiting` holds."""
    _, other = await world.led("waiting: 5")
    looks, soon = [0], AskedElsewhere._soon

    async def counted(self: AskedElsewhere) -> None:
        looks[0] += 1
        await soon(self)

    monkeypatch.setattr(AskedElsewhere, "_soon", counted)
    source, desk = world.source, other.desk
    hostile = [f"{host}{name}" for name in HOSTILE for host in ("", f"{source.host}/")]
    found = await asyncio.gather(*(desk.ask(name, [], ["token a"]) for name in hostile * 10))
    assert {one.state for one in found} == {AskState.REFUSED}
    assert all(one.text.isprintable() and 0 < len(one.text) < 1000 for one in found), [one.text for one in found]
    assert (looks[0], source.count("*")) == (0, 0)
    asking = (desk.ask(f"{source.host}/team/a:v{n}", [], ()) for n in range(200))
    reasons = [one.reason for one in await asyncio.gather(*asking)]
    assert reasons.count("full") == 195
    assert looks[0] <= 2
