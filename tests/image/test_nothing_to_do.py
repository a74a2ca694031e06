"""What a run costs when nothing has changed: one HEAD per source tag, and nothing at targets that are trusted."""

from __future__ import annotations

from mirrord.model.plan import Action
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import Registry, build_image, push
from tests.support.layouts import write_layout
from tests.support.store import MemoryStore
from tests.support.world import World

PLACE = "mirror/app"


async def filled(world: World, *tags: str) -> Registry:
    source = await world.registry("source")
    for tag in tags:
        await push(build_image(seed=tag), source, "team/app", [tag])
    return source


def requests(world: World) -> list[tuple[str, str, str]]:
    """Return all requests since the last call."""
    found = [(one.server, one.method, one.path.removeprefix("/v2/")) for one in world.wire.exchanges]
    world.wire.exchanges.clear()
    return sorted(found)


async def test_one_head_per_tag_within_the_trust_window(world: World) -> None:
    """Nothing changed and the record is fresh: one HEAD for each tag at the source, not one request at a target."""
    source, target = await filled(world, "main", "v1"), await world.registry("one")
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["main", "v1"]}, target, LOCAL)
    assert (await world.run(mirror)).result is Result.SUCCESS
    requests(world)
    world.later(hours=11)
    run = await world.run(mirror)
    assert (run.result, run.read) == (Result.NOOP, 0)
    assert requests(world) == [
        ("source", "HEAD", "team/app/manifests/main"),
        ("source", "HEAD", "team/app/manifests/v1"),
    ]


async def test_heads_at_targets_after_the_trust_window(world: World) -> None:
    """When the record is too old the target is asked, by one HEAD per tag, and then believed again."""
    source, target = await filled(world, "main"), await world.registry("one")
    mirror = world.mirror({"repository": f"{source.host}/team/app:main"}, target, signatures={"copy": False})
    await world.run(mirror)
    requests(world)
    world.later(hours=13)
    for expected in ([("one", "HEAD", f"{PLACE}/manifests/main")], []):
        run = await world.run(mirror)
        assert run.result is Result.NOOP
        assert requests(world) == [*expected, ("source", "HEAD", "team/app/manifests/main")]


async def test_a_lost_record_costs_heads_only(world: World) -> None:
    """Without any record what is mirrored is found at the targets: HEADs, no content."""
    source, target = await filled(world, "main"), await world.registry("one")
    wanted = {"repository": f"{source.host}/team/app:main"}
    mirror = world.mirror(wanted, target, LOCAL, signatures={"copy": False})
    await world.run(mirror)
    requests(world)
    world.store = MemoryStore()
    assert (await world.run(mirror)).result is Result.NOOP
    assert {method for _, method, _ in requests(world)} == {"HEAD"}


async def test_a_target_that_lost_a_tag_is_repaired_after_the_window(world: World) -> None:
    """A tag that vanished at a target comes back with the first run after the trust window, without reading content."""
    source, target = await filled(world, "main"), await world.registry("one")
    mirror = world.mirror({"repository": f"{source.host}/team/app:main"}, target, trust=60.0)
    await world.run(mirror)
    tags = dict(target.tags[PLACE])
    target.tags.clear()
    requests(world)
    world.later(minutes=2)
    run = await world.run(mirror)
    assert (run.result, run.read, target.tags[PLACE]) == (Result.SUCCESS, 0, tags)
    assert not [path for _, _, path in requests(world) if "/blobs/" in path]


async def test_head_and_get_ask_for_the_same(world: World) -> None:
    """HEAD and GET of manifests send one and the same Accept, at the source and at the targets."""
    source, target = await filled(world, "main"), await world.registry("one")
    await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, target))
    asked = [one for one in world.wire.exchanges if "/manifests/" in one.path and one.method in ("HEAD", "GET")]
    assert {one.method for one in asked} == {"HEAD", "GET"}
    assert len({one.headers["accept"] for one in asked}) == 1


async def test_immutable_tags_cost_nothing(world: World) -> None:
    """A tag that never moves and is recorded everywhere costs no request anywhere, however old the record is."""
    source, target = await filled(world, "v1", "main"), await world.registry("one")
    tags = {"repository": f"{source.host}/team/app", "tags": ["v1", "main"]}
    mirror = world.mirror(tags, target, LOCAL, immutable=["v*"])
    await world.run(mirror)
    requests(world)
    world.later(days=365)
    run = await world.run(mirror)
    assert run.result is Result.NOOP
    assert not [path for _, _, path in requests(world) if path.endswith("/v1")]
    only = world.mirror({"repository": f"{source.host}/team/app:v1"}, target, LOCAL, immutable=["v*"])
    assert (await world.run(only)).result is Result.NOOP
    assert requests(world) == []


async def test_an_immutable_tag_goes_to_a_new_target(world: World) -> None:
    """A target that was added later gets the immutable tag, although the record knows it elsewhere."""
    source, one, two = await filled(world, "v1"), await world.registry("one"), await world.registry("two")
    source_keys = {"repository": f"{source.host}/team/app:v1"}
    await world.run(world.mirror(source_keys, one, immutable=["v*"]))
    run = await world.run(world.mirror(source_keys, one, two, immutable=["v*"]))
    assert [(receipt.step.target, receipt.good) for receipt in run.receipts] == [("two", True)]
    assert two.tags == one.tags


async def test_an_immutable_tag_that_moved_is_refused(world: World) -> None:
    """When a tag that never moves has other content at a target, the target keeps what it has."""
    source, target = await filled(world, "v1"), await world.registry("one")
    other = build_image(seed="other")
    await push(other, target, PLACE, ["v1"])
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app:v1"}, target, immutable=["v*"]))
    assert run.plan is not None
    assert [step.action for step in run.plan.steps] == [Action.REFUSE]
    assert target.tags == {PLACE: {"v1": other.digest}}


async def test_listing_only_for_globs(world: World) -> None:
    """Literal tags are asked for by name; only a glob costs a listing, which serves for signatures, too."""
    source, target = await filled(world, "main", "v1", "v2"), await world.registry("one")
    literal = {"repository": f"{source.host}/team/app", "tags": ["main", "v1"]}
    await world.run(world.mirror(literal, target, signatures={"copy": False}))
    assert source.count("GET", "/tags/list") == 0
    await world.run(world.mirror(literal | {"tags": ["main", "v*"]}, target))
    assert source.count("GET", "/tags/list") == 1
    assert target.tags[PLACE].keys() == {"main", "v1", "v2"}


async def test_published_layouts_are_left_alone(world: World) -> None:
    """A build that was published is not published again: nobody is asked within `trust`, then one HEAD a tag."""
    target = await world.registry("one")
    builds = world.folder / "builds"
    write_layout(build_image(seed="1"), builds / "a", "main", "1111111")
    mirror = world.mirror({"layouts": builds}, target, LOCAL)
    assert (await world.run(mirror)).result is Result.SUCCESS
    requests(world)
    world.later(hours=11)
    assert (await world.run(mirror)).result is Result.NOOP
    assert requests(world) == []
    world.later(days=30)
    assert (await world.run(mirror)).result is Result.NOOP
    assert requests(world) == [("one", "HEAD", f"{PLACE}/manifests/{tag}") for tag in ("main", "main-1111111")]


async def test_old_builds_do_not_ask_for_the_moving_tag(world: World) -> None:
    """Of two builds of a branch one has `main`: after `trust` three tags cost three HEADs."""
    target = await world.registry("one")
    builds = world.folder / "builds"
    mirror = world.mirror({"layouts": builds}, target)
    for commit in ("1111111", "2222222"):
        write_layout(build_image(seed=commit), builds / commit, "main", commit)
        await world.run(mirror)
    requests(world)
    world.later(days=30)
    assert (await world.run(mirror)).result is Result.NOOP
    assert requests(world) == [
        ("one", "HEAD", f"{PLACE}/manifests/{tag}") for tag in ("main", "main-1111111", "main-2222222")
    ]


async def test_the_plan_shows_the_bytes_of_a_layout(world: World) -> None:
    """`plan` knows how many bytes a build on this machine may move; for a registry only doing will tell."""
    image = build_image(shared_layers=1)
    folder = write_layout(image, world.folder / "build")
    plan = await world.plan(world.mirror({"layout": folder, "names": ["main"]}, LOCAL))
    assert [step.size for step in plan.steps] == [image.size]
    write_layout(image, world.folder / "builds" / "a", "main", "1111111")
    plan = await world.plan(world.mirror({"layouts": world.folder / "builds"}, LOCAL))
    assert [step.size for step in plan.steps] == [image.size]
    source = await filled(world, "main")
    plan = await world.plan(world.mirror({"repository": f"{source.host}/team/app:main"}, LOCAL))
    assert [step.size for step in plan.steps] == [None]
