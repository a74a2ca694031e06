"""`mirrord verify` as it is typed: its exit codes, its table, its document, alone and at a daemon."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp

from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk

IMAGE = build_image(layer_size=1000, layers=1)
CONFIGURATION = """\
settings: {{listen: "127.0.0.1:0", verify: {{every: 7d}}}}
targets: {{there: {{kind: image, to: "{there}/mirror"}}}}
mirrors:
  - {{name: app, kind: image, from: {{repository: "{source}/team/app", tags: ["*"]}}, to: there}}
"""


async def test_the_exit_code_says_equal_drift_or_unknown(tmp_path: Path) -> None:
    """0 when all is equal, 1 when something differs, 2 when nobody can tell; drift outweighs what is unknown."""
    desk = Desk(tmp_path)
    async with Registry() as source, Registry() as there:
        await push(IMAGE, source, "team/app", ["v1", "v2"])
        desk.configure(CONFIGURATION.format(source=source.host, there=there.host))
        said = await desk.run("verify")
        assert (said.status, "app there unrecorded" in said.out) == (2, True), said
        assert (await desk.run("sync")).status == 0
        said = await desk.run("verify", "--deep")
        assert (said.status, said.out.splitlines()[1].split()[:5]) == (0, ["app", "there", "equal", "deep", "2"]), said
        assert (await desk.run("verify", "--quiet")).out == ""
        del there.tags["mirror/app"]["v1"]
        said = await desk.run("verify")
        assert said.status == 1
        assert f"app there missing: v1: {there.host}/mirror/app:v1 is not there" in said.out.splitlines()
        drift = "there: verified just now: 1 item differs from what was mirrored; `mirrord verify app`"
        said = await desk.run("status")
        assert (said.status, f"app: {drift}" in said.out.splitlines()) == (0, True), said
        said = await desk.run("status", "app")
        assert (drift in said.out, f"there: missing: {there.host}/mirror/app:v1 is not there" in said.out) == (
            True,
            True,
        )
        document = (await desk.run("verify", "app", "--json")).document["verifications"][0]
        assert document["targets"][0]["findings"][0]["code"] == "missing"
        said = await desk.run("verify", "--repair")
        assert (said.status, "app: 1 repaired" in said.out.splitlines()) == (0, True), said
        assert "differs" not in (await desk.run("status")).out
        assert (await desk.run("verify", "--deep", "--bytes")).status == 64
        there.faults.on("*", "", times=None).status(503)
        assert (await desk.run("verify")).status == 2


async def test_a_daemon_verifies_and_shows_it(tmp_path: Path) -> None:
    """What a command asks of a daemon is in its status, its metrics and its badge at once."""
    desk = Desk(tmp_path)
    async with Registry() as source, Registry() as there:
        await push(IMAGE, source, "team/app", ["v1", "v2"])
        desk.configure(CONFIGURATION.format(source=source.host, there=there.host))
        async with desk.serving() as served, aiohttp.ClientSession(f"http://{served.address}") as session:
            assert (await desk.run("sync")).status == 0
            del there.tags["mirror/app"]["v1"]
            assert (await desk.run("verify", "--deep")).status == 1
            async with session.get("/status") as answer:
                verified = (await answer.json())["mirrors"][0]["verified"]
            assert (verified["level"], verified["checked"], verified["drift"]) == ("deep", 2, 1)
            async with session.get("/metrics") as answer:
                text = await answer.text()
            assert 'mirrord_verify_drift_items{mirror="app",target="there"} 1.0' in text
            assert 'mirrord_verify_interval_seconds{level="deep",mirror="app"} 604800.0' in text
            last = re.findall(r'mirrord_verify_last_timestamp_seconds{level="(\w+)",mirror="app",target="there"}', text)
            assert sorted(last) == ["deep", "names"]
            async with session.get("/badge/app/deep.json") as answer:
                badge = await answer.json()
            assert (badge["label"], badge["message"], badge["color"]) == ("verified", "50%", "red")
            async with session.get("/mirrors/app") as answer:
                page = await answer.text()
            assert f"{there.host}/mirror/app:v1 is not there" in page
            assert re.search(r"1 item differs\s+· names <time.*· all content <time", page)
