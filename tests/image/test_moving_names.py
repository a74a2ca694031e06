"""Where `main` ends: three real registries, builds that come and go, and people who set tags by hand."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from mirrord.model.plan import Action, Plan
from mirrord.model.run import Result, Run
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.testing import DockerRegistry, Image, build_image, push, require
from tests.support.layouts import write_layout
from tests.support.store import MemoryStore
from tests.support.walking import walk
from tests.support.world import PREFIX, World, open_world

pytestmark = pytest.mark.asyncio(loop_scope="module")

CREATED = "org.opencontainers.image.created"
ONE = ["linux/amd64"]
Three = tuple[DockerRegistry, DockerRegistry, DockerRegistry]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three() -> AsyncIterator[Three]:
    require("docker-registry")
    async with DockerRegistry() as a, DockerRegistry() as b, DockerRegistry() as c:
        yield a, b, c


@dataclass
class Scene:
    """A mirror of builds to three registries and the local store."""

    world: World
    three: Three
    name: str
    builds: Path
    images: dict[str, Image] = field(default_factory=dict)

    def mirror(self, trust: float = 0.0) -> Mirror:
        return self.world.mirror({"layouts": self.builds}, *self.three, LOCAL, name=self.name, trust=trust)

    def image(self, commit: str, day: int = 0) -> Image:
        """Build a commit, annotated with a day in January 2024 unless that is 0."""
        said = {CREATED: f"2024-01-{day:02}T00:00:00Z"} if day else None
        made = build_image(ONE, seed=commit, annotations=said)
        self.images[str(made.digest)] = self.images[commit] = made
        return made

    def layout(self, commit: str, day: int = 0, branch: str = "main") -> Image:
        """Leave a commit in the folder that is watched."""
        image = self.image(commit, day)
        write_layout(image, self.builds / f"{branch}-{commit}", branch, commit)
        return image

    async def publish(self, commit: str, *, branch: str = "main", if_newest: bool = False) -> Run:
        folder = write_layout(self.images[commit], self.world.folder / "published" / commit)
        names = f"{branch}-{commit}", branch
        return await self.world.publish(self.mirror(), f"oci:{folder}", *names, if_newest=if_newest)

    async def sync(self, trust: float = 0.0) -> Run:
        return await self.world.run(self.mirror(trust))

    async def plan(self, trust: float = 0.0) -> Plan:
        return await self.world.plan(self.mirror(trust))

    @property
    def repository(self) -> str:
        return f"{PREFIX}/{self.name}"

    async def tags(self) -> list[dict[str, str]]:
        """Return the tags of the three registries and of the local store, all their content checked."""
        found = [dict(await walk(registry, self.repository)) for registry in self.three]
        return [*found, self.world.local_tags(self.name)]

    async def at(self, name: str) -> list[str]:
        """Return the commits that a name stands for at the four places."""
        commits = {str(image.digest): commit for commit, image in self.images.items() if ":" not in commit}
        return [commits.get(tags.get(name, ""), "none") for tags in await self.tags()]


@pytest_asyncio.fixture(loop_scope="module")
async def scene(three: Three, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async with open_world(tmp_path) as world:
        name = "".join(letter for letter in request.node.name if letter.isalnum()).lower()[-50:]
        yield Scene(world, three, name, tmp_path / "builds")


def remove_tag(registry: DockerRegistry, repository: str, tag: str) -> None:
    """Delete one tag; docker-registry itself can only delete a manifest with all its tags."""
    shutil.rmtree(registry.folder / "content/docker/registry/v2/repositories" / repository / "_manifests/tags" / tag)


async def test_a_retry_makes_targets_agree(scene: Scene) -> None:
    """A1 (a): b was down for build A; A is run again after B: `main` is A at all places, and B after B is run again."""
    a, b = scene.image("aaaaaaa"), scene.image("bbbbbbb")
    await scene.three[1].stop()
    assert (await scene.publish("aaaaaaa")).result is Result.PARTIAL
    await scene.three[1].start()
    assert (await scene.publish("bbbbbbb")).result is Result.SUCCESS
    assert await scene.at("main") == ["bbbbbbb"] * 4
    for commit in ("aaaaaaa", "bbbbbbb"):
        assert (await scene.publish(commit)).result is Result.SUCCESS
        assert await scene.at("main") == [commit] * 4
    wanted = {"main-aaaaaaa": str(a.digest), "main-bbbbbbb": str(b.digest), "main": str(b.digest)}
    assert await scene.tags() == [wanted] * 4


async def test_a_retry_with_if_newest_leaves_the_newer_build(scene: Scene) -> None:
    """A1 (a): the same with `--if-newest`: A arrives where it was missing, `main` stays B, and that is told."""
    scene.image("aaaaaaa", day=1)
    b = scene.image("bbbbbbb", day=2)
    await scene.three[1].stop()
    assert (await scene.publish("aaaaaaa", if_newest=True)).result is Result.PARTIAL
    await scene.three[1].start()
    assert (await scene.publish("bbbbbbb", if_newest=True)).result is Result.SUCCESS
    run = await scene.publish("aaaaaaa", if_newest=True)
    assert run.result is Result.SUCCESS
    assert await scene.at("main") == ["bbbbbbb"] * 4
    assert await scene.at("main-aaaaaaa") == ["aaaaaaa"] * 4
    assert sorted(text.partition(": it is ")[0] for text in run.remarks) == sorted(
        f"{target.name}: main left alone" for target in scene.mirror().targets
    )
    assert all(
        f"it is {b.digest} there, created 2024-01-02T00:00:00Z; main-aaaaaaa was created 2024-01-01T00:00:00Z" in text
        for text in run.remarks
    )


@pytest.mark.parametrize("ephemeral", [False, True], ids=["state", "fresh"])
async def test_a_rollback_moves_main_back(scene: Scene, ephemeral: bool) -> None:
    """A1 (b): A, B, and A again, as after a forced push: `main` is A everywhere, with a fresh state too."""
    scene.image("aaaaaaa", day=1)
    scene.image("bbbbbbb", day=2)
    for commit in ("aaaaaaa", "bbbbbbb", "aaaaaaa"):
        if ephemeral:
            scene.world.store = MemoryStore()
        assert (await scene.publish(commit)).result is Result.SUCCESS
        assert await scene.at("main") == [commit] * 4
    assert (await scene.publish("aaaaaaa")).result is Result.NOOP


async def test_a_folder_whose_newest_build_is_an_old_commit_moves_main_back(scene: Scene) -> None:
    """A1 (b): the branch was forced back and A built again: its layout is the newest, and `main` is A again."""
    for commit, day in (("aaaaaaa", 1), ("bbbbbbb", 2)):
        scene.layout(commit, day)
        await scene.sync()
    assert await scene.at("main") == ["bbbbbbb"] * 4
    write_entry_date(scene.builds / "main-aaaaaaa", "2024-01-03T00:00:00Z")
    assert (await scene.sync()).result is Result.SUCCESS
    assert await scene.at("main") == ["aaaaaaa"] * 4
    assert (await scene.sync()).result is Result.NOOP


async def test_somebody_moves_or_deletes_main(scene: Scene) -> None:
    """A1 (c): `main` is set by hand at one registry and deleted at another: plan says so, the next run mends both."""
    scene.layout("aaaaaaa", day=1)
    await scene.sync()
    b = scene.layout("bbbbbbb", day=2)
    await scene.sync()
    other = scene.image("fffffff", day=9)
    await push(other, scene.three[2].url, scene.repository, ["main"])
    remove_tag(scene.three[0], scene.repository, "main")
    plan = await scene.plan()
    reasons = {step.target: step.reason for step in plan.steps if step.item == "main-bbbbbbb"}
    first, second, third = (registry.host for registry in scene.three)
    assert reasons == {
        first: "main not there",
        second: "already there",
        third: f"moves main from {other.digest}",
        LOCAL: "already there",
    }
    run = await scene.sync()
    assert (run.result, run.read) == (Result.SUCCESS, 0)
    assert await scene.at("main") == ["bbbbbbb"] * 4
    assert (await scene.sync()).result is Result.NOOP
    assert all(tags["main-bbbbbbb"] == b.digest for tags in await scene.tags())


async def test_a_publish_mends_main_at_once(scene: Scene) -> None:
    """A1 (c): publishing the same build again sets `main` where it is wrong or missing, however fresh the record is."""
    scene.image("aaaaaaa")
    await scene.publish("aaaaaaa")
    await push(scene.image("fffffff"), scene.three[2].url, scene.repository, ["main"])
    remove_tag(scene.three[0], scene.repository, "main")
    assert (await scene.publish("aaaaaaa")).result is Result.SUCCESS
    assert await scene.at("main") == ["aaaaaaa"] * 4


async def test_within_trust_nobody_is_asked_and_the_plan_says_so(scene: Scene) -> None:
    """`already there` is said only of what was asked; within `trust` the record speaks, and after it main is mended."""
    scene.layout("aaaaaaa", day=1)
    await scene.sync()
    await push(scene.image("fffffff"), scene.three[2].url, scene.repository, ["main"])
    scene.world.later(hours=11)
    plan = await scene.plan(trust=12 * 3600.0)
    assert {(step.action, step.reason) for step in plan.steps} == {(Action.KEEP, "recorded there 11 h ago")}
    scene.world.later(hours=2)
    assert (await scene.sync(trust=12 * 3600.0)).result is Result.SUCCESS
    assert await scene.at("main") == ["aaaaaaa"] * 4


async def test_a_target_that_was_down_gets_the_newest_build(scene: Scene) -> None:
    """Two builds came while a registry was down: afterwards it has both, and `main` as everywhere else."""
    scene.layout("aaaaaaa", day=1)
    await scene.sync()
    await scene.three[1].stop()
    for commit, day in (("bbbbbbb", 2), ("ccccccc", 3)):
        scene.layout(commit, day)
        await scene.sync()
    await scene.three[1].start()
    assert (await scene.sync()).result is Result.SUCCESS
    assert await scene.at("main") == ["ccccccc"] * 4
    assert await scene.at("main-bbbbbbb") == ["bbbbbbb"] * 4


async def test_two_jobs_with_if_newest(scene: Scene) -> None:
    """Two jobs without a common state: whoever comes later, and however often, `main` is the newer build."""
    scene.image("aaaaaaa", day=1)
    scene.image("bbbbbbb", day=2)
    await scene.publish("aaaaaaa", if_newest=True)
    for commits in (("aaaaaaa", "bbbbbbb"), ("bbbbbbb", "aaaaaaa")):
        for commit in commits:
            scene.world.store = MemoryStore()
            assert (await scene.publish(commit, if_newest=True)).result in (Result.SUCCESS, Result.NOOP)
        assert await scene.at("main") == ["bbbbbbb"] * 4


def write_entry_date(folder: Path, date: str) -> None:
    """Annotate the entry of a layout as buildx does: with the time at which it wrote the layout."""
    index = folder / "index.json"
    index.write_text(index.read_text().replace('"annotations": {', f'"annotations": {{"{CREATED}": "{date}", ', 1))
