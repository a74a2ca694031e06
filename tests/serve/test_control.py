"""The control socket, with runs of any length."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from mirrord.events import Events, RunFinished
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run
from mirrord.serve.control import make_control
from mirrord.serve.remote import ControlClient, bind_control, short

T0 = datetime(2024, 1, 1, tzinfo=UTC)
MANY = 5_000


class Commands:
    """Stands in for the daemon: every run has `MANY` steps, all with a receipt."""

    parallel = 2

    def __init__(self) -> None:
        self.events = Events()
        digest = f"sha256:{'0' * 64}"
        steps = [
            Step(Action.COPY, f"chart-{number}", digest, "t", (f"{number}.tgz",), "x" * 900) for number in range(MANY)
        ]
        self.found = Plan("m", "helm", T0, tuple(steps), tuple(step.reason for step in steps))
        receipts = tuple(Receipt(step, Outcome.FAILED, "y" * 900) for step in steps)
        self.run = Run("m", "helm", "command", T0, T0, self.found, receipts)

    def known(self, mirrors: Sequence[str]) -> Sequence[str]:
        return mirrors

    async def sync(self, mirror: str, *, allow: bool = False) -> Run:
        return self.run

    async def plan(self, mirror: str) -> Plan:
        return self.found


@asynccontextmanager
async def served(state: Path) -> AsyncIterator[Commands]:
    commands: Any = Commands()
    runner = web.AppRunner(make_control(commands), access_log=None)
    await runner.setup()
    await web.SockSite(runner, bind_control(state)).start()
    try:
        yield commands
    finally:
        await runner.cleanup()


async def test_a_run_of_any_length_comes_through(tmp_path: Path) -> None:
    """A10: a run is told whole, and so are plans, in lines of less than 2 MB, however many steps they have."""
    heard: list[object] = []
    events = Events()
    events.listen(heard.append)
    async with served(tmp_path) as commands:
        client = ControlClient(tmp_path)
        assert await client.sync(["m"], events) == [commands.run]
        assert heard == [RunFinished(commands.run)]
        assert await client.plan(["m", "n"]) == [commands.found] * 2
        lines = await _lines(tmp_path)
    assert max(lines) < 2_000_000 < sum(lines) / 5


async def _lines(state: Path) -> list[int]:
    """Return the lengths of the lines that come for a run."""
    with short(state / "control.sock") as name:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(name), read_bufsize=2**21) as session,
            session.post("http://mirrord/sync", json={"mirrors": ["m"]}) as response,
        ):
            return [len(line) async for line in response.content]
