"""`mirrord plan` of several mirrors: each is planned on its own, whatever befalls the others."""

from __future__ import annotations

import pytest

from mirrord.errors import StorageError
from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk, Said


def configured(desk: Desk, source: Registry, dead: str, *names: str) -> None:
    """Write one good mirror and two whose source cannot be read."""
    froms = {
        "good": f"kind: image, from: {{repository: {source.host}/a, tags: [v1]}}",
        "dead": f"kind: image, from: {{repository: {dead}/a, tags: ['v*']}}",
        "gone": f"kind: helm, from: http://{source.host}/charts",
    }
    lines = "".join(f"- {{name: {name}, {froms[name]}, to: local}}\n" for name in names)
    desk.configure(f"settings: {{listen: '127.0.0.1:0'}}\nmirrors:\n{lines}")


async def planned(desk: Desk, *words: str, daemon: bool) -> Said:
    if not daemon:
        return await desk.run("plan", *words)
    async with desk.serving():
        return await desk.run("plan", *words)


@pytest.mark.parametrize("daemon", [False, True], ids=["alone", "daemon"])
async def test_a_dead_source_empties_no_other_plan(desk: Desk, dead: str, daemon: bool) -> None:
    """A8, newcomer F5: the good mirror's plan is shown, the others say which they are and why, and the code is 2."""
    async with Registry() as source:
        await push(build_image(), source, "a", ["v1"])
        configured(desk, source, dead, "dead", "gone", "good")
        said = await planned(desk, daemon=daemon)
        assert said.status == 2, said
        assert "good (image): 1 to do" in said.out
        assert "dead (image): cannot be planned\nerror: " in said.out
        assert dead in said.out
        assert "gone (helm): cannot be planned\nerror: " in said.out


async def test_a_folder_that_cannot_be_looked_at_empties_no_other_plan(desk: Desk) -> None:
    """The disk says no to one source (a name too long, rights): that mirror says so, the others are planned."""
    far = "n" * 300
    (desk.folder / "builds").mkdir()
    desk.configure(
        "mirrors:\n"
        f"- {{name: folder, kind: image, from: {{layouts: {far}}}, to: local}}\n"
        f"- {{name: one, kind: image, from: {{layout: {far}, names: [a]}}, to: local}}\n"
        f"- {{name: saved, kind: image, from: {{archive: {far}, names: [a]}}, to: local}}\n"
        "- {name: good, kind: image, from: {layouts: builds}, to: local}\n"
    )
    said = await planned(desk, daemon=False)
    assert (said.status, said.err) == (2, "")
    assert "good (image): 0 to do" in said.out
    for name in ("folder", "one", "saved"):
        assert f"{name} (image): cannot be planned\nerror: {far}: File name too long" in said.out
        synced = await desk.run("sync", name)
        assert synced.status == StorageError.exit_code
        assert f"error: {far}: File name too long" in synced.out


async def test_machines_get_the_same(desk: Desk, dead: str) -> None:
    """With --json each mirror has its plan or its error, with the error's code."""
    async with Registry() as source:
        await push(build_image(), source, "a", ["v1"])
        configured(desk, source, dead, "dead", "gone", "good")
        plans = {plan["mirror"]: plan for plan in (await planned(desk, "--json", daemon=False)).document["plans"]}
    assert [step["names"] for step in plans["good"]["steps"]] == [["v1"]]
    assert {name: plan["code"] for name, plan in plans.items()} == {
        "good": "",
        "dead": "unreachable",
        "gone": "missing",
    }
    assert plans["dead"]["error"]
    assert plans["dead"]["steps"] == []


@pytest.mark.parametrize(("names", "status"), [(["dead"], 69), (["gone"], 1), (["dead", "gone"], 1), (["good"], 0)])
async def test_nothing_that_could_be_planned(desk: Desk, dead: str, names: list[str], status: int) -> None:
    """When no mirror could be planned, the exit code says why: 69 when nothing was reachable, else 1."""
    async with Registry() as source:
        await push(build_image(), source, "a", ["v1"])
        configured(desk, source, dead, *names)
        assert (await planned(desk, daemon=False)).status == status


async def test_a_glob_that_matches_no_tag_is_a_remark(desk: Desk) -> None:
    """`plan`, `sync` and `status` name each glob of `tags` that matches nothing, with tags that were seen."""
    async with Registry() as source:
        await push(build_image(layers=1), source, "a", ["v3.30.1", "v3.30.2"])
        patterns = "['v3.3O.*', 'v3*1']"
        desk.configure(
            f"mirrors: [{{name: m, kind: image, from: {{repository: {source.host}/a, tags: {patterns}}}, to: local}}]\n"
        )
        for command in ("plan", "sync", "status"):
            said = await desk.run(command)
            assert said.status == 0, said.err
            assert "remark: no tag matches v3.3O.*; 2 tags seen, such as v3.30.1, v3.30.2" in said.out
            assert "matches v3*1" not in said.out
