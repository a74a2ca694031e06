"""Default branches of plain hosts and of what is served here: whoever clones gets files, or the plan says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.running import run
from tests.support.gitworld import GitWorld, receipts

NAME = "app.git"
MAIN, X = "refs/heads/main", "refs/heads/x"
BY_HAND = "should be main: set it there by hand"


@pytest.fixture
async def source(world: GitWorld) -> GitHost:
    """Serve an upstream with two branches and a tag."""
    host = await world.host("source")
    upstream = Upstream(host.create(NAME))
    first = upstream.commit("main", {"README.md": b"one\n"})
    upstream.commit("x", {"x.txt": b"x\n"}, parent=first)
    upstream.tag("v1", first)
    return host


async def cloned(url: object, folder: Path) -> set[str]:
    """Clone as anybody would; return the names of the files that are checked out."""
    said = await run("git", "clone", "-q", str(url), folder)
    assert said.status == 0, said.output
    return {file.name for file in folder.iterdir()} - {".git"}


async def test_a_plain_target_whose_head_leads_nowhere_is_told(
    world: GitWorld, source: GitHost, tmp_path: Path
) -> None:
    """`git init --bare` with master, upstream with main: plan and run say so each day, until somebody sets it."""
    d2 = await world.host("d2")
    d2.create(NAME, head="master")
    mirror = world.mirror(source.url(NAME), d2=d2.url(NAME))
    remark = f"d2: the default branch there is master, which does not exist; it {BY_HAND}"
    assert (await world.plan(mirror)).remarks == (remark,)
    first = await world.run(mirror)
    assert (first.result, first.remarks) == (Result.SUCCESS, (remark,))
    assert await cloned(d2.url(NAME), tmp_path / "before") == set()
    d2.forget()
    again = await world.run(mirror)
    assert (again.result, again.remarks, d2.count("*")) == (Result.NOOP, (remark,), 1)
    Upstream(d2.path(NAME)).head("x")
    assert (await world.run(mirror)).remarks == (f"d2: the default branch there is x; it {BY_HAND}",)
    Upstream(d2.path(NAME)).head("main")
    assert (await world.run(mirror)).remarks == ()
    assert await cloned(d2.url(NAME), tmp_path / "after") == {"README.md"}


async def test_narrowing_refs_is_followed_and_what_is_served_can_be_cloned(
    world: GitWorld, source: GitHost, tmp_path: Path
) -> None:
    """`refs:` leaves out upstream's default branch from now on: no accident; x stands in, here and in what is said."""
    d2 = await world.host("d2")
    d2.create(NAME)
    places = {"d2": d2.url(NAME), LOCAL: LOCAL}
    await world.run(world.mirror(source.url(NAME), places))
    narrow = world.mirror(source.url(NAME), places, keys={"refs": [X]})
    done = await world.run(narrow)
    assert done.error == ""
    assert "the default branch is x: upstream's own, main, is not mirrored" in done.remarks
    assert any(remark.startswith("d2: the default branch there is main") for remark in done.remarks)
    assert {ref for ref, one in receipts(done, LOCAL).items() if one.good} == {"HEAD", MAIN, "refs/tags/v1"}
    cache = world.cache(narrow).folder
    assert set(Upstream(cache).refs()) >= {X}
    assert await cloned(cache, tmp_path / "clone") == {"x.txt", "README.md"}
    told = receipts(done, "d2")[MAIN]  # git keeps the branch that HEAD points to
    assert "default" in told.detail
    Upstream(d2.path(NAME)).head("x")
    assert (await world.run(narrow)).result is Result.SUCCESS
    assert set(d2.refs(NAME)) == {X}


@pytest.mark.parametrize("chosen", [[X], ["refs/tags/*"]])
async def test_a_mirror_without_the_default_branch_rests_when_nothing_changes(
    world: GitWorld, source: GitHost, monkeypatch: pytest.MonkeyPatch, chosen: list[str]
) -> None:
    """From the first run on a clone gets what is there; an idle run asks once, and starts no process."""
    mirror = world.mirror(source.url(NAME), keys={"refs": chosen}, local=LOCAL)
    for _ in range(2):  # the own day of the month of its check may have come
        await world.run(mirror)
    head = await world.cache(mirror).repository.head()
    assert head == (X if chosen == [X] else MAIN)
    started: list[object] = []
    monkeypatch.setattr("mirrord.wire.git.command.Git.run", lambda *args, **_: started.append(args))
    source.forget()
    assert (await world.run(mirror)).result is Result.NOOP
    assert (source.count("*"), started) == (1, [])


async def test_an_upstream_whose_head_leads_nowhere(world: GitWorld, source: GitHost, tmp_path: Path) -> None:
    """Upstream's HEAD names a branch that is not there: the mirror has one that is, and says which."""
    Upstream(source.path(NAME)).head("gone")
    mirror = world.mirror(source.url(NAME), local=LOCAL)
    done = await world.run(mirror)
    assert done.remarks == ("the default branch is main: upstream's own, gone, does not exist",)
    assert await cloned(world.cache(mirror).folder, tmp_path / "clone") == {"README.md"}
