"""`mirrord prune` of a mirror of many repositories: those of a list."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirrord.model.origin import ConfigOrigin
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import Registry, push
from tests.support.pruning import OTHER, V1, V2, Pruned, done, stays
from tests.support.world import World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


class Listed:
    """A mirror of the lines of a file, to one target and `local`."""

    def __init__(self, world: World, source: Registry, one: Registry) -> None:
        self.world, self.source, self.one = world, source, one
        self.file = world.folder / "images.txt"

    async def open(self) -> Pruned:
        for repository in ("team/app", "team/web", "team/db"):
            for tag, image in (("v1", V1), ("v2", V2)):
                await push(image, self.source, repository, [tag])
        self.name("team/app", "team/web", "team/db")
        mirror = self.world.mirror({"list": str(self.file), "tags": ["*"]}, self.one, LOCAL)
        mirror = replace(mirror, origin=ConfigOrigin(str(self.world.folder / "a.yaml"), 1))
        self.world.services = replace(self.world.services, facts=self.world.store)
        assert (await self.world.run(mirror)).result is Result.SUCCESS
        return Pruned(self.world, self.source, mirror)

    def name(self, *repositories: str) -> None:
        self.file.write_text("".join(f"{self.source.host}/{repository}\n" for repository in repositories))

    def tags(self, repository: str) -> set[str]:
        (path,) = [path for path in self.one.tags if path.endswith(repository)]
        return set(self.one.tags[path])

    def items(self, *names: str) -> set[tuple[str, str]]:
        return {("one", f"{self.source.host}/{name}") for name in names}


async def test_a_tag_of_one_repository(world: World) -> None:
    """A tag that one source lost goes there, and the tags of the same name stay in the others."""
    listed = Listed(world, await world.registry("source"), await world.registry("one"))
    pruned = await listed.open()
    del listed.source.content.tags["team/web"]["v1"]
    assert done(await pruned.twice()) == listed.items("team/web:v1")
    assert [listed.tags(name) for name in ("app", "web", "db")] == [{"v1", "v2"}, {"v2"}, {"v1", "v2"}]
    world.later(days=1)
    assert not (await pruned.prune()).receipts
    assert (await world.run(pruned.mirror)).result is Result.NOOP


async def test_a_repository_that_is_not_named_any_more(world: World) -> None:
    """All that was mirrored of it goes, after two looks, as long as it can be brought back."""
    listed = Listed(world, await world.registry("source"), await world.registry("one"))
    pruned = await listed.open()
    listed.name("team/app", "team/web")
    run = await pruned.twice()
    assert done(run) == listed.items("team/db:v1", "team/db:v2")
    assert "the mirror does not name this repository any more" in run.receipts[0].step.reason
    assert listed.tags("web") == {"v1", "v2"}


async def test_a_list_that_lost_most_lines(world: World) -> None:
    """It is an accident until the operator says otherwise: nothing goes, nothing is noted, and the plan says how."""
    listed = Listed(world, await world.registry("source"), await world.registry("one"))
    pruned = await listed.open()
    listed.name("team/app")
    for _ in range(3):
        run = await pruned.prune()
        assert (run.result, run.receipts) == (Result.FAILED, ())
        assert run.plan
        assert run.plan.missing_code == "guard"
        (why,) = run.plan.missing
        assert why.startswith("the configuration no longer names 4 of 6 tags (")
        assert why.endswith("nothing is removed; if this is intended, set `prune: {max_loss: 1}` for a time")
        world.later(days=2)
    meant = world.mirror({"list": str(listed.file), "tags": ["*"]}, listed.one, LOCAL, prune={"max_loss": 1})
    accident, pruned.mirror = pruned.mirror, replace(meant, origin=pruned.mirror.origin)
    assert not (await pruned.prune()).receipts
    world.later(days=2)
    pruned.mirror = accident  # what was noted is no accident any more
    run = await pruned.prune()
    assert done(run) == listed.items(*(f"team/{name}:v{tag}" for name in ("web", "db") for tag in (1, 2)))


async def test_a_repository_that_cannot_be_read(world: World) -> None:
    """Its tags stay, what was noted of them stays noted, and the run says so; the others are pruned."""
    listed = Listed(world, await world.registry("source"), await world.registry("one"))
    pruned = await listed.open()
    for repository in ("team/web", "team/app"):
        del listed.source.content.tags[repository]["v1"]
    await pruned.plan()
    world.later(days=2)
    fault = listed.source.faults.on("GET", "team/web/tags/list", times=None)
    fault.status(403)
    run = await pruned.prune()
    assert run.result is Result.PARTIAL
    assert done(run) == listed.items("team/app:v1")
    assert run.plan
    assert "team/web: its tags stay" in run.plan.missing[0]
    listed.source.faults.clear()
    assert done(await pruned.prune()) == listed.items("team/web:v1")


async def test_a_list_that_cannot_be_read(world: World) -> None:
    """An emptied or lost list removes nothing, and so does one with a line that nobody understands."""
    listed = Listed(world, await world.registry("source"), await world.registry("one"))
    pruned = await listed.open()
    for text in ("", f"{listed.source.host}/team/app\n{listed.source.host}/Team/We b\n"):
        listed.file.write_text(text)
        for _ in range(2):
            world.later(days=2)
            assert not (await pruned.prune()).receipts
    listed.file.unlink()
    assert (await pruned.prune()).result is Result.FAILED
    assert [listed.tags(name) for name in ("app", "web", "db")] == [{"v1", "v2"}] * 3


async def test_what_is_pinned_stays(world: World) -> None:
    """A line with a digest is wanted under its tag, whatever the source lists."""
    listed = Listed(world, await world.registry("source"), await world.registry("one"))
    pruned = await listed.open()
    listed.file.write_text(f"{listed.source.host}/team/app\n{listed.source.host}/team/web:v1@{V1.digest}\n")
    del listed.source.content.tags["team/web"]["v1"]
    run = await pruned.twice()
    assert done(run) == listed.items("team/web:v2", "team/db:v1", "team/db:v2")
    assert listed.tags("web") == {"v1"}


async def test_what_somebody_else_pushed(world: World) -> None:
    """Tags of others are shown with their repository in front, and stay."""
    listed = Listed(world, await world.registry("source"), await world.registry("one"))
    pruned = await listed.open()
    (path,) = [path for path in listed.one.tags if path.endswith("web")]
    await push(OTHER, listed.one, path, ["by-ci"])
    assert set(stays((await pruned.twice()).plan)) == listed.items("team/web:by-ci")
