"""The queue of a fleet: what is due is run once, and by somebody else when its replica dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from procrastinate import PsycopgConnector

from mirrord.errors import StorageError
from mirrord.record.fleet import Fleet, Pace
from mirrord.record.fleet_database import SharedDatabase
from mirrord.record.queue import _LEFT, FleetQueue
from mirrord.testing.running import started
from tests.support.fleets import ALIVE, QUICK, FleetWorld, hurry, join, until
from tests.support.fleetworker import NAMES

CarryOut = Callable[[str, str], Awaitable[bool]]
ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def working(fleet: Fleet, carry_out: CarryOut, places: int = 4) -> AsyncIterator[FleetQueue]:
    """Open the queue at a replica, and take runs from it."""
    queue = FleetQueue(fleet, carry_out, places)
    await queue.open()
    tasks = [asyncio.create_task(work) for work in ((queue.work(), queue.sweep()) if places else ())]
    try:
        yield queue
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await queue.close()


async def nothing(_: str, __: str) -> bool:
    return True


async def ended_all(fleet: Fleet, number: int) -> bool:
    """Whether so many runs were deferred, and all of them have ended."""
    rows = await fleet.database.do("SELECT state, count(*) AS number FROM queued_runs GROUP BY state", {})
    return {row["state"]: row["number"] for row in rows} == {"ended": number}


async def test_a_server_without_room_for_the_queue(fleet_world: FleetWorld) -> None:
    """A start for which the server has too few connections ends with an error that says where to look."""
    async with join("one", fleet_world.connect, QUICK, beating=False) as fleet:
        hurry(fleet, 0.5)
        fleet_world.postgres.sql("ALTER ROLE mirrord CONNECTION LIMIT 1")
        try:
            with pytest.raises(StorageError, match="max_connections"):
                await FleetQueue(fleet, nothing, 1).open()
        finally:
            fleet_world.postgres.sql("ALTER ROLE mirrord CONNECTION LIMIT -1")


@pytest.mark.parametrize("number", [4, 40])
async def test_what_a_run_costs(fleet_world: FleetWorld, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A run costs 11 statements and one for each batch of names, however many others wait."""
    asked, execute = list[str](), psycopg.AsyncCursor.execute

    async def counted(self: Any, query: Any, *arguments: Any, **keywords: Any) -> Any:
        asked.append(str(query))
        return await execute(self, query, *arguments, **keywords)

    async with join("a", fleet_world.connect, Pace(beat=3600, sweep=3600), beating=False) as fleet:

        async def carry_out(mirror: str, _: str) -> bool:
            async with fleet.hold(mirror) as lease:
                for _batch in range(3):
                    await fleet.check(lease)
            return True

        async with working(fleet, carry_out) as queue:
            monkeypatch.setattr(psycopg.AsyncCursor, "execute", counted)
            await asyncio.gather(*(queue.defer(f"m{one}") for one in range(number)))
            await until(lambda: ended_all(fleet, number))
    ours = [one for one in asked if one and "count(*) AS number" not in one]
    assert sum("UPDATE leases SET until" in one for one in ours) == 3 * number
    assert len(ours) - 3 * number <= 11 * number + 25  # how a worker begins


async def test_once(fleet_world: FleetWorld) -> None:
    """Many replicas defer a mirror in one moment: it runs once, at one of them, and not again while it is quiet."""
    ran = list[tuple[str, str]]()

    async def carry_out(mirror: str, trigger: str) -> bool:
        ran.append((mirror, trigger))
        return True

    async with AsyncExitStack() as stack:
        queues = []
        for name in "abc":
            fleet = await stack.enter_async_context(fleet_world.replica(name, pace=ALIVE))
            queues.append(await stack.enter_async_context(working(fleet, carry_out)))
        deferred = await asyncio.gather(*(queue.defer("m", quiet=60) for queue in queues for _ in range(4)))
        assert deferred.count(True) == 1
        await until(lambda: ran)
        assert not any(await asyncio.gather(*(queue.defer("m", quiet=60) for queue in queues)))
        assert not await queues[0].overlaps("m", quiet=0)
        assert await queues[0].defer("m")
        await until(lambda: len(ran) == 2)
        assert ran == [("m", "schedule")] * 2


async def test_one_open_run_of_a_mirror(fleet_world: FleetWorld) -> None:
    """While a run waits or is under way its mirror is not deferred again; others are."""
    begun, end = list[str](), asyncio.Event()

    async def carry_out(mirror: str, _: str) -> bool:
        begun.append(mirror)
        await end.wait()
        return True

    async with fleet_world.replica("a", pace=ALIVE) as fleet, working(fleet, carry_out) as queue:
        assert await queue.defer("m")
        await until(lambda: begun)
        assert not await queue.defer("m")
        assert await queue.overlaps("m", quiet=0)
        assert not await queue.overlaps("m", quiet=60)  # it is the run of this very tick
        assert await queue.defer("other")
        end.set()
        await until(lambda: len(begun) == 2)


async def test_a_failure_blocks_nothing(fleet_world: FleetWorld) -> None:
    """A run that raises has ended: its mirror can be deferred again (procrastinate's issue 1543)."""
    ran = 0

    async def carry_out(_: str, __: str) -> bool:
        nonlocal ran
        ran += 1
        raise KeyError

    def reached(number: int) -> bool:
        return ran == number

    async with fleet_world.replica("a", pace=ALIVE) as fleet, working(fleet, carry_out) as queue:
        for number in (1, 2):
            await until(lambda: queue.defer("m"))
            await until(partial(reached, number))


async def test_the_end_while_the_database_is_away(fleet_world: FleetWorld) -> None:
    """A replica ends although the library of its queue would wait for half an hour; others take over what it had."""
    patient = replace(QUICK, stale=3600.0)
    async with asyncio.timeout(60) as limit, join("a", fleet_world.connect, patient) as fleet:
        async with working(fleet, nothing) as queue, fleet.hold("m"):
            await queue.defer("other")
            await until(lambda: ended_all(fleet, 1))
            jobs = "SELECT 1 FROM procrastinate_jobs"  # the library tells the end of one by itself
            await until(lambda: not fleet_world.postgres.sql(jobs, database="mirrord"))
            fleet_world.postgres.stop()
            connector = queue._app.connector
            assert isinstance(connector, PsycopgConnector)
            await connector.pool.check()  # no connection is left
        fleet_world.postgres.start()
    assert not limit.expired()


async def test_owed_while_the_database_is_away(fleet_world: FleetWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that cannot begin, or cannot be given back, is carried out when the database is there again."""
    monkeypatch.setattr("mirrord.record.queue._AGAIN", 0.1)
    server, tried = fleet_world.postgres, list[bool]()

    async def carry_out(mirror: str, _: str) -> bool:
        if not tried:
            hurry(fleet, 0.5)
            server.stop()
        try:
            async with fleet.hold(mirror):
                tried.append(True)
        except StorageError:
            tried.append(False)
            hurry(fleet, 30.0)
            asyncio.get_running_loop().call_later(2, server.start)  # it cannot be given back either
        return tried[-1]

    pace = replace(QUICK, stale=30.0)  # so long does the library of the queue wait for the database
    async with join("a", fleet_world.connect, pace) as fleet, working(fleet, carry_out) as queue:
        await queue.defer("m")
        await until(lambda: tried == [False, True])
        await until(lambda: ended_all(fleet, 1))


async def test_begun_during_a_sweep(fleet_world: FleetWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that begins while a sweep is under way, and perhaps waits for the database, does not count as over."""
    begun, end, do, deferred = asyncio.Event(), asyncio.Event(), SharedDatabase.do, list[bool]()

    async def carry_out(_: str, __: str) -> bool:
        begun.set()
        await end.wait()
        return True

    async with fleet_world.replica("a", pace=ALIVE) as fleet, working(fleet, carry_out) as queue:

        async def meanwhile(self: SharedDatabase, statement: str, *about: Any, **options: Any) -> list[dict[str, Any]]:
            found = await do(self, statement, *about, **options)
            if statement == _LEFT:
                if not deferred:
                    deferred.append(True)
                    await queue.defer("m")
                await begun.wait()
            return found

        monkeypatch.setattr(SharedDatabase, "do", meanwhile)
        await queue.sweep_once()
        assert await fleet.database.do("SELECT state FROM queued_runs", {}) == [{"state": "running"}]
        end.set()
        await until(lambda: ended_all(fleet, 1))


async def test_a_replica_dies_before_it_begins(fleet_world: FleetWorld) -> None:
    """A run that a replica took from the queue, and then died before it said so, is carried out by another one."""
    ran = list[str]()

    async def carry_out(mirror: str, _: str) -> bool:
        ran.append(mirror)
        return True

    async with fleet_world.replica("a") as fleet:
        async with working(fleet, carry_out, places=0) as queue:
            await queue.defer("m")
        taken = "UPDATE procrastinate_jobs SET status = 'doing' RETURNING worker_id"  # by a worker that is gone
        assert fleet_world.postgres.sql(taken, database="mirrord") == [(None,)]
        async with working(fleet, carry_out):
            await until(lambda: ended_all(fleet, 1))
    assert ran == ["m"]


async def test_given_back(fleet_world: FleetWorld) -> None:
    """A replica that stops gives a run back, and another one carries it out."""
    ran = list[str]()

    async def give_back(_: str, __: str) -> bool:
        ran.append("a")
        return False

    async def carry_out(_: str, __: str) -> bool:
        ran.append("b")
        return True

    async with fleet_world.replica("a", pace=ALIVE) as one, fleet_world.replica("b", pace=ALIVE) as two:
        async with working(one, give_back) as queue:
            await queue.defer("m")
            await until(lambda: ran)
        async with working(two, carry_out):
            await until(lambda: "b" in ran)
            await until(lambda: ended_all(two, 1))
        assert ran == ["a", "b"]


async def test_sticky(fleet_world: FleetWorld) -> None:
    """A mirror goes to the replica that ran it last while that is alive, and to any other one afterwards."""
    ran = list[str]()

    def by(name: str, fleet: Fleet) -> CarryOut:
        async def carry_out(mirror: str, _: str) -> bool:
            async with fleet.hold(mirror):
                ran.append(name)
            return True

        return carry_out

    def more_than(number: int) -> bool:
        return len(ran) > number

    async with fleet_world.replica("b", pace=ALIVE) as two, working(two, by("b", two)) as queue:
        async with fleet_world.replica("a", pace=ALIVE) as one:
            async with one.hold("m"):
                pass
            async with working(one, by("a", one)):
                for number in range(3):
                    await until(lambda: queue.defer("m", sticky=True))
                    await until(partial(more_than, number))
            await until(lambda: queue.defer("m", sticky=True))  # it waits for a replica that dies before it takes it
        await until(lambda: len(ran) == 4)
        assert ran == ["a", "a", "a", "b"]


async def test_the_database_starts_again(fleet_world: FleetWorld) -> None:
    """A run under way ends and is recorded as ended though the database was away; later ones run as before."""
    begun, end, ended = asyncio.Event(), asyncio.Event(), list[str]()

    async def carry_out(mirror: str, _: str) -> bool:
        begun.set()
        await end.wait()
        ended.append(mirror)
        return True

    async with fleet_world.replica("a", pace=ALIVE) as fleet, working(fleet, carry_out) as queue:
        await queue.defer("m")
        await begun.wait()
        fleet_world.postgres.restart()
        end.set()
        await until(lambda: queue.defer("other"))
        await until(lambda: len(ended) == 2)
        await until(lambda: ended_all(fleet, 2))


@asynccontextmanager
async def worker(world: FleetWorld, name: str, log: Path) -> AsyncIterator[int]:
    """Start a replica in a process of its own; yield its id."""
    command = (sys.executable, "-m", "tests.support.fleetworker", name, json.dumps(dict(world.connect)), log)
    async with started(*command, cwd=ROOT) as process:
        await until(Path(f"{log}.{name}").exists)
        yield process.pid


@dataclass(frozen=True)
class Named:
    """A name that a replica wrote: in which run, which of its names, and by whom."""

    fence: int
    number: int
    replica: str


def names_in(log: Path) -> list[Named]:
    """Return the names that were written, in their order."""
    lines = (line.split() for line in log.read_text().splitlines()) if log.exists() else ()
    return [Named(int(fence), int(number), name) for _, fence, number, name in lines if fence != "fenced"]


def whole(log: Path, above: int) -> int:
    """Return the fence of a run above another one that has written all its names, or 0."""
    ends = [one.fence for one in names_in(log) if one.number == NAMES - 1 and one.fence > above]
    return ends[0] if ends else 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_a_replica_dies(fleet_world: FleetWorld, tmp_path: Path, how: signal.Signals) -> None:
    """Its run is carried out by another replica, whole and with a higher fence; if it wakes up it writes one name more.

    As reliability.md §5.2 measured: a stopped worker goes on to its end when nothing but the queue decides.
    """
    log = tmp_path / "log"
    async with (
        fleet_world.replica("asks") as fleet,
        working(fleet, nothing, places=0) as queue,
        worker(fleet_world, "a", log) as one,
        worker(fleet_world, "b", log) as two,
    ):
        await queue.defer("m")
        await until(lambda: names_in(log))
        dies = names_in(log)[-1]
        os.kill(one if dies.replica == "a" else two, how)
        await until(lambda: whole(log, dies.fence))
        if how is signal.SIGSTOP:
            os.kill(one if dies.replica == "a" else two, signal.SIGCONT)
            await until(lambda: "fenced" in log.read_text())
        found, ran = names_in(log), whole(log, dies.fence)
        assert [name.number for name in found if name.fence == ran] == list(range(NAMES))
        late = found[found.index(Named(ran, 0, next(name.replica for name in found if name.fence == ran))) :]
        assert len([name for name in late if name.fence < ran]) <= 1
        await until(lambda: queue.defer("m"))
        await until(lambda: whole(log, ran))
