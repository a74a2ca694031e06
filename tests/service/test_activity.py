"""What `/status` says of a run under way, in a real daemon that reads slowly."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from mirrord.commands import Sync
from mirrord.model.run import Result
from mirrord.report.rows import LISTS
from mirrord.serve.remote import ControlClient
from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk
from tests.support.schemas import judge, of_api

SIZE = 2_000_000
IMAGE = build_image(layers=2, layer_size=SIZE, seed="activity")


async def api(client: ClientSession, path: str) -> Any:
    async with client.get(f"/api/v1/{path}") as answer:
        assert answer.status == 200
        return await answer.json()


def check_progress(seen: list[dict[str, Any]]) -> None:
    """Check the numbers of a run under way, in the order in which they were seen."""
    rated = [one for one in seen if one["targets"] and one["targets"]["far"]["left"]]
    assert rated  # it takes eight seconds
    for one in rated:
        far = one["targets"]["far"]
        assert (one["steps"], far["steps"], far["total"]) == (2, 1, sum(map(len, IMAGE.blobs.values())))
        assert one["sent"] == sum(target["sent"] for target in one["targets"].values())
        assert far["sent"] <= one["read"] <= far["total"]  # for both targets once
        assert far["sent"] > 0 or far["rate"] is None
        assert one["read"] > 0
        lefts = [target["left"] for target in one["targets"].values()]
        assert one["left"] == (None if None in lefts else max(lefts))
    assert any(one["targets"]["far"]["rate"] and one["read_rate"] for one in rated)
    sent = [one["targets"]["far"]["sent"] for one in rated]
    assert sent == sorted(sent)
    read = [one["read"] for one in seen]
    assert read == sorted(read)


async def test_bytes_rate_and_time_left(tmp_path: Path) -> None:
    """While an image goes out, each target has its bytes, their sum, a rate and a time left; then its run has them.

    What is read is counted once for both.
    """
    desk = Desk(tmp_path)
    async with Registry() as source, Registry() as target:
        await push(IMAGE, source, "up/app", ["v1"])
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\n"
            f"hosts: {{'{source.host}': {{bandwidth: 1MiB/s}}}}\n"
            f"targets: {{far: {{kind: image, to: {target.host}/team}}}}\nmirrors:\n"
            "  - {name: app, kind: image, to: [far, local], "
            f"from: {{repository: {source.host}/up/app, tags: [v1]}}}}\n"
        )
        async with desk.serving() as served, ClientSession(f"http://{served.address}") as client:

            async def mirror() -> Any:
                async with client.get("/status") as answer:
                    document = await answer.json()
                judge(schema, document)
                return document["mirrors"][0]

            async with client.get("/api/v1/status.schema.json") as answer:
                schema = await answer.json()

            run = asyncio.create_task(ControlClient(desk.folder / "state").carry_out(Sync()))
            seen: list[dict[str, Any]] = []
            while not run.done():
                if running := (await mirror())["running"]:
                    seen.append(running)
            assert [one.result for one in await run] == [Result.SUCCESS]
            ended = await mirror()
            document = await api(client, "openapi.json")
            found = {what: await api(client, f"mirrors/app/{what}") for what in LISTS}
            for what, rows in found.items():
                judge(of_api(document, f"/api/v1/mirrors/{{name}}/{what}"), rows)
    (one_run,), (item,), (day,) = found["runs"]["runs"], found["items"]["items"], found["days"]["days"]
    assert (one_run["result"], one_run["mirror"]) == ("success", "app")
    assert {one["target"] for one in one_run["targets"]} == {"far", "local"}
    assert (item["item"], {one["digest"] for one in item["at"].values()}) == ("v1", {IMAGE.digest})
    assert item["at"]["far"]["platforms"] == ["linux/amd64", "linux/arm64"]
    assert (day["runs"], day["failed"], day["sent"]) == (1, 0, sum(one["sent"] for one in one_run["targets"]))
    assert found["behind"] == {"behind": []}
    assert len(found["ledger"]["ledger"]) == 2
    check_progress(seen)
    assert ended["running"] is None
    assert ended["targets"][0]["last_run"]["sent"] == sum(map(len, IMAGE.blobs.values()))
    assert ended["targets"][0]["rate"] > 0
