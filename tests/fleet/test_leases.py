"""One run of a mirror at a time: in one process, and among replicas that share a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from mirrord.errors import BusyError, FencedError, StorageError
from mirrord.events import Event
from mirrord.model.remote import LeaseLost, LeaseTakenOver, RunElsewhere
from mirrord.record.fleet import Fleet, Pace
from mirrord.record.fleet_database import open_shared, stopped_when_cancelled
from mirrord.record.leases import OwnLeases, RunLease, RunLeases
from tests.support.fleets import ALIVE, QUICK, FleetWorld, join, until

Open = Callable[[], AbstractAsyncContextManager[RunLeases]]


@pytest.fixture(params=["own", "fleet"])
async def leases(request: pytest.FixtureRequest) -> AsyncIterator[RunLeases]:
    """Each implementation of the port."""
    if request.param == "own":
        yield OwnLeases()
    else:
        world = await FleetWorld.made(request.getfixturevalue("postgres"))
        async with world.replica("a") as fleet:
            yield fleet


async def _held(leases: RunLeases, mirror: str, log: list[Any], end: asyncio.Event) -> None:
    async with leases.hold(mirror) as lease:
        log.append(lease.mirror)
        await leases.check(lease)
        await end.wait()
    log.append(None)


async def test_one_at_a_time(leases: RunLeases) -> None:
    """Whoever comes second waits, in order of arrival; other mirrors do not."""
    log, end, never = list[Any](), asyncio.Event(), asyncio.Event()
    never.set()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(_held(leases, "one", log, end))
        await until(lambda: log)
        group.create_task(_held(leases, "one", log, never))
        await _held(leases, "two", log, never)
        assert log == ["one", "two", None]
        assert "one" in leases
        assert "two" not in leases
        assert await leases.busy("one")
        assert not await leases.busy("two")
        end.set()
    assert log == ["one", "two", None, None, "one", None]
    assert "one" not in leases


async def test_it_ends_with_its_block(leases: RunLeases) -> None:
    """An error or a cancellation of the block lets go of the lease, and is raised as it was."""
    with pytest.raises(KeyError):
        async with leases.hold("one"):
            raise KeyError
    task = asyncio.create_task(_held(leases, "one", [], asyncio.Event()))
    await until(lambda: "one" in leases)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(10), leases.hold("one"):
        pass


@asynccontextmanager
async def _two(world: FleetWorld, pace: Pace = QUICK) -> AsyncIterator[tuple[Fleet, Fleet]]:
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(world.replica("a", pace=pace)),
            await stack.enter_async_context(world.replica("b", pace=pace)),
        )


async def test_among_replicas(fleet_world: FleetWorld) -> None:
    """Two replicas never have one mirror at once; the fence grows with each lease, and nothing is doubtful."""
    at_once, most, fences = 0, 0, list[int]()

    async def run(fleet: Fleet) -> None:
        nonlocal at_once, most
        async with fleet.hold("m") as lease:
            at_once += 1
            most = max(most, at_once)
            fences.append(lease.fence)
            assert not lease.doubtful
            await fleet.check(lease)
            await asyncio.sleep(0)
            at_once -= 1

    async with _two(fleet_world, Pace()) as both, asyncio.timeout(60):  # on a busy machine nobody counts as dead
        await asyncio.gather(*(run(fleet) for fleet in both for _ in range(3)))
    assert most == 1
    assert fences == sorted(set(fences))
    assert len(fences) == 6


async def test_kept_for_as_long_as_it_takes(fleet_world: FleetWorld) -> None:
    """A run of many times the length of a lease keeps it by signs of life; another replica waits."""
    async with _two(fleet_world) as (one, two):
        async with one.hold("m") as lease:
            log = list[Any]()
            other = asyncio.create_task(_held(two, "m", log, asyncio.Event()))
            for _ in range(4):
                await asyncio.sleep(QUICK.stale)
                await one.check(lease)
            assert log == []
        await until(lambda: log)
        other.cancel()


async def test_taken_over(fleet_world: FleetWorld) -> None:
    """Without a sign of life another one takes over and trusts nothing; the late one is fenced, and asks for a run."""
    again, told = list[str](), list[Event]()

    async def lost(mirror: str) -> bool:
        again.append(mirror)
        return len(again) > 1

    async with fleet_world.replica("a", beating=False) as late, fleet_world.replica("b") as other:
        late.lost = lost
        late.emit = other.emit = told.append
        with pytest.raises(FencedError, match="another replica runs it"):  # noqa: PT012 - the block is what ends
            async with late.hold("m") as old:
                async with asyncio.timeout(30), other.hold("m") as new:
                    assert new.fence > old.fence
                    assert new.doubtful
                    await other.check(new)
                with pytest.raises(FencedError):
                    await late.check(old)
                signing = asyncio.create_task(late.sign())
                await asyncio.sleep(30)
        await signing
        for _ in range(3):
            await late.sign()
        assert again == ["m"] * 2  # until it was told in vain no longer
        assert told.pop(0) == RunElsewhere("m", "a")  # for whom it waits
        async with other.hold("m") as later:
            assert later.doubtful
        leases = [event for event in told if not isinstance(event, RunElsewhere)]
        assert leases == [LeaseTakenOver("m"), LeaseLost("m")]  # each once


async def test_fenced_by_its_own_look(fleet_world: FleetWorld) -> None:
    """A block that finds by itself that its lease was lost: its mirror runs again at once, and trusts nothing.

    That is so when the block has ended, however long after the lease was taken over, and also when its replica ends.
    """
    sql, again = fleet_world.postgres.sql, list[str]()

    async def lost(mirror: str) -> bool:
        again.append(mirror)
        return True

    async def doubtful(fleet: Fleet) -> bool:
        async with fleet.hold("m") as lease:
            return lease.doubtful

    async def fenced(late: Fleet, other: Fleet) -> None:
        late.lost = lost
        with pytest.raises(FencedError):  # noqa: PT012 - the block is what ends
            async with late.hold("m") as old:
                async with asyncio.timeout(30), other.hold("m"):
                    pass
                try:
                    await late.check(old)
                finally:
                    assert again == []
                    sql("UPDATE leases SET doubt = now() WHERE mirror = 'm'", database="mirrord")  # an hour later
        assert not await doubtful(other)

    async with fleet_world.replica("b") as other:
        async with fleet_world.replica("a", beating=False) as late:
            await fenced(late, other)
            await late.sign()
            assert again == ["m"]
            assert await doubtful(other)
            sql("UPDATE leases SET doubt = now()", database="mirrord")
            await late.sign()
            assert again == ["m"]
            assert not await doubtful(other)
            again.clear()
            await fenced(late, other)
        assert await doubtful(other)


async def test_a_replica_that_starts_again(fleet_world: FleetWorld) -> None:
    """What a killed process held is free when its replica starts again, before it counts as dead; it is doubtful."""
    async with fleet_world.replica("a", beating=False) as killed, AsyncExitStack() as stack:
        await stack.enter_async_context(killed.hold("m"))
        async with fleet_world.replica("a") as fresh, fresh.hold("m") as lease:
            assert lease.doubtful
            stack.pop_all()


async def test_a_cancelled_question(fleet_world: FleetWorld) -> None:
    """A task that is cancelled while it waits for a connection, and is handed one just then, ends."""
    async with open_shared(lambda: fleet_world.connect) as database:
        for _ in range(50):
            before = [asyncio.create_task(database.do("SELECT 1", {})) for _ in range(4)]
            waiting = asyncio.create_task(database.do("SELECT 1", {}))
            await asyncio.wait(before, return_when=asyncio.FIRST_COMPLETED)
            heard = waiting.cancel()
            await asyncio.wait([*before, waiting])
            assert waiting.cancelled() is heard


async def test_a_cancelled_block_that_fails() -> None:
    """A task that was cancelled ends so, also where something else is raised in place of that, and suppressed."""

    async def work() -> None:
        with suppress(ValueError), stopped_when_cancelled():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ValueError from None

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_the_database_starts_again(fleet_world: FleetWorld) -> None:
    """A lease outlives a restart of the database: whoever checks it meanwhile waits."""
    async with fleet_world.replica("a") as fleet, fleet.hold("m") as lease:
        fleet_world.postgres.restart()
        await fleet.check(lease)
        assert lease == RunLease("m", lease.fence)


async def test_who_is_there(fleet_world: FleetWorld) -> None:
    """Replicas see each other, what each runs, who leads and who has died; one that ends in good order is gone."""
    running = {"m": {"trigger": "schedule"}}
    async with fleet_world.replica("b", running=running, pace=ALIVE) as two:
        async with fleet_world.replica("a", beating=False, pace=ALIVE) as one:
            found = await two.replicas()
            assert [(each.replica, each.alive, each.running) for each in found] == [
                ("a", True, {}),
                ("b", True, {"m": {"trigger": "schedule"}}),
            ]
            assert found[0].boot == one.me.boot
            async with two.hold("~lead"):
                assert [each.leads for each in await two.replicas()] == [False, True]
            assert [each.leads for each in await two.replicas()] == [False, False]
            one.me = replace(one.me, configuration=lambda: "1a2b")
            await one.sign()
            assert [each.configuration for each in await two.replicas()] == ["1a2b", ""]
            sql = fleet_world.postgres.sql
            for age, alive in (("1 hour", [False, True]), ("25 hours", [True])):
                sql(f"UPDATE replicas SET seen = now() - interval '{age}' WHERE replica = 'a'", database="mirrord")
                assert [each.alive for each in await two.replicas()] == alive
            await one.sign()
        assert [each.replica for each in await two.replicas()] == ["b"]


async def test_a_lease_that_could_not_be_released(fleet_world: FleetWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends like that of a dead replica, although its replica gives signs of life."""
    async with fleet_world.replica("a") as one, fleet_world.replica("b") as two:
        do = type(one.database).do

        async def away(self: Any, statement: str, *rest: Any, **more: Any) -> Any:
            if "SET boot = ''" in statement:
                raise StorageError("the record cannot be reached")
            return await do(self, statement, *rest, **more)

        with monkeypatch.context() as patched:
            patched.setattr(type(one.database), "do", away)
            async with one.hold("m"):
                pass
        async with asyncio.timeout(10 * QUICK.stale), two.hold("m") as lease:
            assert lease.doubtful


async def test_leaving_frees_what_is_left(fleet_world: FleetWorld) -> None:
    """A replica that ends holds nothing up, not even by a lease that it could not release; that one is doubtful."""
    patient = Pace(beat=0.2, stale=3600, sweep=0.3)
    async with join("b", fleet_world.connect, patient) as two, AsyncExitStack() as stack:
        async with join("a", fleet_world.connect, patient) as one:
            await stack.enter_async_context(one.hold("m"))
        async with asyncio.timeout(30), two.hold("m") as lease:
            assert lease.doubtful
        stack.pop_all()


async def test_a_copy_of_a_replica(fleet_world: FleetWorld) -> None:
    """A process that has the name of a living replica does not begin, and takes nothing from it."""
    pace = replace(ALIVE, beat=2.0)  # who is late by two of them counts as ended
    async with fleet_world.replica("a", pace=pace) as one, one.hold("m") as lease:
        with pytest.raises(BusyError, match="remove the file `replica` of the copy"):
            async with fleet_world.replica("a", pace=pace):
                pass
        await one.check(lease)
        [seen] = await one.replicas()
        assert seen.boot == one.me.boot
