"""`limits.an_hour` in a fleet: what somebody asks of any replica counts for all of them, exactly."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from unittest.mock import patch

import psycopg
import pytest

from mirrord.asking.asked import AskState
from mirrord.record.ask_rates import take_asks
from mirrord.record.fleet_database import SharedDatabase, open_shared
from mirrord.testing import Registry, push
from tests.support.askfleet import AskedReplica, asked_replica
from tests.support.asking import small
from tests.support.fleets import FleetWorld, until

TOKEN, ADDRESS = "token a", "198.51.100.1"


@pytest.fixture
async def databases(fleet_world: FleetWorld) -> AsyncIterator[Sequence[SharedDatabase]]:
    """Return the connections of two replicas."""
    async with open_shared(lambda: fleet_world.connect) as one, open_shared(lambda: fleet_world.connect) as two:
        yield one, two


def free_later(world: FleetWorld, seconds: float) -> None:
    """Let so many seconds pass."""
    world.postgres.sql(f"UPDATE ask_rates SET free = free - interval '{seconds} s'", database="mirrord")


async def test_all_of_an_hour_at_once_and_then_evenly(
    databases: Sequence[SharedDatabase], fleet_world: FleetWorld
) -> None:
    """As on one machine; it is the database that knows the time, and that forgets who may ask for all again."""
    one, two = databases
    assert [await take_asks(each, ["a"], 3) for each in (one, two, one)] == [0, 0, 0]
    assert 0 < await take_asks(two, ["a"], 3) <= 1200
    assert await take_asks(two, ["b"], 3) == 0
    free_later(fleet_world, 1200)
    assert await take_asks(one, ["a"], 3) == 0
    assert await take_asks(two, ["a"], 3) > 0
    free_later(fleet_world, 3600)
    assert await take_asks(two, ["c"], 3) == 0
    assert fleet_world.postgres.sql("SELECT who FROM ask_rates", database="mirrord") == [("c",)]


async def test_what_is_refused_counts_for_nobody(databases: Sequence[SharedDatabase]) -> None:
    """One of the names has asked for too much: the other one has all of its images left."""
    one, two = databases
    assert await take_asks(one, [TOKEN, TOKEN], 1) == 0
    assert await take_asks(two, [TOKEN, ADDRESS], 1) > 0
    assert await take_asks(two, [ADDRESS], 1) == 0


async def test_many_at_once(databases: Sequence[SharedDatabase]) -> None:
    """Of forty who ask two replicas in one moment, for the first time and later, as many succeed as may."""
    names = [[TOKEN, ADDRESS], [ADDRESS, TOKEN]]
    asking = [take_asks(databases[n % 2], names[n // 2 % 2], 7) for n in range(40)]
    found = [wait == 0 for wait in await asyncio.gather(*asking)]
    assert found.count(True) == 7


async def test_none_misses_what_another_counts(databases: Sequence[SharedDatabase], fleet_world: FleetWorld) -> None:
    """Two ask in one moment for the last image: both are under way, and one of them gets it."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with await psycopg.AsyncConnection.connect(**fleet_world.connect) as link:
        await link.execute("INSERT INTO ask_rates (who, free) VALUES ('a', now())")  # whoever counts waits for this
        asking = [asyncio.create_task(take_asks(database, ["a"], 1)) for database in databases]
        await until(lambda: fleet_world.postgres.sql(waiting)[0][0] >= 2)
        await link.rollback()
    assert sorted(wait > 0 for wait in await asyncio.gather(*asking)) == [False, True]


async def test_replicas_that_people_ask(fleet_world: FleetWorld, tmp_path: Path) -> None:
    """A token has its images once, whichever replica it asks, also when it asks both at once; an operator has no rate.

    Each ask counts by one call.
    """
    async with Registry() as source, Registry() as target, AsyncExitStack() as stack:
        await push(small("a"), source, "team/a", [f"v{n}" for n in range(12)])
        section = f"{{to: [hub], allow: ['{source.host}/team/**'], limits: {{an_hour: 3}}}}"
        targets = f"targets: {{hub: {{kind: image, to: {target.host}/m}}}}"
        replicas = list[AskedReplica]()
        for name in ("one", "two"):
            opening = asked_replica(tmp_path / name, fleet_world.postgres, section, targets)
            replicas.append(await stack.enter_async_context(opening))
        with patch("mirrord.daemon.asking.take_asks", wraps=take_asks) as taken:
            asking = [replicas[n % 2].desk.ask(f"{source.host}/team/a:v{n}", [], [TOKEN, ADDRESS]) for n in range(8)]
            found = await asyncio.gather(*asking)
            assert Counter(one.reason for one in found) == {"": 3, "rate": 5}
            assert {one.state for one in found if not one.reason} == {AskState.QUEUED}
            assert all(0 < one.after <= 1200 for one in found if one.reason)
            assert taken.await_count == 8
            await asyncio.gather(*(one.desk.ask(f"{source.host}/team/a:v9", [], ()) for one in replicas))
            assert taken.await_count == 8
