"""A tag that never moves is never given to a branch, whoever came first (fault A3)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mirrord.model.plan import Action
from mirrord.model.run import Result, Run
from mirrord.plan.naming import build_tags
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.syncers.image.kept import LocalRepository
from mirrord.testing import Image, Registry, build_image, push
from tests.support.layouts import write_layout
from tests.support.world import World

PLACE = "mirror/app"
ONE = ["linux/amd64"]
BUILD, BRANCH = build_tags("release", "1.0"), build_tags("release-1.0", "b" * 40)
"""Both have the tag `release-1.0`: the first one as its own that never moves."""
COMMIT = build_tags("main", "a" * 40), build_tags("main-aaaaaaa", "b" * 40)


def image(seed: str) -> Image:
    return build_image(ONE, seed=seed)


class Publisher:
    """Publishes to two registries and the local store."""

    def __init__(self, world: World, targets: Sequence[Registry]) -> None:
        self.world, self.targets = world, list(targets)

    @property
    def mirror(self) -> Mirror:
        return self.world.mirror({"layouts": self.world.folder / "builds"}, *self.targets, LOCAL, trust=0.0)

    async def publish(self, names: Sequence[str], made: Image) -> Run:
        folder = write_layout(made, self.world.folder / "published" / made.digest.hex)
        return await self.world.publish(self.mirror, f"oci:{folder}", *names)

    @property
    def tags(self) -> list[dict[str, str]]:
        return [*(dict(target.tags.get(PLACE, {})) for target in self.targets), self.world.local_tags()]


@pytest.fixture
async def publisher(world: World) -> Publisher:
    return Publisher(world, [await world.registry(name) for name in ("one", "two")])


def refusals(run: Run) -> list[str]:
    """Return why steps were refused; none was done."""
    assert run.plan is not None
    assert {step.action for step in run.plan.steps} == {Action.REFUSE}
    assert run.receipts == ()
    assert run.result is Result.FAILED
    return [step.reason for step in run.plan.steps]


@pytest.mark.parametrize("pair", [(BUILD, BRANCH), COMMIT], ids=["describe", "commit"])
async def test_a_branch_never_takes_the_tag_of_a_build(
    publisher: Publisher, pair: tuple[tuple[str, str], tuple[str, str]]
) -> None:
    """`--branch release-1.0` after `--branch release --describe 1.0`: refused with both names, nothing moves."""
    build, branch = pair
    first = image("first")
    await publisher.publish(build, first)
    before = publisher.tags
    for made in (image("second"), first):
        for reason in refusals(await publisher.publish(branch, made)):
            assert reason.startswith(f"{build[0]} is the tag of a build of {build[1]} ({first.digest}) and never moves")
            assert f"{branch[0]} cannot have it as the tag of its branch" in reason
    assert publisher.tags == before == [dict.fromkeys(build, str(first.digest))] * 3


async def test_a_build_never_takes_the_tag_of_a_branch(publisher: Publisher) -> None:
    """The other way round: the branch was there first: the build is refused, also with the same content."""
    for seed in ("first", "second"):
        assert (await publisher.publish((f"release-1.0-{seed}", "release-1.0"), image(seed))).result is Result.SUCCESS
    before = publisher.tags
    for made in (image("third"), image("second")):
        for reason in refusals(await publisher.publish(BUILD, made)):
            assert reason.startswith("release-1.0 is the tag of a branch and stands for release-1.0-second")
            assert "a build of release cannot have it" in reason
    assert publisher.tags == before
    assert (await publisher.publish(("release-1.0-third", "release-1.0"), image("third"))).result is Result.SUCCESS


async def test_the_tag_of_a_pull_request(publisher: Publisher) -> None:
    """A build whose own tag is `pr-7` and pull request 7 do not share it."""
    first = image("first")
    await publisher.publish(("pr-7", "pr"), first)
    assert "pr-7 is the tag of a build of pr" in refusals(await publisher.publish(("pr-7-abc", "pr-7"), image("b")))[0]
    assert [tags["pr-7"] for tags in publisher.tags] == [first.digest] * 3


async def test_a_tag_is_free_when_it_is_gone_from_every_target(publisher: Publisher) -> None:
    """Deleted at one target it is still nobody's but the build's, at all of them; deleted everywhere it can be had."""
    publisher.targets.pop()
    one = publisher.targets[0]
    await publisher.publish(BUILD, image("first"))
    two = await publisher.world.registry("late")
    publisher.targets.append(two)
    refusals(await publisher.publish(BRANCH, image("second")))
    assert PLACE not in two.tags
    del one.tags[PLACE]["release-1.0"]
    refusals(await publisher.publish(BRANCH, image("second")))
    await LocalRepository(publisher.world.services, "app").remove(["release-1.0"])
    assert (await publisher.publish(BRANCH, image("second"))).result is Result.SUCCESS
    assert [tags["release-1.0"] for tags in publisher.tags] == [image("second").digest] * 3
    assert all("release-1.0 is the tag of a branch" in r for r in refusals(await publisher.publish(BUILD, image("x"))))


async def test_within_one_folder(publisher: Publisher) -> None:
    """A folder has the build `1.0` of `release` and a build of branch `release-1.0`: the former has the tag."""
    builds = publisher.world.folder / "builds"
    made = {name: image(name) for name in ("a", "b", "z")}
    write_layout(made["a"], builds / "a", "release-1.0", "b" * 40)
    write_layout(made["b"], builds / "b", "release", "1.0")
    write_layout(made["z"], builds / "z", "release-1.0", "c" * 40)
    run = await publisher.world.run(publisher.mirror)
    assert run.result is Result.PARTIAL
    assert run.plan is not None
    why = "branch release-1.0 would get the tag release-1.0 of the build 1.0 of branch release, which never moves"
    assert run.plan.missing == tuple(f"{builds / name}: {why}" for name in ("a", "z"))
    assert publisher.tags == [dict.fromkeys(BUILD, str(made["b"].digest))] * 3


@pytest.mark.parametrize("publish_first", [True, False], ids=["publish-first", "folder-first"])
async def test_between_a_folder_and_a_publish(publisher: Publisher, publish_first: bool) -> None:
    """What a publish put there is kept apart from what a folder brings, and the other way round."""
    first = image("first")
    layout = publisher.world.folder / "builds" / "x"
    if publish_first:
        await publisher.publish(BUILD, first)
        write_layout(image("second"), layout, "release-1.0", "b" * 40)
        refusals(await publisher.world.run(publisher.mirror))
    else:
        write_layout(first, layout, "release", "1.0")
        await publisher.world.run(publisher.mirror)
        refusals(await publisher.publish(BRANCH, image("second")))
    assert publisher.tags == [dict.fromkeys(BUILD, str(first.digest))] * 3


async def test_a_tag_of_the_source_does_not_take_the_tag_of_a_build(world: World) -> None:
    """A mirrored repository gets a tag `main-abc` of its own: what was published as `main-abc` stays."""
    source, one = await world.registry("source"), await world.registry("one")
    ours, theirs = image("ours"), image("theirs")
    await push(ours, source, "team/app", ["v1", "main-abc"])
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["*"]}, one, trust=0.0)
    await world.publish(mirror, f"{source.host}/team/app:v1", "main-abc", "dev")
    assert (await world.run(mirror)).result is Result.SUCCESS, "the same content is no quarrel"
    await push(theirs, source, "team/app", ["main-abc", "dev"])
    run = await world.run(mirror)
    assert run.plan is not None
    assert {step.item: step.action for step in run.plan.steps} == {
        "v1": Action.KEEP, "main-abc": Action.REFUSE, "dev": Action.COPY,
    }  # fmt: skip
    assert one.tags[PLACE] == {"v1": ours.digest, "main-abc": ours.digest, "dev": theirs.digest}
    assert (await world.run(world.mirror({"repository": f"{source.host}/team/app:dev"}, one))).result is Result.NOOP


async def test_immutable_speaks_of_published_tags_too(world: World) -> None:
    """`immutable: [v*]`: a branch called `v1.0` gets its tag once, and then it does not move."""
    source, one = await world.registry("source"), await world.registry("one")
    old, new = image("old"), image("new")
    await push(old, source, "team/app", ["v9"])
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": ["v*"]}, one, immutable=["v*"])
    await world.publish(mirror, f"{source.host}/team/app:v9", "v1.0-aaa", "v1.0")
    await push(new, source, "team/app", ["v9"])
    reason = refusals(await world.publish(mirror, f"{source.host}/team/app:v9", "v1.0-bbb", "v1.0"))
    assert "v1.0 is" in reason[0]
    assert "never moves" in reason[0]
    assert one.tags[PLACE]["v1.0"] == old.digest
    run = await world.publish(mirror, f"{source.host}/team/app:v9", "dev-bbb", "dev")
    assert run.result is Result.SUCCESS, "the tag at the source has nothing to do with it"
