"""`mirrord takedown MIRROR`, end to end: how a mirror stands that was taken down, and that it comes back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp

from mirrord.testing import DockerRegistry, build_image, push, require
from tests.support.commands import Desk

REASON = "ticket 4711"


async def status(registry: DockerRegistry, path: str) -> int:
    async with aiohttp.ClientSession() as client, client.get(f"{registry.url}/v2/{path}/tags/list") as answer:
        return answer.status if answer.status != 200 or (await answer.json())["tags"] else 404


async def test_a_mirror_is_taken_down_and_comes_back(tmp_path: Path) -> None:
    """It goes at its target, stands as denied, fails only for who asks for it by name, and a lift brings it back."""
    require("docker-registry")
    desk, denied = Desk(tmp_path), tmp_path / "denied.yaml"
    denied.touch()
    async with DockerRegistry() as source, DockerRegistry() as target:
        await push(build_image(), source.url, "team/app", ["latest"])
        mirrors = [
            {"name": name, "kind": "image", "from": {"repository": f"{source.host}/team/app"}, "to": name}
            for name in ("gone", "stays")
        ]
        targets = {name: {"kind": "image", "to": f"{target.host}/{name}"} for name in ("gone", "stays")}
        sections = {"settings": {"denied": str(denied)}, "targets": targets, "mirrors": mirrors}
        desk.configure("".join(f"{name}: {json.dumps(value)}\n" for name, value in sections.items()))
        first = await desk.run("sync")
        assert first.status == 0, (first.out, first.err)
        assert [await status(target, f"{name}/{name}") for name in ("gone", "stays")] == [200, 200]
        done = await desk.run("takedown", "gone", "--reason", REASON, "--json")
        assert (done.status, done.document["left"]) == (0, []), (done.out, done.err)
        assert [await status(target, f"{name}/{name}") for name in ("gone", "stays")] == [404, 200]
        assert (await desk.run("sync")).status == 0  # it is left out, and fails nothing
        stands = {one["name"]: one for one in (await desk.run("status", "--json")).document["mirrors"]}
        assert {name: (one["health"], one["denied"]) for name, one in stands.items()} == {
            "gone": ("denied", REASON),
            "stays": ("ok", ""),
        }
        asked = await desk.run("sync", "gone")
        assert (asked.status, REASON in asked.out + asked.err) == (1, True), (asked.out, asked.err)
        stands = {one["name"]: one for one in (await desk.run("status", "--json")).document["mirrors"]}
        assert (stands["gone"]["health"], stands["gone"]["consecutive_failures"]) == ("denied", 0)
        shown = (await desk.run("status")).out
        assert f"taken down: {REASON}" in shown
        assert all("on demand" not in row for row in shown.splitlines() if row.startswith("denied"))
        assert (await desk.run("plan")).status == 0  # as in a sync
        assert "gone" not in (await desk.run("verify")).out
        looked = await desk.run("verify", "gone", "stays")  # what must not be there is no drift, and not unknown either
        assert (looked.status, looked.out.splitlines()[1].split()[:3]) == (0, ["gone", "gone", "refused"]), looked
        assert f"gone gone refused: taken down, so nothing of it is looked at: {REASON}" in looked.out
        typo = await desk.run("takedown", "gonne", "--reason", REASON)
        assert (typo.status, "did you mean gone?" in typo.err) == (64, True), typo
        assert (await desk.run("takedown", "gone", "--lift")).status == 0
        assert (await desk.run("sync")).status == 0
        stands = {one["name"]: one for one in (await desk.run("status", "--json")).document["mirrors"]}
        assert (stands["gone"]["health"], await status(target, "gone/gone")) == ("ok", 200)


async def watched(address: str, *names: str) -> None:
    """Wait until these are the mirrors of which the daemon has series that alerts compare with the time."""
    async with asyncio.timeout(30):  # the page is made once a second
        while await series(address) != set(names):
            pass


async def series(address: str) -> set[str]:
    async with aiohttp.ClientSession() as client, client.get(f"http://{address}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    families = ("mirrord_sync_interval", "mirrord_sync_stale_after", "mirrord_verify_interval")
    return {line.partition('mirror="')[2].partition('"')[0] for line in lines if line.startswith(families)}


async def test_no_alert_waits_for_a_mirror_that_was_taken_down(tmp_path: Path) -> None:
    """Its series go with a takedown, also after a restart, and come back with a lift; those of others stay."""
    desk, denied = Desk(tmp_path), tmp_path / "denied.yaml"
    denied.touch()
    mirrors = [
        {"name": name, "kind": "image", "from": {"repository": f"127.0.0.1:1/{name}"}, "to": "local", "every": "6h"}
        for name in ("gone", "stays")
    ]
    settings = {"denied": str(denied), "verify": {"every": "1d"}}
    sections = {"settings": settings, "mirrors": mirrors}
    desk.configure("".join(f"{name}: {json.dumps(value)}\n" for name, value in sections.items()))
    async with desk.serving() as daemon:
        await watched(daemon.address, "gone", "stays")
        await desk.run("takedown", "gone", "--reason", REASON)
        await watched(daemon.address, "stays")
    async with desk.serving() as daemon:
        assert await series(daemon.address) == {"stays"}
        assert (await desk.run("takedown", "gone", "--lift")).status == 0
        await watched(daemon.address, "gone", "stays")


async def test_all_mirrors_are_taken_down(tmp_path: Path) -> None:
    """A sync of all has nothing to do, says so, and ends as that of one that was taken down; no run is written down."""
    desk, denied = Desk(tmp_path), tmp_path / "denied.yaml"
    denied.write_text("".join(f"- {{mirror: {name}, reason: {REASON}}}\n" for name in ("one", "two")))
    mirrors = [
        {"name": name, "kind": "image", "from": {"repository": f"r.example/{name}"}, "to": "local"}
        for name in ("one", "two")
    ]
    desk.configure(f"settings: {{denied: {denied}}}\nmirrors: {json.dumps(mirrors)}\n")
    said = await desk.run("sync")
    assert (said.status, "all mirrors are taken down" in said.err) == (1, True), (said.out, said.err)
    stands = (await desk.run("status", "--json")).document["mirrors"]
    assert [(one["health"], one["last_run"]) for one in stands] == [("denied", None)] * 2
