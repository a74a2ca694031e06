"""What is said of chart repositories that cannot be mirrored: which file and key, what is wrong, what to write."""

from __future__ import annotations

from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.commands import Desk

EMPTY = b"apiVersion: v1\nentries: {}\n"


def configured(desk: Desk, url: str, more: str = "") -> None:
    desk.configure(f"mirrors:\n  - name: m\n    kind: helm\n    from: {url}\n    to: [local]\n{more}")


async def test_what_is_no_repository(desk: Desk) -> None:
    """No index, or a web page in its place: the mirror's line and what to write; `index.yaml` in `from` is refused."""
    async with ChartRepository() as source:
        configured(desk, f"{source.url}/nowhere")
        said = await desk.run("sync")
        assert said.status == 1
        where = f"conf.d/a.yaml:2: mirrors.m.from: {source.url}/nowhere has no index.yaml (status 404); "
        assert f"error: {where}write the URL that `helm repo add` takes" in said.out
        source.files["page/index.yaml"] = b"<html>login</html>"
        configured(desk, f"{source.url}/page")
        said = await desk.run("sync")
        assert "error: conf.d/a.yaml:2: mirrors.m.from: " in said.out
        assert "index.yaml is a web page (HTML or XML), no chart index" in said.out
        configured(desk, f"{source.url}/index.yaml")
        said = await desk.run("check")
        assert said.status == 78
        index = f"conf.d/a.yaml:4: mirrors.m.from: '{source.url}/index.yaml' is the index"
        assert f"{index}; write the URL of its folder: {source.url}\n" in said.err


async def test_nothing_to_mirror_is_said(desk: Desk) -> None:
    """An index without charts, and a selection that takes none, end well; each is said, by every run and the status."""
    async with ChartRepository() as source:
        source.files["empty/index.yaml"] = EMPTY
        source.add(build_chart("good", "1.0.0"))
        for path, more, none in (
            ("/empty", "", "lists no charts yet"),
            ("", '    versions: ">=2"\n', "lists 1 version, and this mirror's selection takes none"),
        ):
            configured(desk, source.url + path, more)
            remark = f"upstream {none}: there is nothing to mirror"
            for _ in range(2):
                said = await desk.run("sync")
                assert (said.status, f"remark: {remark}" in said.out) == (0, True), said
            assert f"m: remark: {remark}" in (await desk.run("status")).out


async def test_all_was_taken_down(desk: Desk) -> None:
    """Where nothing is left since it was taken down, that is said, and not that the selection takes none."""
    async with ChartRepository() as source:
        source.add(build_chart("good", "1.0.0"))
        denied = desk.folder / "denied.yaml"
        denied.write_text("- {mirror: m, item: good-1.0.0, reason: a claim}\n")
        mirror = f"{{name: m, kind: helm, from: '{source.url}', to: local}}"
        desk.configure(f"settings: {{denied: '{denied}'}}\nmirrors: [{mirror}]\n")
        said = await desk.run("sync")
        assert (said.status, "good-1.0.0: taken down, so not mirrored: a claim" in said.out) == (0, True), said
        assert "there is nothing to mirror" not in said.out


async def test_what_cannot_be_fetched(desk: Desk) -> None:
    """When not one archive can be fetched no index is written, and both are said."""
    async with ChartRepository() as source:
        chart = build_chart("good", "1.0.0")
        source.add(chart)
        del source.files[f"charts/{chart.file}"]
        configured(desk, source.url)
        said = await desk.run("sync")
        assert said.status == 1
        assert "none of the wanted versions (1) could be fetched; no index is written" in said.out
        assert "problem: good-1.0.0: " in said.out
        assert "none of the wanted versions (1) can be fetched; no index is written" in (await desk.run("sync")).out
