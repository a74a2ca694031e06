"""People ask any of several replicas for images: one of them copies, and all know how far that is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mirrord.daemon.dispatcher import Dispatcher
from mirrord.model.request import AskRecord
from mirrord.record.sql_store import SqlStore
from mirrord.testing import Image, Registry, push
from mirrord.tokens import TokenFile
from tests.support.asking import small
from tests.support.commands import Desk, Served
from tests.support.fleets import FleetWorld, until
from tests.support.quickreplica import replica, shared_record

LEADS = "SELECT 1 FROM leases WHERE mirror = '~lead' AND boot <> ''"


@dataclass
class Asked:
    """A replica that people ask."""

    served: Served
    token: str

    async def _send(self, method: str, path: str, body: str | None = None) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.token}", "Prefer": "respond-async"}
        url = f"http://{self.served.address}{path}"
        async with aiohttp.ClientSession(headers=headers) as client, client.request(method, url, data=body) as answer:
            return answer.status, json.loads((await answer.text()).splitlines()[-1])

    async def ask(self, image: str) -> tuple[int, dict[str, Any]]:
        """Ask for an image; return status and document."""
        return await self._send("POST", "/api/v1/sync", json.dumps({"image": image}))

    async def state(self, number: str) -> str:
        """Return how far one is, and why."""
        status, found = await self._send("GET", f"/api/v1/sync/{number}")
        return " ".join(filter(None, (found["state"], found["reason"]))) if status == 200 else str(status)

    async def follow(self, number: str) -> list[str]:
        """Return the states of one until it ends."""
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/x-ndjson"}
        url = f"http://{self.served.address}/api/v1/sync/{number}"
        async with aiohttp.ClientSession(headers=headers) as client, client.get(url) as answer:
            return [json.loads(line)["state"] async for line in answer.content]


async def test_the_replica_that_copies_dies(fleet_world: FleetWorld, tmp_path: Path) -> None:
    """What waits at it for a host that limits the rate is copied by another one, and asked once of the source.

    Until then each replica says the same of it: of equal questions, of `waiting`, and of what ended.
    """
    server = fleet_world.postgres
    async with Registry() as source, Registry() as target, AsyncExitStack() as stack:
        quick, slow = small("quick"), small("slow")
        await push(quick, source, "team/quick", ["v1"])
        await push(slow, source, "team/slow", ["v1"])
        rules = f"{{to: [hub], allow: ['{source.host}/team/**'], limits: {{waiting: 1}}}}"
        configuration = f"targets: {{hub: {{kind: image, to: {target.host}/m}}}}\nasking: {rules}\nmirrors: []\n"
        found, shared = [], tmp_path / "shared"
        token = await asyncio.to_thread(TokenFile(shared).add, "ci", datetime.now(UTC), ("ask",))
        for name in ("one", "two"):
            one = replica(tmp_path / name, server, configuration, f"tokens: {shared}")
            served = await stack.enter_async_context(one)
            found.append(Asked(served, token))
            await until(lambda: server.sql(LEADS, database="mirrord"))
        leads, other = found

        def copied_once(image: Image, repository: str) -> bool:
            return source.count("GET", f"team/{repository}/blobs/") == len(image.blobs)

        status, asked = await other.ask(f"{source.host}/team/quick:v1")
        assert (status, asked["state"]) == (202, "queued")
        assert (await other.follow(asked["id"]))[-1] == "done"
        assert await leads.state(asked["id"]) == "done"
        assert copied_once(quick, "quick")

        source.faults.on("*", "team/slow", times=None).status(429, headers={"Retry-After": "7200"})
        status, asked = await leads.ask(f"{source.host}/team/slow:v1")
        assert status == 202
        await until(lambda: waits(other, asked["id"]))
        assert (await other.ask(f"{source.host}/team/slow:v1"))[1]["id"] == asked["id"]
        assert (await other.ask(f"{source.host}/team/more:v1"))[1]["reason"] == "full"
        source.faults.clear()
        server.sql("UPDATE asked SET until = asked WHERE ended IS NULL", database="mirrord")  # the two hours are over
        leads.served.process.kill()
        assert (await other.follow(asked["id"]))[-1] == "done"
        assert copied_once(slow, "slow")
        assert [*target.tags[f"m/{source.host.replace(':', '_')}/team/slow"]] == ["v1"]


@pytest.mark.parametrize("leads", [True, False])
async def test_who_leads_no_more_asks_nothing(
    fleet_world: FleetWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, leads: bool
) -> None:
    """Whoever begins to lead reads what waits; a replica that ends waits for no record, which may be away."""
    asked, open_requests = 0, SqlStore.open_requests

    async def counted(store: SqlStore) -> Sequence[AskRecord]:
        nonlocal asked
        asked += 1
        return await open_requests(store)

    desk = Desk(tmp_path)
    desk.configure(f"settings: {{record: {shared_record(tmp_path, fleet_world.postgres)}}}\nmirrors: []\n")
    monkeypatch.setattr(SqlStore, "open_requests", counted)
    async with desk.opened() as runtime:
        assert runtime.fleet
        runtime.fleet.leads = leads
        await Dispatcher(runtime).desk.lead()
    assert asked == leads


async def waits(asked: Asked, number: str) -> bool:
    return await asked.state(number) == "queued throttled"
