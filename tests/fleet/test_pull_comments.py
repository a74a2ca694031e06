"""Replicas that publish builds of one pull request: ONE comment, which has the later build."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from mirrord.asking import built
from mirrord.config.load import load_folder
from mirrord.daemon import pull_desk
from mirrord.daemon.pull_desk import PullDesk
from mirrord.daemon.runtime import Runtime, open_runtime
from mirrord.events import Event, Events
from mirrord.model.remote import LeaseLost, LeaseTakenOver, RunElsewhere
from mirrord.model.run import Run
from mirrord.report.build import BuiltImage
from mirrord.syncer.values import Publication
from mirrord.testing import Registry
from mirrord.wire.forges.issues import IssueComment
from mirrord.wire.http.client import Http
from tests.support.askfleet import PACE, HaltedFleet
from tests.support.asking import SYNCERS, small
from tests.support.fleets import FleetWorld, until
from tests.support.layouts import write_layout
from tests.support.quickreplica import shared_record

LEASE = "~pulls github.com/acme/app"


@dataclass
class MemoryPulls:
    """The comments of a pull request; implements `PullComments` for all replicas.

    Attributes:
        comments: those that were written.
        held: of looks that do not end until `go`, when they were reached.
    """

    comments: list[IssueComment] = field(default_factory=list)
    held: list[asyncio.Event] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def login(self) -> str:
        return "bot"

    async def comments_of_pull(self, number: str) -> AsyncIterator[IssueComment]:
        assert number == "7"
        found = [*self.comments]
        if self.held:
            self.held.pop().set()
            await self.go.wait()
        for one in found:
            yield one

    async def comment_pull(self, number: str, body: str) -> None:
        assert number == "7"
        self.comments.append(IssueComment("bot", body, str(len(self.comments) + 1)))

    async def revise_in_pull(self, comment: str, body: str) -> None:
        self.comments[int(comment) - 1] = IssueComment("bot", body, comment)

    def hold(self) -> asyncio.Event:
        """Let the next look not end until `go`; return what is set when it has seen the comments."""
        self.held.append(asyncio.Event())
        return self.held[-1]

    def builds(self) -> list[str]:
        """Return the build of each comment."""
        return [next(build for build in ("aaaaaaa", "bbbbbbb") if build in one.body) for one in self.comments]


@dataclass
class Replica:
    """A replica that publishes, and tells pull requests.

    Attributes:
        lines: what it logs.
        events: what happened.
    """

    runtime: Runtime
    folder: Path
    lines: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.desk = PullDesk(self.runtime, lambda _, name, **__: self.lines.append(name))
        self.runtime.runner.after = self.after
        self.runtime.events.listen(self.events.append)

    async def after(self, run: Run) -> None:
        self.desk.built(run)

    async def publish(self, build: str) -> None:
        """Publish a build of pull request 7."""
        layout = write_layout(small(build), self.folder / build)
        await self.runtime.runner.publish("app", Publication(f"oci:{layout}", (f"pr-7-{build}", "pr-7")))

    @property
    def fleet(self) -> HaltedFleet:
        assert isinstance(self.runtime.fleet, HaltedFleet)
        return self.runtime.fleet


@dataclass
class World:
    """Two replicas, a registry and a forge."""

    one: Replica
    two: Replica
    target: Registry
    pulls: MemoryPulls

    async def told(self) -> None:
        """Wait until nothing is left to tell."""
        await self.one.desk.close(60)
        await self.two.desk.close(60)


@pytest.fixture
async def world(fleet_world: FleetWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    pulls, replicas = MemoryPulls(), list[Replica]()
    monkeypatch.setattr(pull_desk, "pull_comments_of", lambda *_: pulls)
    monkeypatch.setattr(pull_desk, "_PAUSE", 0.0)
    monkeypatch.setattr(pull_desk, "_TURN", 600.0)  # however busy the machine is
    monkeypatch.setattr("mirrord.daemon.replica.Fleet", partial(HaltedFleet, pace=PACE))
    async with Registry() as target, AsyncExitStack() as stack:
        for name in ("one", "two"):
            state, conf = tmp_path / name / "state", tmp_path / name / "conf.d"
            state.mkdir(parents=True)
            conf.mkdir()
            (conf / "a.yaml").write_text(
                f"settings: {{record: {shared_record(tmp_path / name, fleet_world.postgres)}}}\n"
                f"targets: {{hub: {{kind: image, to: {target.host}/team}}}}\n"
                "mirrors: [{name: app, kind: image, from: {layouts: /none}, to: hub}]\n"
                "pull_requests: {app: {forge: github, repository: acme/app, token: {env: T}, mirrors: app}}\n"
            )
            read = await asyncio.to_thread(load_folder, conf, SYNCERS, {"T": "a-token-of-the-test-0123456789"})
            opening = open_runtime(read, SYNCERS, state, Events())
            replicas.append(Replica(await stack.enter_async_context(opening), tmp_path / name))
        world = World(replicas[0], replicas[1], target, pulls)
        yield world
        await world.told()


async def test_both_at_once(world: World) -> None:
    """Who comes second waits for whoever has looked and not written yet; the comment has the second one's build."""
    looked = world.pulls.hold()
    await world.one.publish("aaaaaaa")
    await looked.wait()
    await world.two.publish("bbbbbbb")
    await until(lambda: LEASE in world.two.runtime.runner.leases or world.pulls.comments)
    world.pulls.go.set()
    await world.told()
    assert world.pulls.builds() == ["bbbbbbb"]
    assert world.one.lines == world.two.lines == ["pull_request.commented"]
    told = [*world.one.events, *world.two.events]
    assert not any(isinstance(one, RunElsewhere | LeaseLost | LeaseTakenOver) for one in told)  # it is no mirror


async def test_the_earlier_build_is_late(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What took long to look for its images writes nothing over the later build."""
    reached, go, look_for = asyncio.Event(), asyncio.Event(), built.look_for

    async def late(http: Http, images: Sequence[BuiltImage], tell: Callable[[str], None]) -> Sequence[BuiltImage]:
        if "aaaaaaa" in str(images[0].reference):
            reached.set()
            await go.wait()
        return await look_for(http, images, tell)

    monkeypatch.setattr(pull_desk, "look_for", late)
    await world.one.publish("aaaaaaa")
    await reached.wait()
    await world.two.publish("bbbbbbb")
    await world.two.desk.close(60)
    go.set()
    await world.told()
    assert world.pulls.builds() == ["bbbbbbb"]
    assert (world.one.lines, world.two.lines) == ([], ["pull_request.commented"])


async def test_who_looked_was_stopped(world: World, fleet_world: FleetWorld) -> None:
    """One that goes on after its lease has ended writes nothing of what it saw then."""
    looked = world.pulls.hold()
    await world.one.publish("aaaaaaa")
    await looked.wait()
    await world.one.fleet.halt()
    fleet_world.postgres.sql(
        f"UPDATE leases SET until = now() - interval '1 s' WHERE mirror = '{LEASE}'", database="mirrord"
    )
    await world.two.publish("bbbbbbb")
    await world.two.desk.close(60)
    world.pulls.go.set()
    await world.told()
    assert world.pulls.builds() == ["bbbbbbb"]
    assert (world.one.lines, world.two.lines) == (["pull_request.failed"], ["pull_request.commented"])


async def test_another_replica_takes_too_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The publish has ended long before; each attempt waits for so long, and then the comment is left."""
    monkeypatch.setattr(pull_desk, "_TURN", 0.05)
    async with world.two.runtime.runner.leases.hold(LEASE):
        await world.one.publish("aaaaaaa")
        await world.one.desk.close(60)
    assert world.one.lines == ["pull_request.failed"] * pull_desk.ATTEMPTS
    assert world.pulls.comments == []
