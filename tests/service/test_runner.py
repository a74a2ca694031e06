"""Who runs when: overlap, deadlines, bugs, reloads, the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, cast

import pytest
from pydantic import BaseModel

from mirrord.config.load import Configuration
from mirrord.daemon import runner
from mirrord.daemon.runner import Runner
from mirrord.daemon.runtime import Snapshot
from mirrord.errors import BusyError, UsageError
from mirrord.events import Event, Events, RunFinished, RunSkipped, RunStarted
from mirrord.model.plan import Plan
from mirrord.model.run import Result
from mirrord.names.denied import Denied, DeniedEntry
from mirrord.report import health
from mirrord.report.health import Health
from mirrord.syncer.values import Mirror, Publication, Services, Target
from mirrord.wire.secret import Secret
from tests.support.double import syncer_of
from tests.support.store import MemoryStore

CANARY = Secret("canary-51c0ffee")
NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Nothing(BaseModel):
    pass


class Connections:
    closed = False

    async def aclose(self) -> None:
        self.closed = True


class GatedSyncer:
    """Surveys when its gate is open; `deaf` swallows that many cancellations."""

    kind = "gated"
    spec = target_spec = Nothing

    def __init__(self) -> None:
        self.gate, self.entered = asyncio.Event(), asyncio.Semaphore(0)
        self.deaf, self.now, self.most, self.bug = 0, 0, 0, False
        self.seen: list[Services] = []

    def places(self, mirror: Mirror) -> tuple[str, Mapping[str, str]]:
        return "here", {}

    async def survey(self, mirror: Mirror, services: Services, memory: object, now: datetime) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.seen.append(services)
        self.entered.release()
        try:
            while not self.gate.is_set():
                try:
                    await self.gate.wait()
                except asyncio.CancelledError:
                    if not self.deaf:
                        raise
                    self.deaf -= 1
            if self.bug:
                raise RuntimeError(f"unexpected {CANARY.reveal()}")
        finally:
            self.now -= 1

    def plan(self, mirror: Mirror, survey: None, now: datetime) -> Plan:
        return Plan(mirror.name, "gated", now)

    def open(self, mirror: Mirror, plan: Plan, services: Services) -> Any:
        class Open:
            read = 0

            async def __aenter__(self) -> Self:
                return self

            async def __aexit__(self, *error: object) -> None:
                return None

        return Open()


@dataclass
class House:
    """A runner over doubles."""

    deadline: float = 3600.0
    syncer: GatedSyncer = field(default_factory=GatedSyncer)
    store: MemoryStore = field(default_factory=MemoryStore)
    events: Events = field(default_factory=Events)
    heard: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.events.listen(self.heard.append)
        self.snapshot = self.fresh("m", "n")
        self.runner = Runner(lambda: self.snapshot, self.store, self.events, lambda: NOW, grace=0.0)

    def fresh(self, *names: str) -> Snapshot:
        target = Target("t", "gated", "t", Nothing())
        mirrors = tuple(Mirror(name, "gated", Nothing(), (target,), deadline=self.deadline) for name in names)
        services = Services(Connections(), None, self.events, Path())  # type: ignore[arg-type]  # doubles, never called
        return Snapshot(Configuration(mirrors=mirrors), {"gated": syncer_of(self.syncer)}, services)

    def closed(self, snapshot: Snapshot) -> bool:
        return cast("Connections", snapshot.services.http).closed

    def count(self, kind: type[Any]) -> int:
        return sum(isinstance(event, kind) for event in self.heard)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    yield made
    made.syncer.gate.set()
    await made.runner.stop(5)


async def until(truth: Callable[[], object]) -> None:
    """Let the loop turn until something holds."""
    async with asyncio.timeout(20):
        while not truth():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0)


async def test_ticks_do_not_overlap(house: House) -> None:
    """Ticks that find their mirror running start nothing and say so; other mirrors are not held up (fault F32)."""
    for name in ("m", "m", "m", "n"):
        await house.runner.tick(name)
    await until(lambda: house.syncer.now == 2)
    assert [event for event in house.heard if isinstance(event, RunSkipped)] == [RunSkipped("m", "overlap")] * 2
    assert sorted(house.runner.running()) == ["m", "n"]
    house.syncer.gate.set()
    await until(lambda: not house.runner.running())
    await house.runner.tick("m")
    await until(lambda: house.count(RunFinished) == 3)
    assert house.count(RunStarted) == 3


async def test_no_tick_starts_what_was_taken_down(house: House) -> None:
    """The schedule passes over a mirror that was taken down, quietly, and runs it again after a lift."""
    house.syncer.gate.set()
    house.snapshot.deny(Denied([DeniedEntry(1, "ticket 4711", mirror="m")]))
    for name in ("m", "n"):
        await house.runner.tick(name)
    await until(lambda: house.count(RunFinished))
    assert [event.mirror for event in house.heard if isinstance(event, RunStarted | RunSkipped)] == ["n"]
    house.snapshot.deny(Denied())
    await house.runner.tick("m")
    await until(lambda: house.count(RunFinished) == 2)
    assert [event.mirror for event in house.heard if isinstance(event, RunStarted)] == ["n", "m"]


async def test_sync_waits_its_turn(house: House) -> None:
    """Who asks while the mirror runs gets a run of their own, afterwards: never two at once, never a stale answer."""
    asked = [asyncio.create_task(house.runner.sync("m")) for _ in range(3)]
    await house.syncer.entered.acquire()
    assert house.syncer.now == 1
    house.syncer.gate.set()
    runs = await asyncio.gather(*asked)
    assert [run.result for run in runs] == [Result.NOOP] * 3
    assert house.syncer.most == 1
    assert len(await house.store.runs("m")) == 3


async def test_unknown_mirror(house: House) -> None:
    """An unknown mirror is a mistake of whoever asks, with a suggestion."""
    with pytest.raises(UsageError, match="no mirror is called 'mm'; did you mean m"):
        await house.runner.sync("mm")
    with pytest.raises(UsageError, match="cannot be published to"):
        await house.runner.publish("m", Publication("x", ("v1",)))


async def test_deadline() -> None:
    """A run past its deadline is cancelled and counts as a failure; the next one may start."""
    house = House(deadline=0.02)
    run = await house.runner.sync("m")
    assert (run.result, run.code) == (Result.FAILED, "deadline")
    assert "raise it" in run.error
    assert (await house.store.standing())[0].failures == 1
    assert house.runner.overdue() == ()
    house.syncer.gate.set()
    house.deadline = 3600.0
    house.snapshot = house.fresh("m")
    assert (await house.runner.sync("m")).result is Result.NOOP


async def test_cancel(house: House) -> None:
    """The run under way ends as interrupted, for whoever waits for it, too; one that waits begins, and others go on."""
    first, other = [asyncio.create_task(house.runner.sync(name)) for name in "mn"]
    await until(lambda: house.syncer.now == 2)
    second = asyncio.create_task(house.runner.sync("m"))
    [run] = await house.runner.cancel("m")
    assert await first is run
    assert (run.result, run.code) == (Result.INTERRUPTED, "interrupted")
    assert "mirrord cancel" in run.error
    assert [(one.result, one.error) for one in await house.store.runs("m")] == [(run.result, run.error)]
    await until(lambda: house.syncer.now == 2)
    house.syncer.gate.set()
    assert [one.result for one in await asyncio.gather(second, other)] == [Result.NOOP] * 2
    assert await house.runner.cancel("m") == []


async def test_cancel_what_does_not_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that does not end when it is cancelled is said so, each time, and nobody waits for it for ever."""
    monkeypatch.setattr(runner, "CANCEL", 0.02)
    house.syncer.deaf = 1
    asked = asyncio.create_task(house.runner.sync("m"))
    await until(lambda: house.syncer.now)
    for _ in range(2):
        with pytest.raises(BusyError, match="m: its run was cancelled, and has not ended"):
            await house.runner.cancel("m")
    house.syncer.gate.set()
    assert (await asked).result is Result.NOOP


async def test_cancel_past_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is ending at its deadline keeps that reason when somebody cancels it meanwhile."""
    house, cut = House(deadline=0.5), list[int]()  # it must have begun to survey by then

    async def ending(*_: object) -> None:
        try:
            await house.syncer.gate.wait()
        finally:
            cut.append(len(house.runner.cut("m")))

    monkeypatch.setattr(house.syncer, "survey", ending)
    house.snapshot = house.fresh("m")
    assert "deadline" in (await house.runner.sync("m")).error
    assert cut == [1]


async def test_live_fails_only_when_cancelling_fails() -> None:
    """While a cancelled run will not end `/livez` fails and names it; as soon as it has ended all is well again."""
    house = House(deadline=0.5)  # it must have begun to survey by then
    house.syncer.deaf = 1
    asked = asyncio.create_task(house.runner.sync("m"))
    await until(lambda: not house.syncer.deaf)
    await until(house.runner.overdue)
    verdict = health.live(Health(overdue=house.runner.overdue()))
    assert not verdict.good
    assert verdict.reason.endswith("at the deadline: m")
    house.syncer.gate.set()
    await asked
    assert health.live(Health(overdue=house.runner.overdue())).good


async def test_bug_in_a_syncer(house: House) -> None:
    """What no syncer may raise ends its run as failed, and nothing else."""
    house.syncer.bug = True
    house.syncer.gate.set()
    run = await house.runner.sync("m")
    assert CANARY.reveal() not in run.error
    assert (run.result, run.code) == (Result.FAILED, "error")
    assert "unexpected ***" in run.error
    assert [entry.code for entry in await house.store.runs("m")] == ["error"]
    assert house.count(RunFinished) == 1
    house.syncer.bug = False
    assert (await house.runner.sync("m")).result is Result.NOOP


async def test_broken_record(house: House) -> None:
    """When the record cannot be written to the run fails and says so; nothing hangs, and later runs may work."""
    house.syncer.gate.set()
    house.store.broken = "mirrord.db: disk full"
    run = await house.runner.sync("m")
    assert (run.code, run.error) == ("storage", "mirrord.db: disk full")
    assert house.count(RunFinished) == 1
    house.store.broken = ""
    assert (await house.runner.sync("m")).result is Result.NOOP


async def test_old_connections_live_as_long_as_their_runs(house: House) -> None:
    """A run keeps the services with which it began; they are closed when the last such run has ended."""
    old = house.snapshot
    asked = asyncio.create_task(house.runner.sync("m"))
    await house.syncer.entered.acquire()
    house.snapshot = house.fresh("m")
    await old.retire()
    assert not house.closed(old)
    house.syncer.gate.set()
    await asked
    assert house.closed(old)
    await house.runner.sync("m")
    assert [services.http is old.services.http for services in house.syncer.seen] == [True, False]
    assert not house.closed(house.snapshot)


async def test_stop_waits_then_cancels(house: House) -> None:
    """Stopping refuses new work, lets runs end, and cancels those that do not; they are recorded as interrupted."""
    asked = [asyncio.create_task(house.runner.sync("m")) for _ in range(2)]
    await house.syncer.entered.acquire()
    assert await house.runner.stop(0.02)
    ends = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError | BusyError) for end in ends)
    assert [entry.result for entry in await house.store.runs("m")] == [Result.INTERRUPTED]
    with pytest.raises(BusyError):
        await house.runner.sync("m")
    await house.runner.tick("n")
    assert house.heard[-1] == RunSkipped("n", "stopping")


async def test_progress(house: House) -> None:
    """What runs can be seen, with who asked for it."""
    asked = asyncio.create_task(house.runner.sync("m", "start"))
    await house.syncer.entered.acquire()
    assert house.runner.running()["m"].trigger == "start"
    house.syncer.gate.set()
    await asked


@pytest.mark.parametrize("turns", range(4))
async def test_the_end_does_not_wait_for_a_lease(house: House, turns: int) -> None:
    """A run that waits, or begins to, while somebody else has the mirror ends at once, and can be asked for again."""
    async with house.runner.leases.hold("m"), asyncio.timeout(30):
        waiting = asyncio.create_task(house.runner.sync("m"))
        for _ in range(turns):
            await asyncio.sleep(0)
        assert await house.runner.stop(3600)
        with pytest.raises(BusyError):
            await waiting
    assert house.count(RunStarted) == 0
