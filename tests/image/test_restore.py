"""Tags set back to earlier digests by the ledger: from wherever these still are, and held there until released."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mirrord.errors import UsageError
from mirrord.model.digest import Digest
from mirrord.model.plan import Action
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.syncers.image.upstream.restored import RestoredSource, _Places
from mirrord.testing import Registry, build_image, push
from mirrord.wire.oci.descriptor import Descriptor
from tests.support.pruning import OTHER, REPOSITORY, V1, Pruned, done
from tests.support.restoring import earlier_of, release, restore, undo
from tests.support.world import World, by_target

OLD, NEW, NEWER = (build_image(["linux/amd64"], seed=seed) for seed in ("old", "new", "newer"))


async def moved(world: World, *targets: Registry | str) -> tuple[Registry, Mirror]:
    """Mirror `v1`, first with the old image and then with the new one."""
    source = await world.registry("source")
    world.services = replace(world.services, facts=world.store)
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["v*"]}, *targets)
    for image in (OLD, NEW):
        await push(image, source, "team/app", ["v1"])
        world.later(days=1)
        assert (await world.run(mirror)).result is Result.SUCCESS
    return source, mirror


async def test_a_tag_gets_its_earlier_digest_and_keeps_it(world: World) -> None:
    """Restored at every target; no sync moves it until it is released, and each says so; then it is the source's."""
    one = await world.registry("one")
    source, mirror = await moved(world, one, LOCAL)
    (backup,) = await earlier_of(world, mirror)
    assert (backup.name, backup.item, backup.digest) == (f"v1@{OLD.digest}", "v1", OLD.digest)
    assert backup.where == "local, one, the source"
    world.later(days=1)
    run = await restore(world, mirror, "v1")
    assert (run.result, run.trigger) == (Result.SUCCESS, "restore")
    assert (one.tags["mirror/app"], world.local_tags()) == ({"v1": OLD.digest}, {"v1": OLD.digest})
    for image in (NEW, NEWER):
        await push(image, source, "team/app", ["v1"])
        world.later(days=1)
        run = await world.run(mirror)
        assert run.result is Result.NOOP
        assert (one.tags["mirror/app"], world.local_tags()) == ({"v1": OLD.digest}, {"v1": OLD.digest})
        (remark,) = run.remarks
        assert remark == (
            f"v1 was restored and stays {OLD.digest} at local, one; the source has {image.digest}; "
            "`mirrord restore app v1 --release` lets the source decide again"
        )
    await release(world, mirror, "v1")
    run = await world.run(mirror)
    assert (run.result, run.remarks) == (Result.SUCCESS, ())
    assert (one.tags["mirror/app"], world.local_tags()) == ({"v1": NEWER.digest}, {"v1": NEWER.digest})


async def test_what_is_read_from_local_stays_there(world: World) -> None:
    """While a restore reads an image from `local`, a collection leaves it; afterwards it may go."""
    _, mirror = await moved(world, LOCAL)
    repositories, old = world.services.repositories, Digest(OLD.digest)
    assert repositories is not None
    source = RestoredSource(old, _Places(mirror, world.services, world.now))
    await source.check_blob(Descriptor("", Digest(next(iter(OLD.blobs))), 0))
    assert await repositories.drop("app", {}, [old]) == (frozenset(), frozenset())
    del source
    assert await repositories.drop("app", {}, [old]) == (frozenset(), frozenset([old]))


async def test_the_source_is_not_needed(world: World) -> None:
    """With the source gone a target is set back from `local`, which is not asked over the network."""
    one = await world.registry("one")
    source, mirror = await moved(world, one, LOCAL)
    await source.stop()
    run = await restore(world, mirror, f"v1@{OLD.digest[:14]}")
    assert run.result is Result.SUCCESS
    assert (one.tags["mirror/app"], world.local_tags()) == ({"v1": OLD.digest}, {"v1": OLD.digest})
    assert {step.reason for step in (run.plan.steps if run.plan else ())} == {
        f"restored from local or one: moves v1 from {NEW.digest}"
    }


async def test_content_comes_from_another_target(world: World) -> None:
    """A target that lost the old image gets it from one that has it, with all its content."""
    one, two = await world.registry("one"), await world.registry("two")
    source, mirror = await moved(world, one, two)
    await source.stop()
    two.manifests["mirror/app"].pop(OLD.digest)
    for blob in OLD.blobs:
        two.blobs.pop(blob)
    run = await restore(world, mirror, "v1")
    assert run.result is Result.SUCCESS
    assert two.tags["mirror/app"] == {"v1": OLD.digest}
    assert set(OLD.blobs) <= set(two.blobs)
    assert by_target(run)["two"].sent > 0
    assert by_target(run)["one"].sent == 0


async def test_the_next_place_is_read_when_the_first_one_fails(world: World) -> None:
    """A place that says it has the image and does not give it costs a look elsewhere, and not the restore."""
    one, two, three = await world.registry("one"), await world.registry("two"), await world.registry("three")
    source, mirror = await moved(world, one, two, three)
    await source.stop()
    three.manifests["mirror/app"].pop(OLD.digest)
    for blob in OLD.blobs:
        three.blobs.pop(blob)
    one.faults.on("GET", "/manifests/", times=None).status(403)
    run = await restore(world, mirror, "v1")
    assert three.tags["mirror/app"] == {"v1": OLD.digest}, run
    assert by_target(run)["three"].good


async def test_content_that_is_nowhere_is_refused(world: World) -> None:
    """The step says who was asked; nothing is held, so that the next sync goes on as before."""
    one = await world.registry("one")
    source, mirror = await moved(world, one)
    for at in (one.manifests["mirror/app"], source.manifests["team/app"]):
        at.pop(OLD.digest)
    run = await restore(world, mirror, "v1")
    assert run.result is Result.FAILED
    (step,) = run.plan.steps if run.plan else ()
    assert (step.action, step.code) == (Action.REFUSE, "missing")
    assert step.reason == f"{OLD.digest} is nowhere: not at one, the source"
    assert one.tags["mirror/app"] == {"v1": NEW.digest}
    assert not (await world.run(mirror)).remarks


async def test_a_target_that_is_away_fails_alone(world: World) -> None:
    """The others are set back; the next sync does the rest, since the name is held."""
    one, two = await world.registry("one"), await world.registry("two")
    _, mirror = await moved(world, one, two)
    await two.stop()
    run = await restore(world, mirror, "v1")
    assert {name: receipt.outcome for name, receipt in by_target(run).items()} == {
        "one": Outcome.DONE,
        "two": Outcome.FAILED,
    }
    await two.start()
    await world.run(mirror)
    assert one.tags["mirror/app"] == two.tags["mirror/app"] == {"v1": OLD.digest}


async def test_a_whole_run_is_undone(world: World) -> None:
    """Every name that the run moved goes back to what it had there, which may differ by target."""
    one, two = await world.registry("one"), await world.registry("two")
    source = await world.registry("source")
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["v*"]}, one, two)
    for tag in ("v1", "v2", "v3"):
        await push(OLD, source, "team/app", [tag])
    world.later(days=1)
    await world.run(mirror)
    await push(NEW, source, "team/app", ["v1"])
    await two.stop()
    world.later(days=1)
    await world.run(mirror)
    await two.start()
    for tag in ("v1", "v2"):
        await push(NEWER, source, "team/app", [tag])
    world.later(days=1)
    run = await world.run(mirror)
    undone = await undo(world, mirror, run)
    assert undone.result is Result.SUCCESS
    assert one.tags["mirror/app"] == {"v1": NEW.digest, "v2": OLD.digest, "v3": OLD.digest}
    assert two.tags["mirror/app"] == {"v1": OLD.digest, "v2": OLD.digest, "v3": OLD.digest}


async def test_what_the_ledger_does_not_have_is_no_name(world: World) -> None:
    """Nothing is restored when one name means nothing, and without a ledger the error says what that means."""
    one = await world.registry("one")
    _, mirror = await moved(world, one)
    for wrong in ("v2", f"v1@{NEWER.digest}", f"v2@{NEW.digest}", "w*"):
        with pytest.raises(UsageError, match="nothing is recorded of it"):
            await restore(world, mirror, "v1", wrong)
    for same in (f"v1@{NEW.digest}", f"v1@{NEW.digest[:16]}"):
        with pytest.raises(UsageError, match="its name stands for it already at one"):
            await restore(world, mirror, same)
    world.store = type(world.store)()  # the database was lost
    with pytest.raises(UsageError, match="the database was lost, and its ledger with it"):
        await restore(world, mirror, "v1")
    assert one.tags["mirror/app"] == {"v1": NEW.digest}


async def test_names_that_a_run_made_are_taken_away(world: World) -> None:
    """Undoing a run removes its new names where they are what it set; no sync copies them until they are released."""
    one, two = await world.registry("one"), await world.registry("two")
    source, mirror = await moved(world, one, two, LOCAL)
    for tag in ("v2", "v3"):
        await push(NEWER, source, "team/app", [tag])
    world.later(days=1)
    run = await world.run(mirror)
    two.tags["mirror/app"]["v3"] = OLD.digest  # by somebody else
    undone = await undo(world, mirror, run)
    assert undone.result is Result.PARTIAL
    refused = [step for step in (undone.plan.steps if undone.plan else ()) if step.action is Action.REFUSE]
    assert [(step.target, step.item) for step in refused] == [("two", "v3")]
    assert (one.tags["mirror/app"], world.local_tags()) == ({"v1": NEW.digest}, {"v1": NEW.digest})
    assert two.tags["mirror/app"] == {"v1": NEW.digest, "v3": OLD.digest}
    world.later(days=1)
    run = await world.run(mirror)
    assert one.tags["mirror/app"] == {"v1": NEW.digest}
    assert two.tags["mirror/app"] == {"v1": NEW.digest, "v3": NEWER.digest}
    assert [remark.partition(";")[0] for remark in run.remarks] == [
        "v2 was taken away and is not copied at local, one, two",
        "v3 was taken away and is not copied at local, one",
    ]
    await release(world, mirror, "v*")
    await world.run(mirror)
    every = {"v1": NEW.digest, "v2": NEWER.digest, "v3": NEWER.digest}
    assert one.tags["mirror/app"] == two.tags["mirror/app"] == world.local_tags() == every


async def test_a_restored_tag_is_not_pruned(world: World) -> None:
    """What the source lost after it was restored stays until it is released; then two listings have to agree anew."""
    one = await world.registry("one")
    pruned = await Pruned.open(world, one, LOCAL)
    await push(OTHER, pruned.source, "team/app", ["v1"])
    world.later(days=1)
    await world.run(pruned.mirror)
    await restore(world, pruned.mirror, "v1")
    pruned.lose("v1")
    assert done(await pruned.twice()) == set()
    assert one.tags[REPOSITORY]["v1"] == V1.digest
    await release(world, pruned.mirror, "v1")
    assert done(await pruned.twice()) == {("one", "v1")}


async def test_names_that_a_run_removed_come_back(world: World) -> None:
    """Undoing a prune sets its names again, at the targets where it removed them, and no prune takes them again."""
    one, two = await world.registry("one"), await world.registry("two")
    pruned = await Pruned.open(world, one, two, LOCAL)
    pruned.lose("v1")
    run = await pruned.twice()
    assert done(run) == {("one", "v1"), ("two", "v1")}
    world.later(days=1)
    undone = await undo(world, pruned.mirror, run)
    assert undone.result is Result.SUCCESS
    assert {receipt.step.target for receipt in undone.receipts} == {"one", "two"}
    assert one.tags[REPOSITORY]["v1"] == two.tags[REPOSITORY]["v1"] == V1.digest
    assert done(await pruned.twice()) == set()
    assert (await world.run(pruned.mirror)).result is Result.NOOP
    await release(world, pruned.mirror, "v1")
    assert done(await pruned.twice()) == {("one", "v1"), ("two", "v1")}


async def test_a_run_of_many_names_costs_the_same_for_each(world: World) -> None:
    """Undoing a run that moved four times as many names takes four times the requests at most."""
    costs = []
    for many in (25, 100):
        one, source = await world.registry(f"one{many}"), await world.registry(f"source{many}")
        source_keys = {"repository": f"{source.host}/team/app", "tags": ["v*"]}
        mirror = world.mirror(source_keys, one, LOCAL, name=f"app{many}")
        tags = [f"v{number}" for number in range(many)]
        for image in (OLD, NEW):
            await push(image, source, "team/app", tags)
            world.later(days=1)
            run = await world.run(mirror)
        world.wire.exchanges.clear()
        assert (await undo(world, mirror, run)).result is Result.SUCCESS
        costs.append(len(world.wire.exchanges))
        assert set(one.tags[f"mirror/app{many}"].values()) == {OLD.digest}
    assert costs[1] <= 4 * costs[0], costs
