"""LFS objects go before the refs that need them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.secret import Credential, Secret
from tests.support.canary import Canary
from tests.support.gitcontent import lfs_pointer
from tests.support.gitworld import GitWorld, open_git_world, receipts
from tests.support.lfshost import LfsHost

NAME, MAIN, DEV = "app.git", "refs/heads/main", "refs/heads/dev"
BIG = b"big" * 4096
ATTRIBUTES = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"


@dataclass(slots=True)
class Scene:
    """An upstream one of whose branches uses LFS, and a destination."""

    world: GitWorld
    source: LfsHost
    upstream: Upstream
    there: LfsHost
    oid: str


@pytest.fixture
async def scene(world: GitWorld) -> Scene:
    """Build it: `main` uses LFS, `dev` does not."""
    return await build(world)


async def build(world: GitWorld, user: tuple[str, str] | None = None) -> Scene:
    source = await world.stack.enter_async_context(LfsHost(world.folder / "source"))
    there = await world.stack.enter_async_context(LfsHost(world.folder / "one", user=user))
    upstream = Upstream(source.create(NAME))
    first = upstream.commit("dev", {"README.md": b"plain\n"}, parent=None)
    upstream.commit("main", {"f.bin": lfs_pointer(BIG), ".gitattributes": ATTRIBUTES}, parent=first)
    there.create(NAME)
    return Scene(world, source, upstream, there, source.put(NAME, BIG))


async def test_65_objects_arrive_with_their_refs(scene: Scene) -> None:
    """What the pushed history points to is at the destination's LFS server."""
    run = await scene.world.run(scene.world.mirror(scene.source.url(NAME), one=scene.there.url(NAME), local=LOCAL))
    assert run.result is Result.SUCCESS, run.receipts
    assert scene.there.objects == {(NAME, scene.oid): BIG}
    assert scene.there.refs(NAME) == scene.upstream.refs()


async def test_attributes_in_a_folder_count(scene: Scene) -> None:
    """Objects go before refs, too, where only a `.gitattributes` in a folder says that there are some."""
    scene.upstream.delete("refs/heads/main")
    scene.upstream.commit("dev", {"assets/f.bin": lfs_pointer(BIG), "assets/.gitattributes": ATTRIBUTES})
    scene.upstream.head("dev")
    scene.there.refuses = True
    mirror = scene.world.mirror(scene.source.url(NAME), one=scene.there.url(NAME))
    assert not receipts(await scene.world.run(mirror), "one")[DEV].good
    assert scene.there.refs(NAME) == {}
    scene.there.refuses = False
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert scene.there.objects == {(NAME, scene.oid): BIG}


async def test_credentials_reach_the_lfs_server_of_their_host_only(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The destination's LFS server is asked with its credential, upstream's without one."""
    folder = tmp_path_factory.mktemp("world")
    policies: dict[str, HostPolicy] = {}
    async with open_git_world(folder, book=HostBook(policies)) as world:
        scene = await build(world, ("robot", "pass-8d1c"))
        credential = Credential("robot", Secret("pass-8d1c"))
        policies[scene.there.host] = HostPolicy(scene.there.host, credential)
        run = await world.run(world.mirror(scene.source.url(NAME), one=scene.there.url(NAME)))
        assert run.result is Result.SUCCESS, run.receipts
        batches = [one for one in scene.there.requests if one[1].endswith("batch")]
        assert {authorization for _, _, authorization in batches} == {credential.basic}
        assert {authorization for _, _, authorization in scene.source.requests} == {""}


@pytest.mark.parametrize("side", ["upstream", "destination"])
async def test_an_lfs_server_that_fails_leaves_no_token_behind(
    tmp_path_factory: pytest.TempPathFactory, side: str
) -> None:
    """When an LFS server fails, no credential is told; what earlier versions let git-lfs write down goes."""
    canary, policies = Canary.make("robot"), dict[str, HostPolicy]()
    folder = tmp_path_factory.mktemp("world")
    async with open_git_world(folder, book=HostBook(policies)) as world:
        scene = await build(world, (canary.user, canary.text))
        for host in (scene.source, scene.there):
            policies[host.host] = HostPolicy(host.host, Credential(canary.user, Secret(canary.text)))
        mirror = world.mirror(scene.source.url(NAME), one=scene.there.url(NAME), local=LOCAL)
        logs = world.cache(mirror).folder / "lfs" / "logs"
        await world.cache(mirror).repository.prepare()
        logs.mkdir(parents=True)
        (logs / "of another version.log").write_text(canary.text)
        at_fault = scene.source if side == "upstream" else scene.there
        at_fault.faults.on("POST", "/info/lfs/", times=None).status(500, b"{}")
        told = receipts(await world.run(mirror), "one")
        assert (told[MAIN].code, told[DEV].code) == ("server", "")
        assert "status 500" in told[MAIN].detail
        assert canary.heard_below(folder) == []
        assert [one.outcome for one in told.values() if one.step.item == MAIN] == [Outcome.FAILED]
        at_fault.faults.clear()
        assert (await world.run(mirror)).result is Result.SUCCESS
        assert scene.there.objects == {(NAME, scene.oid): BIG}


async def test_refs_wait_for_their_objects(scene: Scene) -> None:
    """A destination that does not take the objects does not get the refs that need them; the others arrive."""
    scene.there.refuses = True
    mirror = scene.world.mirror(scene.source.url(NAME), one=scene.there.url(NAME), local=LOCAL)
    told = receipts(await scene.world.run(mirror), "one")
    assert not told[MAIN].good
    assert "quota of this host is used up" in told[MAIN].detail
    assert told[DEV].outcome is Outcome.DONE
    assert set(scene.there.refs(NAME)) == {DEV}
    scene.there.refuses = False
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert scene.there.refs(NAME) == scene.upstream.refs()


async def test_an_object_that_upstream_lacks_stops_the_ref_that_needs_it(scene: Scene) -> None:
    """A pointer whose object is nowhere is not published; refs that do without it arrive, and all do when it comes."""
    lost = b"lost" * 1000
    files = {"lost.bin": lfs_pointer(lost), ".gitattributes": ATTRIBUTES}
    scene.upstream.commit("stale", files, parent=scene.upstream.refs()[MAIN])
    for number in range(4):
        scene.upstream.tag(f"v{number}", "main", annotated=True)
        scene.upstream.tag(f"broken{number}", "stale", annotated=True)
    waiting = {ref for ref in scene.upstream.refs() if "stale" in ref or "broken" in ref}
    two = await scene.world.stack.enter_async_context(LfsHost(scene.world.folder / "two"))
    two.create(NAME)
    places = {"one": scene.there.url(NAME), "two": two.url(NAME), "local": LOCAL}
    mirror = scene.world.mirror(scene.source.url(NAME), places)
    for asked in (1, 2):
        run = await scene.world.run(mirror)
        assert run.result is Result.PARTIAL
        for name, there in (("one", scene.there), ("two", two)):
            told = receipts(run, name)
            assert {ref for ref, one in told.items() if not one.good} == {*waiting, "lfs"}
            assert there.refs(NAME).keys() == scene.upstream.refs().keys() - waiting
            assert there.objects == {(NAME, scene.oid): BIG}
            assert len({told[ref].detail for ref in waiting}) == 1  # told once
            assert "the object is not here" in told["lfs"].detail
        assert (receipts(run, "local")["lfs"].code, len(scene.source.asked)) == ("missing", asked)
    scene.source.put(NAME, lost)
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert scene.there.refs(NAME) == two.refs(NAME) == scene.upstream.refs()
    assert len(scene.there.objects) == len(two.objects) == 2
    assert (await scene.world.run(mirror)).result is Result.NOOP


async def test_lfs_can_be_left_out(scene: Scene) -> None:
    """`lfs: false` mirrors pointers, and asks no LFS server."""
    mirror = scene.world.mirror(scene.source.url(NAME), keys={"lfs": False}, one=scene.there.url(NAME))
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert scene.there.refs(NAME) == scene.upstream.refs()
    assert scene.source.requests == scene.there.requests == []


async def test_a_lfsconfig_in_the_repository_sends_nobody_elsewhere(scene: Scene) -> None:
    """The repository's own `.lfsconfig` does not decide where requests and credentials go."""
    elsewhere = await scene.world.stack.enter_async_context(LfsHost(scene.world.folder / "elsewhere"))
    evil = f"[lfs]\n\turl = {elsewhere.base}/app.git/info/lfs\n".encode()
    scene.upstream.commit("main", {".lfsconfig": evil})
    run = await scene.world.run(scene.world.mirror(scene.source.url(NAME), one=scene.there.url(NAME)))
    assert run.result is Result.SUCCESS, run.receipts
    assert elsewhere.requests == []
