"""`mirrord gc` as it is typed: where nothing goes it says why."""

from __future__ import annotations

from pathlib import Path

from mirrord.testing import Registry, build_image, push
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.commands import Desk

CONFIGURATION = """\
settings: {{listen: "127.0.0.1:0", local: {{keep: {keep}}}}}
mirrors:
  - {{name: app, kind: image, from: {{repository: "{source}/team/app", tags: ["*"]}}, to: local}}
"""


async def test_it_says_why_every_name_stays(tmp_path: Path) -> None:
    """Without `keep`, and in the first hour of a daemon, a remark says so; where `keep` decides there is none."""
    desk = Desk(tmp_path)
    async with Registry() as source:
        for tag in ("v1", "v2", "v3"):
            await push(build_image(seed=tag), source, "team/app", [tag])
        desk.configure(CONFIGURATION.format(keep="{}", source=source.host))
        assert (await desk.run("sync")).status == 0
        said = await desk.run("gc", "--dry-run")
        assert (said.status, said.out.splitlines()[0]) == (0, "0 of 3 names; would free 0 B"), said
        assert "neither `settings.local.keep` nor `keep` of a mirror is configured" in said.out
        desk.configure(CONFIGURATION.format(keep="{newest: 1}", source=source.host))
        async with desk.serving():
            said = await desk.run("gc", "--dry-run")
            assert "remark: every name stays until " in said.out, said
            assert "an hour to learn what clients are reading" in said.out, said
        desk.configure(CONFIGURATION.format(keep="{newest: 1}", source=source.host))
        said = await desk.run("gc", "--dry-run")
        assert (said.status, "remark" in said.out) == (0, False), said
        assert "2 of 3 names" in said.out, said


async def test_charts_are_called_as_they_are_served(tmp_path: Path) -> None:
    """The list has the path of an archive below the address, and counts versions, not the indexes of them."""
    desk = Desk(tmp_path)
    async with ChartRepository() as source:
        for version in ("1.0.0", "2.0.0"):
            source.add(build_chart("app", version))
        mirrors = f"mirrors: [{{name: web, kind: helm, from: '{source.url}', to: local}}]\n"
        desk.configure(mirrors)
        assert (await desk.run("sync")).status == 0
        desk.configure(f"settings: {{local: {{keep: {{newest: 1}}}}}}\n{mirrors}")
        said = await desk.run("gc", "--dry-run")
        assert said.out.splitlines()[1].split()[0] == "/helm/web/charts/app-1.0.0.tgz", said
        assert "1 of 2 names" in said.out, said
