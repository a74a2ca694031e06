"""What commands say, and how they end, when a chart repository has something wrong."""

from __future__ import annotations

from aiohttp import ClientSession

from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.commands import Desk


async def test_problems_end_well_and_are_counted(desk: Desk) -> None:
    """A version that is not there is exit code 0 and one problem; a digest that differs is 2, until it is skipped."""
    good, gone, odd = (build_chart(name, "1.0.0") for name in ("good", "gone", "odd"))
    async with ChartRepository() as source:
        for chart in (good, gone):
            source.add(chart)
        del source.files[f"charts/{gone.file}"]
        mirror = f"mirrors:\n  - name: m\n    kind: helm\n    from: {source.url}\n    to: [local]\n"
        desk.configure(mirror)
        assert "http://127.0.0.1:8080/helm/m\n" in (await desk.run("check")).out
        for result in ("success", "noop"):
            said = await desk.run("sync", "--json")
            assert said.status == 0, said
            (run,) = said.document["runs"]
            assert run["result"] == result
            assert [problem.partition(":")[0] for problem in run["problems"]] == ["gone-1.0.0"]
        stands = await desk.run("status", "--json")
        (whole,) = stands.document["mirrors"]
        assert (stands.status, whole["problems"]["count"], whole["consecutive_failures"]) == (0, 1, 0)
        assert whole["last_success"] is not None
        source.add(odd)
        source.files[f"charts/{odd.file}"] = good.data
        partly = await desk.run("sync")
        assert partly.status == 2
        assert 'skip: {odd: ["1.0.0"]}' in partly.out
        assert (await desk.run("status")).status == 1
        desk.configure(f'{mirror}    skip: {{odd: ["1.0.0"]}}\n')
        assert (await desk.run("sync")).status == 0
        assert "success, 1 problem" in (await desk.run("status")).out.replace("noop", "success")


async def test_an_index_is_no_chart(desk: Desk) -> None:
    """Chart versions are counted and listed, not the index beside them; where only that is behind, it is named."""
    async with ChartRepository() as source:
        for version in ("1.0.0", "1.1.0"):
            source.add(build_chart("app", version))
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\n"
            "targets: {down: {kind: helm, to: 'http://127.0.0.1:9/charts', api: chartmuseum}}\n"
            f"mirrors:\n  - {{name: m, kind: helm, from: {source.url}, to: [local, down]}}\n"
        )
        for written, kept in ((2, 0), (0, 2)):
            assert (await desk.run("sync")).status == 2
            (whole,) = (await desk.run("status", "--json")).document["mirrors"]
            local, down = ({"local": {}, "down": {}} | {one["name"]: one for one in whole["targets"]}).values()
            assert (whole["items"], local["items"], down["items"], down["behind"]) == (2, 2, 0, 1)
            assert [local["last_run"][word] for word in ("done", "kept", "failed")] == [written, kept, 0]
            assert [down["last_run"][word] for word in ("done", "kept", "failed")] == [0, 0, 1]
        assert "2 up to date" in (await desk.run("plan")).out
        async with desk.serving() as daemon, ClientSession(f"http://{daemon.address}") as session:
            async with session.get("/api/v1/mirrors/m/items") as answer:
                assert [one["item"] for one in (await answer.json())["items"]] == ["app-1.0.0", "app-1.1.0"]
            async with session.get("/log/m.txt") as answer:
                lines = [line.split(" ") for line in (await answer.text()).splitlines()]
        about = [(line[1], line[2].partition("#")[2]) for line in lines]
        assert about[-3:] == [
            ("SYNCHRONIZED:", "app-1.0.0"),
            ("SYNCHRONIZED:", "app-1.1.0"),
            ("NOT-SYNCHRONIZED:", "index"),
        ]
