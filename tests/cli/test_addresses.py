"""Under which address clients find what mirrord itself has: one answer for all that is printed and shown."""

from __future__ import annotations

import asyncio
import subprocess

import aiohttp

from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from tests.support.commands import Desk

MIRRORS = """\
targets: {there: {kind: git, to: 'https://git.example.com/{name}.git'}}
mirrors:
  - {name: craned, kind: image, as: team/craned, from: {repository: quay.io/a/b, tags: [v1]}, to: local}
  - {name: grafana, kind: helm, from: 'https://grafana.github.io/helm-charts', to: local}
  - {name: crane, kind: git, as: crane-mirror, from: 'https://github.com/gocrane/crane.git', to: [there, local]}
  - {name: away, kind: git, from: 'https://github.com/gocrane/api.git', to: there}
"""
PUBLIC = "https://mirror.example.org"


def places(url: str) -> dict[str, str]:
    host = url.partition("://")[2]
    return {
        "craned": f"{host}/team/craned",
        "grafana": f"{url}/helm/grafana",
        "crane": f"{url}/git/crane-mirror.git",
        "away": "",
    }


async def test_check_and_status_show_the_public_address(desk: Desk) -> None:
    """`settings.url` stands in front of everything: what to pull, to add to helm, and to clone."""
    desk.configure(f"settings: {{listen: '127.0.0.1:0', url: '{PUBLIC}'}}\n{MIRRORS}")
    checked = await desk.run("check", "--json")
    assert {one["name"]: one["address"] for one in checked.document["mirrors"]} == places(PUBLIC)
    assert checked.document["mirrors"][0]["to"] == {"local": "local/team/craned"}
    lines = (await desk.run("check")).out.splitlines()
    shown = {line.split()[0]: line.split("  ")[-1].strip() for line in lines[1:5]}
    both = f"git.example.com/crane-mirror, {PUBLIC}/git/crane-mirror.git"
    assert shown == {**places(PUBLIC), "crane": both, "away": "git.example.com/away"}
    for daemon in (False, True):
        if not daemon:
            told = await desk.run("status", "--json")
        else:
            async with desk.serving() as served, aiohttp.ClientSession() as client:
                told = await desk.run("status", "--json")
                page = await (await client.get(f"http://{served.address}/")).text()
                assert [address in page for address in places(PUBLIC).values()] == [True] * 4
        assert {one["name"]: one["address"] for one in told.document["mirrors"]} == places(PUBLIC)


async def test_without_a_public_address(desk: Desk) -> None:
    """It is then where the daemon really listens, and git and clients of charts get there what was mirrored."""
    async with ChartRepository() as charts, GitHost(desk.folder / "host") as host:
        charts.add(build_chart("good", "1.0.0"))
        tip = Upstream(host.create("app.git")).commit("main", {"README.md": b"hello\n"})
        mirrors = f"mirrors:\n- {{name: app, kind: git, from: '{host.url('app.git')}', to: local}}\n"
        mirrors += f"- {{name: charts, kind: helm, from: '{charts.url}', to: local}}\n"
        desk.configure(f"settings: {{listen: '127.0.0.1:0'}}\n{mirrors}")
        assert [one["address"] for one in (await desk.run("check", "--json")).document["mirrors"]] == ["", ""]
        async with desk.serving() as served, aiohttp.ClientSession() as client:
            assert (await desk.run("sync")).status == 0
            code, index = [one["address"] for one in (await desk.run("status", "--json")).document["mirrors"]]
            assert code == f"http://{served.address}/git/app.git"
            clone = ["git", "ls-remote", code, "refs/heads/main"]
            listed = await asyncio.to_thread(subprocess.run, clone, check=True, capture_output=True, text=True)
            assert listed.stdout.split() == [tip, "refs/heads/main"]
            async with client.get(f"{index}/index.yaml") as answer:
                assert "good-1.0.0.tgz" in await answer.text()
