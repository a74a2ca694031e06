"""Whichever replica is asked to cancel a run, the one that runs it ends it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mirrord.errors import BusyError
from mirrord.record.cancellation import RunCancellation
from mirrord.record.fleet import Pace
from tests.support.fleets import ALIVE, FleetWorld


async def test_it_reaches_the_replica(fleet_world: FleetWorld) -> None:
    """The holder hears of it at a sign of life, the asker sees that it let go; later runs are not meant."""
    heard, end = list[str](), asyncio.Event()

    def cancel(mirror: str) -> bool:
        heard.append(mirror)
        end.set()
        return True

    async with fleet_world.replica("a", pace=ALIVE) as one, fleet_world.replica("b", pace=ALIVE) as two:
        one.cancel = two.cancel = cancel
        assert await RunCancellation.ask(two.database, "m", two.me.boot) is None
        async with one.hold("m"), one.hold("other"):
            asked = await RunCancellation.ask(two.database, "m", two.me.boot)
            assert asked is not None
            assert asked.replica == "a"
            await end.wait()
            assert await asked.pending(two.database)
        assert not await asked.pending(two.database)
        assert set(heard) == {"m"}
        heard.clear()
        async with two.hold("m"):
            await two.sign()
            assert not await asked.pending(one.database)
        assert heard == []


async def test_nothing_runs(fleet_world: FleetWorld) -> None:
    """What has a mirror without a run goes on: the asker hears of that at the next sign of life, once.

    Nobody asks that of itself.
    """
    heard = list[str]()

    def cancel(mirror: str) -> bool:
        heard.append(mirror)
        return False

    async with fleet_world.replica("a", beating=False) as one, fleet_world.replica("b") as two:
        one.cancel = cancel
        async with one.hold("m") as lease:
            assert await RunCancellation.ask(one.database, "m", one.me.boot) is None
            await one.sign()
            assert heard == []
            asked = await RunCancellation.ask(two.database, "m", two.me.boot)
            assert asked is not None
            assert await asked.pending(two.database)
            for _ in range(2):
                await one.sign()
                assert not await asked.pending(two.database)
            assert heard == ["m"]
            await one.check(lease)


async def test_it_costs_a_sign_of_life_nothing(fleet_world: FleetWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign of life is two statements, whether or not somebody cancels."""
    async with fleet_world.replica("a", beating=False) as one, one.hold("m"):
        asked = list[str]()
        do = type(one.database).do

        async def counted(self: Any, statement: str, *rest: Any, **more: Any) -> Any:
            asked.append(statement)
            return await do(self, statement, *rest, **more)

        one.cancel = "m".__eq__
        await RunCancellation.ask(one.database, "m", "of another one")
        monkeypatch.setattr(type(one.database), "do", counted)
        await one.sign()
        assert len(asked) == 2


async def test_the_replica_dies(fleet_world: FleetWorld) -> None:
    """Whoever asked hears that the replica gives no sign of life, and is not told that its run ended."""
    late = fleet_world.replica("a", beating=False, pace=Pace())
    async with fleet_world.replica("b") as two, late as one, one.hold("m"):
        asked = await RunCancellation.ask(two.database, "m", two.me.boot)
        assert asked is not None
        assert await asked.pending(two.database)
        fleet_world.postgres.sql("UPDATE leases SET until = now() - interval '1 s'", database="mirrord")
        with pytest.raises(BusyError, match="m: a, which runs it, gives no sign of life"):
            await asked.pending(two.database)
