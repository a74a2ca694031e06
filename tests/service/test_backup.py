"""What the page on recovery says to back up is all that is needed, typed as it stands there."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import aiohttp

from mirrord.testing import Registry, build_image, push
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.running import run
from mirrord.testing.servers import require
from tests.support.commands import Desk

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "recover.md"
STATE_PAGE = PAGE.parents[1] / "reference" / "state.md"
CONFIGURATION = """\
settings: {{listen: "127.0.0.1:0"}}
mirrors:
  - {{name: app, kind: image, from: {{repository: "{source}/team/app", tags: ["*"]}}, to: local}}
  - {{name: charts, kind: helm, from: "{charts}", to: local}}
  - {{name: code, kind: git, from: "{upstream}/code.git", to: local}}
"""


def typed(state: Path, backup: Path) -> str:
    """Return the copying commands of the page, for these folders."""
    (lines,) = re.findall(r"^for entry in .*?^done$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(lines).replace("/var/lib/mirrord", str(state)).replace("/srv/backup", str(backup))


async def test_the_backup_of_the_page_brings_back_all_that_only_local_has(tmp_path: Path) -> None:
    """Without any source, the restored state serves images, charts and code, and has backups of refs and history."""
    require("git")
    desk, backup = Desk(tmp_path), tmp_path / "backup"
    state = tmp_path / "state"
    backup.mkdir()
    async with Registry() as source, ChartRepository() as charts, GitHost(tmp_path / "upstream") as upstream:
        image = build_image()
        await push(image, source, "team/app", ["v1"])
        charts.add(chart := build_chart("app", "1.0.0"))
        code = Upstream(upstream.create("code.git"))
        lost = code.commit("main", {"README.md": b"hello\n"})
        desk.configure(CONFIGURATION.format(source=source.host, charts=charts.url, upstream=upstream.base))
        first = await desk.run("sync")
        assert first.status == 0, first
        main = code.rewrite("main")
        assert (await desk.run("sync", "code", "--allow")).status == 0
        assert (await run("sh", "-c", typed(state, backup))).status == 0
    await asyncio.to_thread(shutil.rmtree, state)
    restored = await run("cp", "-a", backup, state)
    assert restored.status == 0, restored.output

    offered = await desk.run("restore", "code", "--json")
    assert lost in offered.out, offered
    runs = {one["name"]: one["last_success"] for one in (await desk.run("status", "--json")).document["mirrors"]}
    assert set(runs) == {"app", "charts", "code"}
    assert all(runs.values())
    async with desk.serving() as daemon, aiohttp.ClientSession(f"http://{daemon.address}") as session:
        async with session.get("/v2/app/manifests/v1") as answer:
            assert await answer.read() == image.body
        for digest, data in image.blobs.items():
            async with session.get(f"/v2/app/blobs/{digest}") as answer:
                assert await answer.read() == data
        async with session.get("/helm/charts/charts/app-1.0.0.tgz") as answer:
            assert await answer.read() == chart.data
        listed = await run("git", "ls-remote", f"http://{daemon.address}/git/code.git", "refs/heads/main")
        assert listed.output.split() == [main, "refs/heads/main"]


def test_the_page_backs_up_every_entry_that_is_lost_otherwise() -> None:
    """Every row of the page's table is copied by its command, and is an entry of the page on the state directory."""
    table = PAGE.read_text().partition("\n| back up |")[2].partition("\n\n")[0]
    rows = {
        name for row in table.splitlines() for name in re.findall(r"`([\w.]+)/?`", row.split("|")[1] if row else "")
    }
    (copied,) = re.findall(r"^for entry in (.*); do", typed(Path("/s"), Path("/b")))
    assert rows == set(copied.split())
    entries = re.findall(r"^\| `([\w.]+)/?` \|", STATE_PAGE.read_text(), re.MULTILINE)
    assert rows
    assert rows <= set(entries)


async def test_a_state_without_git_mirrors_is_copied_without_an_error(tmp_path: Path) -> None:
    """What no mirror has made yet is left out, and the command succeeds and prints nothing."""
    state, backup = tmp_path / "state", tmp_path / "backup"
    for folder in (state / "repositories", state / "blobs", state / "spool", backup):
        folder.mkdir(parents=True)
    (state / "mirrord.db").touch()
    ran = await run("sh", "-e", "-c", typed(state, backup))
    assert (ran.status, ran.output) == (0, "")
    assert {entry.name for entry in backup.iterdir()} == {"repositories", "blobs", "mirrord.db"}
