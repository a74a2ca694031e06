"""What /metrics says of bytes after real runs of every kind: who got them, by the names in the configuration."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp

from mirrord.testing import Registry, build_image, push
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.servers import require
from tests.support.commands import Desk

BYTES = re.compile(r'^mirrord_transfer_bytes_total\{direction="(\w+)",target="([^"]*)"\} (\S+)$', re.MULTILINE)


def packs(repository: Path) -> int:
    return sum(file.stat().st_size for file in (repository / "objects" / "pack").glob("*.pack"))


async def test_every_target_has_its_bytes(tmp_path: Path) -> None:
    """F6: of a daemon that mirrored an image, charts and a repository, each target has exactly what went to it."""
    require("git")
    desk, image, chart = Desk(tmp_path), build_image(layer_size=100_000), build_chart("app", "1.0.0")
    async with (
        Registry() as source,
        Registry() as east,
        Registry() as oci,
        ChartRepository() as charts,
        GitHost(tmp_path / "upstream") as upstream,
        GitHost(tmp_path / "forge") as forge,
    ):
        await push(image, source, "a", ["v1"])
        charts.add(chart)
        Upstream(upstream.create("code.git")).commit("main", {"a": b"a" * 5000}, parent=None)
        there = forge.create("code.git", receive__unpackLimit="1")
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\n"
            "targets:\n"
            f"  east: {{kind: image, to: {east.host}/mirror}}\n"
            f"  charts: {{kind: helm, to: 'oci://{oci.host}/charts'}}\n"
            f"  forge: {{kind: git, to: '{forge.base}/{{name}}.git'}}\n"
            "mirrors:\n"
            f"- {{name: app, kind: image, from: {{repository: {source.host}/a, tags: [v1]}}, to: [east, local]}}\n"
            f"- {{name: helm, kind: helm, from: {charts.url}, to: charts}}\n"
            f"- {{name: code, kind: git, from: '{upstream.url('code.git')}', to: forge}}\n"
        )
        async with desk.serving() as daemon, aiohttp.ClientSession() as session:
            synced = await desk.run("sync")
            assert synced.status == 0, synced
            async with session.get(f"http://{daemon.address}/metrics") as answer:
                found = BYTES.findall(await answer.text())
        assert {target: float(count) for direction, target, count in found if direction == "sent"} == {
            "east": image.size,
            "local": image.size,
            "charts": len(chart.data),
            "forge": packs(there),
        }
