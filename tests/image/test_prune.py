"""What `mirrord prune` removes at targets, and above all what it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirrord.model.keep import Keep
from mirrord.model.ledger import Settled
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import push
from tests.support.pruning import OTHER, REPOSITORY, V1, V2, Pruned, done, going, stays
from tests.support.store import MemoryStore
from tests.support.world import World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


async def test_what_the_source_lost_goes_after_a_second_look(world: World) -> None:
    """The first prune notes it, one a day later removes the tag at each target and in the record, and no other one."""
    one, two = await world.registry("one"), await world.registry("two")
    pruned = await Pruned.open(world, one, two, LOCAL)
    pruned.lose("v1")
    before = await world.store.standing("app")
    first = await pruned.prune()
    assert (first.result, first.receipts) == (Result.NOOP, ())
    assert "a prune after 2024-05-18T12:00:00Z may remove it" in stays(first.plan)["one", "v1"]
    world.later(hours=23)
    assert not (await pruned.prune()).receipts
    world.later(hours=2)
    run = await pruned.prune()
    assert done(run) == {("one", "v1"), ("two", "v1")}
    for target in (one, two):
        assert target.tags[REPOSITORY].keys() == {"v2", "v3"}
    assert world.local_tags().keys() == {"v1", "v2", "v3"}
    reason = run.receipts[0].step.reason
    assert reason == "the source does not have it any more; can be brought back from local, the source"
    known = await world.store.memory("app")
    assert {key for key in known if key[1] == "v1"} == {(LOCAL, "v1")}
    after = {entry.target: entry for entry in await world.store.standing("app")}
    assert [after[entry.target].items for entry in before] == [3, 3, 2, 2]
    assert all(after[entry.target].last_success == entry.last_success for entry in before)
    moves = [(m.name, m.before, m.after, m.outcome) for m in await world.store.moves("app") if m.target == "one"]
    assert moves[0] == ("v1", V1.digest, None, Settled.DONE)
    world.later(days=1)
    assert (await pruned.prune()).receipts == ()
    assert (await world.run(pruned.mirror)).result is Result.NOOP
    assert one.tags[REPOSITORY].keys() == {"v2", "v3"}


async def test_what_is_listed_again_begins_anew(world: World) -> None:
    """A tag that the source lost and got back is not removed for the old listing when it is lost once more."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, LOCAL)
    pruned.lose("v1")
    await pruned.plan()
    await push(V1, pruned.source, "team/app", ["v1"])
    world.later(days=2)
    assert not stays(await pruned.plan())
    pruned.lose("v1")
    assert (await pruned.prune()).receipts == ()
    assert "v1" in one.tags[REPOSITORY]


async def test_what_the_mirror_does_not_select_any_more(world: World) -> None:
    """A tag that the rules leave out by now goes as well; the plan says by which rule."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, LOCAL)
    source = {"repository": f"{pruned.source.host}/team/app", "tags": {"versions": ">=0", "newest": 2}}
    pruned.mirror = world.mirror(source, one, LOCAL)
    run = await pruned.twice()
    assert done(run) == {("one", "v1")}
    assert "not mirrored any more: left out" in run.receipts[0].step.reason


async def test_what_rules_leave_out_is_no_accident(world: World) -> None:
    """Tags that newer ones push out may be most of them; tags that no rule chooses at all stay."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, LOCAL)
    keep, source = pruned.mirror, {"repository": f"{pruned.source.host}/team/app"}
    pruned.mirror = world.mirror({**source, "tags": ["w*"]}, one, LOCAL)
    plan = await pruned.plan()
    assert plan.missing[0].startswith("the configuration no longer names 3 of 3 tags (v1, v2, v3), more than")
    pruned.mirror = keep
    assert not (await pruned.plan()).missing
    pruned.mirror = world.mirror({**source, "tags": {"versions": ">=0", "newest": 1}}, one, LOCAL)
    assert done(await pruned.twice()) == {("one", "v1"), ("one", "v2")}


async def test_nothing_when_the_source_cannot_be_listed(world: World) -> None:
    """A listing that fails removes nothing, and does not count as one of the two."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, LOCAL)
    pruned.lose("v1")
    await pruned.plan()
    world.later(days=2)
    pruned.source.faults.on("GET", "/tags/list", times=None).status(403)
    run = await pruned.prune()
    assert run.result is Result.FAILED
    assert run.receipts == ()
    assert "v1" in one.tags[REPOSITORY]
    assert all(entry.failures == 0 for entry in await world.store.standing("app"))


async def test_nothing_when_the_source_lists_nothing(world: World) -> None:
    """A source without any tag is an accident, also when it stays so."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, LOCAL, prune={"max_loss": 1})
    pruned.lose("v1", "v2", "v3")
    for _ in range(3):
        world.later(days=2)
        run = await pruned.prune()
        assert (run.code, run.result) == ("", Result.FAILED)
        assert run.plan
        assert run.plan.missing_code == "guard"
        assert run.plan.missing == ("the source lists no tags at all, and some of it was mirrored: nothing is removed",)
        assert run.receipts == ()
    assert one.tags[REPOSITORY].keys() == {"v1", "v2", "v3"}


async def test_nothing_when_the_source_shrank_too_much(world: World) -> None:
    """More than `max_loss` gone since the last look removes nothing, and is not noted; with another limit it is."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, LOCAL)
    pruned.lose("v1", "v2")
    for _ in range(3):
        world.later(days=2)
        run = await pruned.prune()
        assert run.plan
        assert "the source no longer lists 2 of 3 tags (v1, v2), more than max_loss of 50%" in run.plan.missing[0]
        assert run.receipts == ()
    source = {"repository": f"{pruned.source.host}/team/app", "tags": ["*"]}
    pruned.mirror = world.mirror(source, one, LOCAL, prune={"max_loss": 1})
    assert done(await pruned.twice()) == {("one", "v1"), ("one", "v2")}


async def test_what_was_lost_before_is_not_lost_anew(world: World) -> None:
    """Losing one at a time is no accident, however many have gone by now."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, LOCAL, prune={"after": "7d"})
    for tag in ("v1", "v2"):
        pruned.lose(tag)
        world.later(days=1)
        assert not (await pruned.plan()).missing


async def test_only_names_that_it_wrote(world: World) -> None:
    """A tag that was there before, or that CI pushed, stays and is shown; after `--adopt` it goes."""
    one = await world.registry("one")
    await push(V1, one, REPOSITORY, ["v1"])
    pruned = await Pruned.open(world, one, LOCAL)
    await push(OTHER, one, REPOSITORY, ["by-ci"])
    pruned.lose("v1")
    run = await pruned.twice()
    assert run.receipts == ()
    why = "not written by this mirror; `--adopt` takes it over"
    assert stays(run.plan) == {("one", "v1"): why, ("one", "by-ci"): why}
    adopting = await pruned.plan(adopt=True)
    assert going(adopting) == {("one", "v1")}
    assert "--irrecoverable" in stays(adopting)["one", "by-ci"]
    assert done(await pruned.prune(adopt=True, irrecoverable=True)) == {("one", "v1"), ("one", "by-ci")}
    assert one.tags[REPOSITORY].keys() == {"v2", "v3"}


async def test_only_what_still_has_our_digest(world: World) -> None:
    """A tag that somebody moved at the target since is theirs."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, LOCAL)
    pruned.lose("v1")
    await push(OTHER, one, REPOSITORY, ["v1"])
    run = await pruned.twice()
    assert run.receipts == ()
    assert stays(run.plan) == {("one", "v1"): f"somebody else moved it: it is {OTHER.digest} there"}


async def test_what_a_failed_move_left_open_stays(world: World) -> None:
    """As long as nobody knows what became of the last move of a name it is not removed."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, LOCAL)
    await push(OTHER, pruned.source, "team/app", ["v1"])
    one.faults.on("PUT", "/manifests/v1", times=None).status(500)
    world.later(days=1)
    await world.run(pruned.mirror)
    pruned.lose("v1")
    one.faults.clear()
    await pruned.plan()
    world.later(days=2)
    assert "nobody knows what became of its last move" in stays(await pruned.plan())["one", "v1"]
    assert done(await pruned.prune()) == {("one", "v1")}, "a run looks first, and finds the old digest"


async def test_what_could_not_be_brought_back_stays(world: World) -> None:
    """Where no other place has the content the tag stays, also if two targets would lose it together."""
    one, two = await world.registry("one"), await world.registry("two")
    pruned = await Pruned.open(world, one, two)
    pruned.lose("v1")
    pruned.forget(V1)
    run = await pruned.twice()
    assert run.receipts == ()
    assert all("`--irrecoverable` removes it" in why for why in stays(run.plan).values())
    assert done(await pruned.prune(irrecoverable=True)) == {("one", "v1"), ("two", "v1")}


async def test_what_only_local_has_stays_where_keep_may_drop_it(world: World) -> None:
    """With `keep` nobody can rely on `local`: what only that has besides could not be brought back some day."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, LOCAL)
    pruned.lose("v1")
    pruned.forget(V1)
    everything = pruned.mirror
    pruned.mirror = replace(everything, keep=Keep(newest=20))
    run = await pruned.twice()
    assert run.receipts == ()
    assert "`--irrecoverable` removes it" in stays(run.plan)["one", "v1"]
    pruned.mirror = everything
    run = await pruned.prune()
    assert done(run) == {("one", "v1")}
    assert run.receipts[0].step.reason.endswith("can be brought back from local")


async def test_another_tag_keeps_the_content(world: World) -> None:
    """A tag whose image has another one that stays can go: nothing is lost."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, images={"v1": V1, "latest": V1, "v2": V2})
    pruned.lose("v1")
    assert done(await pruned.twice()) == {("one", "v1")}
    assert one.tags[REPOSITORY].keys() == {"latest", "v2"}


@pytest.mark.parametrize("ref", [":v1", f"@{V1.digest}"])
async def test_what_another_mirror_has_stays(world: World, ref: str) -> None:
    """Two mirrors of one repository write one place: what the other one has there is left to it, by tag or digest."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, LOCAL)
    keys = {"as": "app"}
    source = {"repository": f"{pruned.source.host}/team/app{ref}"}
    other = replace(world.mirror(source, one, **keys), name="second")  # type: ignore[arg-type]  # a key of the mirror
    await world.run(other)
    pruned.others = [other]
    pruned.lose("v1")
    run = await pruned.twice()
    assert run.receipts == ()
    assert stays(run.plan) == {("one", "v1"): "mirror second has it, too"}


async def test_a_published_build_stays(world: World) -> None:
    """What was published has no source that could list it: it is not removed for that, but after `--adopt`."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, LOCAL)
    await push(OTHER, pruned.source, "team/builds", ["x"])
    await world.publish(pruned.mirror, f"{pruned.source.host}/team/builds:x", "main-0123456", "main")
    run = await pruned.twice()
    assert run.receipts == ()
    why = "the tag of a build that was published; `--adopt` prunes it, too"
    assert stays(run.plan) == {("one", "main"): why, ("one", "main-0123456"): why}
    assert done(await pruned.prune(adopt=True)) == {("one", "main"), ("one", "main-0123456")}


async def test_a_lost_database(world: World) -> None:
    """Without the ledger nothing is removed, however often, and the plan says why; `--adopt` removes it."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, LOCAL)
    pruned.lose("v1")
    await pruned.plan()
    world.later(days=2)
    world.store = MemoryStore()
    world.services = replace(world.services, facts=world.store)
    for _ in range(2):
        run = await pruned.prune()
        assert run.receipts == ()
        assert run.plan
        assert run.plan.remarks == ("nothing was found in the ledger that this mirror wrote: nothing is removed",)
        world.later(days=2)
    assert one.tags[REPOSITORY].keys() == {"v1", "v2", "v3"}
    adopting = await pruned.plan(adopt=True)
    assert (going(adopting), adopting.remarks) == ({("one", "v1")}, ())


async def test_a_target_that_is_away(world: World) -> None:
    """It is refused as a whole, in one sentence, and the other one is pruned."""
    one, two = await world.registry("one"), await world.registry("two")
    pruned = await Pruned.open(world, one, two, LOCAL)
    pruned.lose("v1")
    await pruned.plan()
    world.later(days=2)
    two.faults.on("GET", "/tags/list", times=None).status(403)
    run = await pruned.prune()
    assert run.result is Result.PARTIAL
    assert done(run) == {("one", "v1")}
    assert "v1" in two.tags[REPOSITORY]


async def test_a_removal_that_cannot_be_recorded(world: World) -> None:
    """It does not happen."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, LOCAL)
    pruned.lose("v1")
    await pruned.plan()
    world.later(days=2)
    plan = await pruned.plan()
    assert going(plan) == {("one", "v1")}
    world.store.broken = "the disk is full"
    run = await pruned.prune()
    assert run.result is Result.FAILED
    assert one.count("DELETE", "") == 0


async def test_many_names_are_linear(world: World) -> None:
    """A prune of a quarter of many tags asks for each of these once at each place, and lists each place once."""
    one, count = await world.registry("one"), 400
    images = {f"v{number}": (V1, V2)[number % 2] for number in range(count)}
    pruned = await Pruned.open(world, one, LOCAL, images=images)
    gone = [f"v{number}" for number in range(count // 4)]
    pruned.lose(*gone)
    await pruned.plan()
    world.later(days=2)
    one.wire.exchanges.clear()
    assert done(await pruned.prune()) == {("one", tag) for tag in gone}
    others = 2  # that keep the two images
    assert one.count("HEAD", "/manifests/v") == 2 * len(gone) + others, "in the survey, and just before it goes"
    assert one.count("DELETE", "/manifests/v") == len(gone)
    assert one.count("GET", "/tags/list") == 2
    assert sum(len(exchange.method) > 0 for exchange in one.log) < 4 * len(gone)


@pytest.mark.parametrize("moved", [False, True])
async def test_another_tag_that_keeps_the_content(world: World, *, moved: bool) -> None:
    """A tag may go while another one there has its image; one that somebody moved meanwhile keeps nothing."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, images={"v1": V1, "same": V1, "v2": V2})
    pruned.lose("v1")
    pruned.forget(V1)
    if moved:
        one.content.tags[REPOSITORY]["same"] = V2.digest
    run = await pruned.twice()
    if moved:
        assert not run.receipts
        assert "`--irrecoverable` removes it" in stays(run.plan)["one", "v1"]
    else:
        assert done(run) == {("one", "v1")}
        assert "another tag at one" in run.receipts[0].step.reason
