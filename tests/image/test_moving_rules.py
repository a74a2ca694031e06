"""The rules for `main`, one by one: what a folder may move, what a publish may, and what it costs to know."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from mirrord.model.run import Result, Run
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.testing import Image, Registry, build_image, push
from tests.support.artifacts import build_nested
from tests.support.layouts import write_layout
from tests.support.store import MemoryStore
from tests.support.world import World

PLACE = "mirror/app"
CREATED = "org.opencontainers.image.created"
ONE = ["linux/amd64"]


def day(number: int) -> str:
    return f"2024-05-{number:02}T00:00:00Z"


def image(seed: str, number: int = 0) -> Image:
    """Build an image, annotated with a day in May 2024 (the world's clock says the 17th) unless that is 0."""
    return build_image(ONE, seed=seed, annotations={CREATED: day(number)} if number else None)


class Folder:
    """A mirror of layouts to one registry and the local store."""

    def __init__(self, world: World, target: Registry) -> None:
        self.world, self.target, self.path = world, target, world.folder / "builds"
        self.path.mkdir()
        self.made: dict[str, str] = {}

    @property
    def mirror(self) -> Mirror:
        return self.world.mirror({"layouts": self.path}, self.target, LOCAL, trust=0.0)

    def add(self, commit: str, number: int = 0, *, changed: int = 1) -> Image:
        """Leave a build of `main`; its files last changed on a day in May 2024."""
        made = image(commit, number)
        self.made[str(made.digest)] = commit
        folder = write_layout(made, self.path / commit, "main", commit)
        moment = datetime(2024, 5, changed, tzinfo=UTC).timestamp()
        os.utime(folder, (moment, moment))
        return made

    async def sync(self) -> Run:
        return await self.world.run(self.mirror)

    async def publish(self, commit: str, number: int = 0, *, if_newest: bool = False, order: int | None = None) -> Run:
        made = image(commit, number)
        self.made[str(made.digest)] = commit
        layout = write_layout(made, self.world.folder / f"published-{commit}")
        names = f"main-{commit}", "main"
        return await self.world.publish(self.mirror, f"oci:{layout}", *names, if_newest=if_newest, number=order)

    @property
    def main(self) -> set[str]:
        """The commits that `main` stands for at the two places."""
        found = (self.target.tags[PLACE]["main"], self.world.local_tags()["main"])
        return {self.made.get(digest, digest) for digest in found}


@pytest.fixture
async def folder(world: World) -> Folder:
    return Folder(world, await world.registry("one"))


async def test_annotated_builds_move_main_only_forward(folder: Folder) -> None:
    """A build that was made before the one that `main` was moved to last arrives late: it gets its own tag alone."""
    for commit, number, expected in (("b", 5, "b"), ("a", 3, "b"), ("c", 5, "b"), ("d", 6, "d")):
        folder.add(commit, number)
        await folder.sync()
        assert folder.main == {expected}, commit
    assert set(folder.target.tags[PLACE]) == {"main", "main-a", "main-b", "main-c", "main-d"}


async def test_main_stays_when_its_build_leaves_the_folder(folder: Folder) -> None:
    """The newest layout is removed: `main` stays with it, and the remark says for whom it stays and why."""
    folder.add("a", 3)
    await folder.sync()
    b = folder.add("b", 5)
    await folder.sync()
    shutil.rmtree(folder.path / "b")
    run = await folder.sync()
    assert (run.result, folder.main) == (Result.NOOP, {"b"})
    told = f"main left alone: it is main-b ({b.digest}), created {day(5)}; main-a is not newer"
    assert set(run.remarks) == {f"one: {told}", f"{LOCAL}: {told}"}


async def test_unannotated_builds_move_main_when_they_are_first_seen(folder: Folder) -> None:
    """Builds that say nothing move `main` in the order in which they appear; touching old files moves nothing."""
    for commit, changed in (("a", 1), ("b", 2), ("c", 3)):
        folder.add(commit, changed=changed)
        await folder.sync()
        assert folder.main == {commit}
    for commit, changed in (("a", 9), ("b", 8)):
        folder.add(commit, changed=changed)
        assert (await folder.sync()).result is Result.NOOP
        assert folder.main == {"c"}


async def test_several_unannotated_builds_at_once(folder: Folder) -> None:
    """Of builds that say nothing and are all new, the one whose files are the youngest gets `main`, once for all."""
    for commit, changed in (("a", 2), ("b", 3), ("c", 1)):
        folder.add(commit, changed=changed)
    await folder.sync()
    assert folder.main == {"b"}
    assert (await folder.sync()).result is Result.NOOP


async def test_annotated_and_other_builds_side_by_side(folder: Folder) -> None:
    """A build that says nothing moves `main` when it appears, and later only an annotated one that is newer."""
    folder.add("a", 3)
    await folder.sync()
    folder.add("b", changed=9)
    await folder.sync()
    assert folder.main == {"b"}
    assert (await folder.sync()).result is Result.NOOP
    folder.add("c", 2)
    await folder.sync()
    assert folder.main == {"b"}
    folder.add("d", 4)
    await folder.sync()
    assert folder.main == {"d"}


async def test_a_publish_overrides_the_folder_until_a_later_build(folder: Folder) -> None:
    """`publish` on the 17th: what was made before stays off `main`, what was made after moves it."""
    folder.add("a", 3)
    folder.add("b", 5)
    await folder.sync()
    assert (await folder.publish("a", 3)).result is Result.SUCCESS
    assert folder.main == {"a"}
    run = await folder.sync()
    assert (run.result, folder.main) == (Result.NOOP, {"a"})
    assert all("by publish 1 of 2024-05-17T12:00:00Z; only a build created later moves it" in r for r in run.remarks)
    folder.add("c", 16)
    folder.add("late", changed=16)
    await folder.sync()
    assert folder.main == {"a"}
    folder.add("d", 18)
    await folder.sync()
    assert folder.main == {"d"}


async def test_a_publish_mends_a_date_that_was_wrong(folder: Folder) -> None:
    """A build said that it was made in the future: with its layout gone and a publish after it, dates count again."""
    folder.add("a", 3)
    folder.add("future", 30)
    await folder.sync()
    shutil.rmtree(folder.path / "future")
    folder.add("b", 16)
    await folder.sync()
    assert folder.main == {"future"}
    await folder.publish("b", 16)
    folder.add("c", 18)
    await folder.sync()
    assert folder.main == {"c"}


async def test_what_was_published_is_put_right_from_the_folder(folder: Folder) -> None:
    """A rollback to a build of the folder lasts: somebody moves `main`, and the next run moves it back."""
    folder.add("a", 3)
    folder.add("b", 5)
    await folder.sync()
    await folder.publish("a", 3)
    folder.target.tags[PLACE]["main"] = folder.target.tags[PLACE]["main-b"]
    assert (await folder.sync()).result is Result.SUCCESS
    assert folder.main == {"a"}
    assert (await folder.sync()).result is Result.NOOP


async def test_an_unannotated_build_after_a_publish(folder: Folder) -> None:
    """A build that says nothing, appears after a publish and was written after it, moves `main`."""
    folder.add("a", changed=3)
    await folder.sync()
    await folder.publish("p")
    assert (await folder.sync()).result is Result.NOOP
    assert folder.main == {"p"}
    folder.add("b", changed=18)
    await folder.sync()
    assert folder.main == {"b"}


async def test_a_late_publish_moves_nothing(folder: Folder) -> None:
    """Accepted in the order 1, 2 and carried out in the order 2, 1: `main` stays with 2, and 1 says why."""
    first, second = [await folder.world.store.accept("app") for _ in range(2)]
    await folder.publish("b", order=second)
    run = await folder.publish("a", order=first)
    assert (run.result, folder.main) == (Result.SUCCESS, {"b"})
    assert "main-a" in folder.target.tags[PLACE]
    assert set(run.remarks) == {
        f"{name}: main left alone: publish 2, accepted later than this one (1), has moved it" for name in ("one", LOCAL)
    }
    assert (await folder.publish("a")).result is Result.SUCCESS
    assert folder.main == {"a"}


async def test_a_late_publish_moves_nothing_where_the_later_one_failed(folder: Folder) -> None:
    """The later publish got only to one of two places: the earlier one does not take `main` at the other."""
    await folder.publish("old")
    first, second = [await folder.world.store.accept("app") for _ in range(2)]
    folder.target.faults.on("PUT", "/manifests/", times=None).status(403)
    await folder.publish("b", order=second)
    folder.target.faults.clear()
    await folder.publish("a", order=first)
    assert folder.main == {"old", "b"}
    assert "main-a" in folder.target.tags[PLACE]


async def test_a_publish_after_the_folder_moved_on(folder: Folder) -> None:
    """A publish that comes late is late also when the folder has moved `main` in between."""
    first, second = [await folder.world.store.accept("app") for _ in range(2)]
    await folder.publish("b", order=second)
    folder.add("c", 20)
    await folder.sync()
    await folder.publish("a", order=first)
    assert folder.main == {"c"}


async def test_a_lost_record_moves_main_only_past_what_is_not_newer(folder: Folder) -> None:
    """Nobody knows who set `main`: an annotated build takes it from what is not newer, at two GETs at most."""
    folder.add("a", 5)
    for there, expected, gets in (
        (image("older", 4), "a", 1),
        (image("equal", 5), "a", 1),
        (image("newer", 6), "newer", 1),
        (build_image(ONE, seed="by config", created=day(6)), "by config", 2),
        (build_image(ONE, seed="nothing", created="1970-01-01T00:00:00Z"), "a", 2),
        (build_nested(image("child 1", 6), image("child 2", 4)), "child", 2),
    ):
        folder.world.store = MemoryStore()
        folder.made[str(there.digest)] = expected
        await push(there, folder.target, PLACE, ["main"])
        folder.target.forget()
        run = await folder.sync()
        assert run.result in (Result.SUCCESS, Result.NOOP)
        assert folder.made[folder.target.tags[PLACE]["main"]] == expected
        assert folder.target.count("GET", "") == gets
        folder.target.forget()
        assert (await folder.sync()).result is Result.NOOP
        assert folder.target.count("GET", "") == 0, "it was remembered"


async def test_a_record_that_knows_no_names(folder: Folder) -> None:
    """A record of a mirrord that remembered no names: a build that was published then takes `main` from nobody."""
    folder.add("a")
    await folder.sync()
    other = image("other")
    folder.made[str(other.digest)] = "other"
    await push(other, folder.target, PLACE, ["main"])
    folder.world.store._names.clear()
    run = await folder.sync()
    why = f"it is {other.digest} there; main-a has no creation time, so it moves the name only once"
    assert (run.result, run.remarks) == (Result.NOOP, (f"one: main left alone: {why}",))
    folder.add("b", changed=2)
    await folder.sync()
    assert folder.main == {"b"}


async def test_a_lost_record_and_an_older_build_of_the_folder(folder: Folder) -> None:
    """`main` is an older build of the same folder, and the record is lost: it moves on, and nothing is read."""
    folder.add("a", 3)
    await folder.sync()
    folder.add("b", 5)
    folder.world.store = MemoryStore()
    folder.target.forget()
    await folder.sync()
    assert folder.main == {"b"}
    assert folder.target.count("GET", "") == 0


async def test_a_target_that_cannot_be_asked_does_not_lose_a_newer_main(folder: Folder) -> None:
    """The record is lost and the first look fails: what stands at the target is looked at before `main` is set."""
    folder.add("a", 5)
    newer = image("newer", 6)
    folder.made[str(newer.digest)] = "newer"
    await push(newer, folder.target, PLACE, ["main"])
    folder.target.faults.on("HEAD", "/manifests/main", times=None).status(502)
    folder.target.faults.on("HEAD", "/manifests/sha256").do(folder.target.faults.clear)
    run = await folder.sync()
    assert run.result is Result.SUCCESS
    assert folder.made[folder.target.tags[PLACE]["main"]] == "newer"
    assert "main-a" in folder.target.tags[PLACE]
    assert [text.partition(": it is")[0] for text in run.remarks] == ["one: main left alone"]


Make = Callable[[int], Image]


def by_label(number: int) -> Image:
    """Build an image whose index is annotated."""
    return build_image(seed=f"index {number}", index_annotations={CREATED: day(number)})


def by_platforms(number: int) -> Image:
    return build_image(seed=f"platforms {number}", annotations={CREATED: day(number)})


def by_config(number: int) -> Image:
    return build_image(ONE, seed=f"config {number}", created=day(number))


@pytest.mark.parametrize(("make", "gets"), [(by_label, 1), (by_platforms, 2), (by_config, 2)])
@pytest.mark.parametrize("days", [(3, 5), (5, 5), (6, 5)])
async def test_if_newest_with_a_fresh_state_each_time(
    world: World, make: Make, gets: int, days: tuple[int, int]
) -> None:
    """`--if-newest` twice, each time with an empty state: the same result, at two GETs of a target at most."""
    (there, ours), moved = days, days[0] <= days[1]
    target, old = await world.registry("one"), make(there)
    await push(old, target, PLACE, ["main"])
    new = make(ours) if there != ours else build_image(ONE, seed="as old", annotations={CREATED: day(ours)})
    source = f"oci:{write_layout(new, world.folder / 'build')}"
    mirror = world.mirror({"layouts": world.folder}, target)
    for attempt in range(2):
        world.store = MemoryStore()
        target.forget()
        run = await world.publish(mirror, source, "main-abc", "main", if_newest=True)
        assert run.result is (Result.NOOP if moved and attempt else Result.SUCCESS)
        assert target.tags[PLACE] == {"main-abc": new.digest, "main": new.digest if moved else old.digest}
        assert target.count("GET", "") == (0 if moved and attempt else gets)
        words = ("one: main left alone: it is", day(there), day(ours)) if not moved else ()
        assert all(word in " ".join(run.remarks) for word in words)
        same = (f"one: main moved from {old.digest}: both were created {day(ours)}",)
        assert len(run.remarks) == (not moved or (there == ours and not attempt))
        assert moved is False or run.remarks in ((), same)


@pytest.mark.parametrize("silent", ["there", "ours", "both"])
async def test_if_newest_moves_what_says_nothing(world: World, silent: str) -> None:
    """When either side has no creation time `main` moves, and the remark says who is silent."""
    epoch = "1970-01-01T00:00:00Z"
    target = await world.registry("one")
    old = build_image(ONE, seed="old", created=epoch if silent != "ours" else day(6))
    new = build_image(ONE, seed="new", created=epoch if silent != "there" else day(5))
    await push(old, target, PLACE, ["main"])
    source = f"oci:{write_layout(new, world.folder / 'build')}"
    run = await world.publish(world.mirror({"layouts": world.folder}, target), source, "main-b", "main", if_newest=True)
    assert target.tags[PLACE]["main"] == new.digest
    who = ", which" if silent == "there" else ": main-b"
    assert run.remarks == (f"one: main moved from {old.digest}{who} has no creation time",)


async def test_if_newest_of_an_image_in_a_registry(world: World) -> None:
    """`--image --if-newest` compares by what the source's image says; each target decides for itself."""
    source, one, two = [await world.registry(name) for name in ("source", "one", "two")]
    new = by_config(5)
    await push(new, source, "team/app", ["ci"])
    await push(by_config(6), one, PLACE, ["main"])
    await push(by_config(4), two, PLACE, ["main"])
    mirror = world.mirror({"layouts": world.folder}, one, two, LOCAL)
    await world.publish(mirror, f"{source.host}/team/app:ci", "main-c", "main", if_newest=True)
    assert (one.tags[PLACE]["main"] == new.digest, two.tags[PLACE]["main"] == new.digest) == (False, True)
    newer = build_image(ONE, seed="newest", annotations={CREATED: day(7)})
    await push(newer, source, "team/app", ["ci"])
    await world.publish(mirror, f"{source.host}/team/app:ci", "main-d", "main", if_newest=True)
    assert world.local_tags()["main"] == newer.digest
    await push(new, source, "team/app", ["ci"])
    await world.publish(mirror, f"{source.host}/team/app:ci", "main-c", "main", if_newest=True)
    assert {one.tags[PLACE]["main"], two.tags[PLACE]["main"], world.local_tags()["main"]} == {newer.digest}
