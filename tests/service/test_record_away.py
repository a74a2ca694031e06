"""A running daemon whose record is on a database server that goes away and comes back (fault F37)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp

from mirrord.commands import Sync
from mirrord.model.run import Result, Run
from mirrord.serve.remote import ControlClient
from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk
from tests.support.postgres import PASSWORD, Postgres

IMAGE = build_image(["linux/amd64"], layers=2, layer_size=1 << 16, seed="away")


async def get(address: str, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as client, client.get(f"http://{address}{path}") as answer:
        return answer.status, await answer.text()


async def standing(address: str) -> dict[str, Any]:
    (found,) = json.loads((await get(address, "/status"))[1])["mirrors"]
    return dict(found)


async def test_f37_the_database_crashes_under_a_run(tmp_path: Path, postgres: Postgres) -> None:
    """F37: what runs goes on and is recorded once, /readyz is 503 with the reason and /livez 200 until it is back.

    The password of the database is in none of it.
    """
    desk = Desk(tmp_path)
    postgres.empty()
    async with Registry() as source:
        await push(IMAGE, source, "up/app", ["main"])
        url = f"postgresql://mirrord@127.0.0.1:{postgres.port}/mirrord"
        record = f"{{url: '{url}', password: {{file: {tmp_path}/word}}}}"
        (tmp_path / "word").write_text(PASSWORD)
        (tmp_path / "word").chmod(0o400)
        mirror = f"{{name: app, kind: image, from: {{repository: '{source.host}/up/app:main'}}, to: local, trust: 0s}}"
        desk.configure(f"settings: {{listen: '127.0.0.1:0', record: {record}}}\nmirrors: [{mirror}]\n")
        control = ControlClient(desk.folder / "state")
        held = source.faults.on("GET", "/blobs/").hold()
        async with desk.serving() as daemon:
            assert not (desk.folder / "state" / "mirrord.db").exists()
            running: asyncio.Task[tuple[Run, ...]] = asyncio.create_task(control.carry_out(Sync(("app",))))
            async with asyncio.timeout(60):
                await held.reached.wait()
            postgres.stop()
            held.release()
            async with asyncio.timeout(60):
                while (ready := await get(daemon.address, "/readyz"))[0] != 503:  # noqa: ASYNC110 - another process says it
                    await asyncio.sleep(0.05)
            assert f"postgresql://127.0.0.1:{postgres.port}/mirrord: " in ready[1]
            assert (await get(daemon.address, "/livez"))[0] == 200
            away = f"the state cannot be used: postgresql://127.0.0.1:{postgres.port}/mirrord: "
            assert (await daemon.logged("daemon.notice"))["message"].startswith(away)
            assert (await standing(daemon.address))["name"] == "app"
            postgres.start()
            async with asyncio.timeout(60):
                (run,) = await running
            assert run.result is Result.SUCCESS
            assert (await get(daemon.address, "/readyz"))[0] == 200
            assert (await standing(daemon.address))["result"] == "success"
            assert (await daemon.logged("daemon.notice", 2))["message"] == "the state can be used again"
            assert not [line for line in daemon.lines if line["event"] == "library"]
            assert PASSWORD not in json.dumps(daemon.lines) + ready[1]
    assert postgres.sql("SELECT mirror, result FROM runs", database="mirrord") == [("app", "success")]
