"""Takedowns of charts by several processes at once, and beside a daemon that mirrors: all of it goes, and no more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mirrord.testing import Registry
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.chartfiles import sign_chart
from tests.support.chartruns import site, sound
from tests.support.commands import Desk
from tests.support.localstore import files_in

CHARTS = {f"app-{number}.0.0": build_chart("app", f"{number}.0.0") for number in range(1, 7)}
GONE = ("app-1.0.0", "app-2.0.0")
LEFT = CHARTS.keys() - set(GONE)


class Work:
    """A mirror of signed charts to a registry, a folder and `local`."""

    def __init__(self, desk: Desk, source: ChartRepository, target: Registry) -> None:
        self.desk, self.source, self.target = desk, source, target

    def words(self, item: str) -> tuple[str, ...]:
        return ("takedown", "charts", item, "--reason", "asked to")

    def ended(self, added: frozenset[str] = frozenset()) -> None:
        """Check that what was taken down is nowhere, and all else is whole everywhere."""
        left, state = LEFT | added, self.desk.folder / "state"
        assert {f"app-{tag}" for tag in self.target.content.tags["m/app"]} == left
        folder = site(self.desk.folder / "site")
        assert sound(folder).keys() == left
        assert sound(files_in(state / "repositories", state / "blobs", "_helm/charts")).keys() == left
        archives = {
            Path(name).name for name in folder if name.startswith("charts/") and not name.startswith("charts/.")
        }
        assert archives == {f"{item}{end}" for item in left for end in (".tgz", ".tgz.prov")}
        for item in GONE:
            assert not [one for one in state.rglob(CHARTS[item].digest.hex) if one.is_file()]
        denied = (self.desk.folder / "denied.yaml").read_text()
        assert [denied.count(item) for item in GONE] == [1, 1]


@asynccontextmanager
async def mirrored(desk: Desk) -> AsyncIterator[Work]:
    async with ChartRepository() as source, Registry() as target:
        for chart in CHARTS.values():
            source.add(chart, prov=sign_chart(chart.data))
        (desk.folder / "denied.yaml").touch()
        places = {"one": f"oci://{target.host}/m", "site": f"{desk.folder}/site"}
        sections = {
            "settings": {"listen": "127.0.0.1:0", "denied": f"{desk.folder}/denied.yaml"},
            "targets": {one: {"kind": "helm", "to": to} for one, to in places.items()},
            "mirrors": [
                {"name": "charts", "kind": "helm", "from": source.url, "trust": "0s", "to": [*places, "local"]}
            ],
        }
        desk.configure("".join(f"{key}: {json.dumps(value)}\n" for key, value in sections.items()))
        assert (await desk.run("sync")).status == 0
        yield Work(desk, source, target)


async def test_two_commands(desk: Desk) -> None:
    """Of different versions: one does its own, the other one waits for nothing and says that the state is in use."""
    async with mirrored(desk) as work:
        said = await asyncio.gather(*(desk.run(*work.words(item)) for item in GONE))
        assert {one.status for one in said} <= {0, 75}, said
        assert 0 in {one.status for one in said}, said
        for item in GONE:
            again = await desk.run(*work.words(item))
            assert again.status == 0, again
        work.ended()
        assert (await desk.run("sync", "--json")).document["runs"][0]["result"] == "noop"
        work.ended()


async def test_beside_a_daemon_that_mirrors(desk: Desk) -> None:
    """The daemon takes down for two commands while it mirrors a new version; none undoes what another one did.

    A run that began before may have listed what went meanwhile: it says so, and so does the takedown.
    """
    async with mirrored(desk) as work:
        async with desk.serving():
            fresh = build_chart("app", "7.0.0")
            work.source.add(fresh, prov=sign_chart(fresh.data))
            said = await asyncio.gather(
                *(desk.run(*work.words(item)) for item in GONE), *(desk.run("sync", "charts") for _ in range(2))
            )
            assert all(one.status in (0, 2) for one in said), "\n".join(one.out for one in said)
            assert (await desk.run("sync", "charts")).status == 0
            again = [await desk.run(*work.words(item)) for item in GONE]
            assert [one.status for one in again] == [0] * 2, "\n".join(one.out for one in again)
            assert (await desk.run("sync", "charts")).status == 0
        work.ended(frozenset({"app-7.0.0"}))
