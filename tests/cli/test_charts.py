"""What commands say, and how they end, when a chart repository has something wrong."""

from __future__ import annotations

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
