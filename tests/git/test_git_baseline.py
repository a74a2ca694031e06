"""Nothing is deleted by a run that knows of no earlier one: the record has to vouch for what the cache has."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass

import pytest

from mirrord.model.plan import Action, Step
from mirrord.model.run import Result, Run
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.testing.gitrepos import Upstream
from tests.support.gitworld import GitWorld

NAME = "app.git"
REMARK = "nothing is known of earlier runs: this one deletes nothing, and the next one compares with what it saw"
FACTS = "app.git.json"


@dataclass(slots=True)
class Scene:
    """A repository that was mirrored to one host and to `local`."""

    world: GitWorld
    upstream: Upstream
    target: Upstream
    mirror: Mirror

    async def everywhere(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return what the host and `local` have."""
        served = (await self.world.cache(self.mirror).known.read()).served
        return self.target.refs(), dict(served.refs if served else {})

    def lose(self) -> None:
        """Lose the record; the cache stays."""
        shutil.rmtree(self.world.folder / "facts")

    def noted(self) -> dict[str, str]:
        """Return what the record vouches for."""
        found: dict[str, str] = json.loads((self.world.folder / "facts" / FACTS).read_bytes())
        return found


@pytest.fixture
async def scene(world: GitWorld) -> Scene:
    """Mirror three branches and two tags."""
    source, one = await world.host("source"), await world.host("one")
    upstream = Upstream(source.create(NAME))
    first = upstream.commit("main", {"README.md": b"one\n"})
    for branch in ("dev", "other"):
        upstream.commit(branch, {f"{branch}.txt": b"1\n"}, parent=first)
    upstream.tag("v1", first)
    upstream.tag("v2", "main", annotated=True)
    target = Upstream(one.create(NAME))
    made = Scene(world, upstream, target, world.mirror(source.url(NAME), one=one.url(NAME), local=LOCAL))
    assert (await world.run(made.mirror)).result is Result.SUCCESS
    return made


def steps(run: Run) -> list[Step]:
    """Return what the plan of a run has."""
    return list(run.plan.steps) if run.plan else []


def deletions(run: Run) -> list[tuple[str, str, Action]]:
    """Return what became of refs that upstream has no more."""
    return sorted((step.target, step.item, step.action) for step in steps(run) if step.item == "refs/heads/dev")


async def test_a_lost_record_costs_one_run_without_deletions(scene: Scene) -> None:
    """With the cache alone left a run keeps what upstream lost, everywhere, and says so; the next one deletes it."""
    scene.lose()
    scene.upstream.delete("refs/heads/dev")
    scene.upstream.commit("main", {"README.md": b"two\n"})
    before = scene.target.refs()["refs/heads/dev"]
    run = await scene.world.run(scene.mirror)
    assert run.remarks == (REMARK, *(f"the next run deletes at {name}: refs/heads/dev" for name in ("one", LOCAL)))
    kept = {**scene.upstream.refs(), "refs/heads/dev": before}
    assert await scene.everywhere() == (kept, kept)
    assert await scene.world.backups(scene.mirror) == {}
    assert deletions(run) == [(name, "refs/heads/dev", Action.KEEP) for name in ("local", "one")]
    run = await scene.world.run(scene.mirror)
    assert run.remarks == ()
    assert deletions(run) == [(name, "refs/heads/dev", Action.DELETE) for name in ("local", "one")]
    assert await scene.everywhere() == (scene.upstream.refs(), scene.upstream.refs())
    assert await scene.world.backups(scene.mirror) == {"refs/heads/dev": before}


async def test_a_run_with_nothing_to_do_vouches_for_the_cache(scene: Scene) -> None:
    """After an upgrade, too, one run is enough, whatever it does; a later one deletes as ever, and writes nothing."""
    scene.lose()
    run = await scene.world.run(scene.mirror)
    assert (run.result, run.remarks) == (Result.NOOP, ())
    file = scene.world.folder / "facts" / FACTS
    noted = file.stat().st_mtime_ns
    await scene.world.run(scene.mirror)
    assert file.stat().st_mtime_ns == noted
    scene.upstream.delete("refs/heads/dev")
    run = await scene.world.run(scene.mirror)
    assert (run.result, run.remarks) == (Result.SUCCESS, ())
    assert await scene.everywhere() == (scene.upstream.refs(), scene.upstream.refs())


async def test_allow_deletes_at_once(scene: Scene) -> None:
    """Somebody looked: then nothing has to be known."""
    scene.lose()
    scene.upstream.delete("refs/heads/dev")
    run = await scene.world.run(scene.mirror, allow=True)
    assert (run.result, run.remarks) == (Result.SUCCESS, ())
    assert await scene.everywhere() == (scene.upstream.refs(), scene.upstream.refs())


async def test_the_guard_judges_by_the_cache_all_the_same(scene: Scene) -> None:
    """Without a record an accident is refused as with one, and nothing is vouched for by that."""
    scene.lose()
    for ref in set(scene.upstream.refs()) - {"refs/heads/main"}:
        scene.upstream.delete(ref)
    before = scene.target.refs()
    run = await scene.world.run(scene.mirror)
    assert {step.action for step in steps(run)} == {Action.REFUSE}, run.plan
    assert await scene.everywhere() == (before, before)
    assert not (scene.world.folder / "facts" / FACTS).exists()


async def test_another_cache_is_not_vouched_for(scene: Scene) -> None:
    """A cache that is not what the last run left (a backup of it, put back) deletes nothing either."""
    scene.upstream.commit("new", {"n": b"n\n"})
    await scene.world.run(scene.mirror)
    # the state before, and the one after: a crash between them leaves either
    assert sorted(scene.noted().values()) == ["5", "6"]
    await scene.world.cache(scene.mirror).repository.update({}, ["refs/heads/other"])
    scene.upstream.delete("refs/heads/dev")
    run = await scene.world.run(scene.mirror)
    assert run.remarks == (REMARK, *(f"the next run deletes at {name}: refs/heads/dev" for name in ("one", LOCAL)))
    assert "refs/heads/dev" in scene.target.refs()


async def test_what_is_in_the_way_goes_with_a_backup(scene: Scene) -> None:
    """A branch that gives way to a folder of branches is overwritten, not merely gone: kept as backup, and told."""
    scene.lose()
    old = scene.upstream.refs()["refs/heads/dev"]
    scene.upstream.delete("refs/heads/dev")
    scene.upstream.commit("dev/x", {"x": b"x\n"})
    run = await scene.world.run(scene.mirror)
    assert run.result is Result.SUCCESS, run.receipts
    assert await scene.everywhere() == (scene.upstream.refs(), scene.upstream.refs())
    assert await scene.world.backups(scene.mirror) == {"refs/heads/dev": old}
    reasons = {step.reason for step in steps(run) if step.item == "refs/heads/dev"}
    assert reasons == {
        f"its name and that of what is upstream cannot both be: {old[:7]} is deleted, kept as backup",
    }


async def test_a_repository_that_never_was(world: GitWorld) -> None:
    """The first run of a mirror says that there is no such repository, not that it is gone."""
    source = await world.host("source")
    run = await world.run(world.mirror(source.url("none.git"), local=LOCAL))
    assert run.result is Result.FAILED
    assert run.error.endswith("there is no such repository, or it may not be read with these credentials")
    assert "blocked" not in run.error
