"""LFS objects go before the refs that need them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mirrord.errors import ContentError
from mirrord.model import Outcome, Result
from mirrord.syncer import LOCAL
from mirrord.testing.canary import Canary
from mirrord.testing.gitrepos import Upstream, lfs_pointer
from mirrord.testing.gitworld import GitWorld, open_git_world, receipts
from mirrord.testing.lfshost import LfsHost
from mirrord.wire.git.address import Address
from mirrord.wire.git.attributes import tracking
from mirrord.wire.git.lfs.program import lfs_config
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.trust import Credential, Secret

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
    """When the LFS server fails, `git lfs` tells its whole environment; it does so to nobody, and to no file."""
    canary, policies = Canary.make("robot"), dict[str, HostPolicy]()
    folder = tmp_path_factory.mktemp("world")
    async with open_git_world(folder, book=HostBook(policies)) as world:
        scene = await build(world, (canary.user, canary.text))
        for host in (scene.source, scene.there):
            policies[host.host] = HostPolicy(host.host, Credential(canary.user, Secret(canary.text)))
        mirror = world.mirror(scene.source.url(NAME), one=scene.there.url(NAME), local=LOCAL)
        logs = world.kept(mirror).folder / "lfs" / "logs"
        await world.kept(mirror).cache.prepare()
        logs.mkdir(parents=True)
        (logs / "of another version.log").write_text(canary.text)
        at_fault = scene.source if side == "upstream" else scene.there
        at_fault.faults.on("POST", "/info/lfs/", times=None).status(500, b"{}")
        told = receipts(await world.run(mirror), "one")
        assert (told[MAIN].code, told[DEV].code) == ("server", "")
        assert "Server error" in told[MAIN].detail
        assert "panic" not in told[MAIN].detail
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


async def test_objects_that_upstream_lacks_stop_their_refs(scene: Scene) -> None:
    """A pointer whose object is nowhere is not published at a destination; `local` says that it is missing."""
    scene.source.objects.clear()
    mirror = scene.world.mirror(scene.source.url(NAME), one=scene.there.url(NAME), local=LOCAL)
    run = await scene.world.run(mirror)
    assert "the object is not here" in receipts(run, "one")[MAIN].detail
    assert receipts(run, "one")[DEV].good
    assert "LFS objects could not be had" in receipts(run, "local")[MAIN].detail


async def test_lfs_can_be_left_out(scene: Scene) -> None:
    """`lfs: false` mirrors pointers, and asks no LFS server."""
    mirror = scene.world.mirror(scene.source.url(NAME), keys={"lfs": False}, one=scene.there.url(NAME))
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert scene.there.refs(NAME) == scene.upstream.refs()
    assert scene.source.requests == scene.there.requests == []


async def test_without_git_lfs_the_next_step_is_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `git lfs` is not installed, refs that need it are refused with what to do; the others arrive."""
    monkeypatch.setattr("mirrord.wire.git.lfs.program.installed", lambda: False)
    mirror = scene.world.mirror(scene.source.url(NAME), one=scene.there.url(NAME))
    told = receipts(await scene.world.run(mirror), "one")
    assert told[MAIN].outcome is Outcome.REFUSED
    assert "install git-lfs" in told[MAIN].detail
    assert told[DEV].outcome is Outcome.DONE


async def test_a_lfsconfig_in_the_repository_sends_nobody_elsewhere(scene: Scene) -> None:
    """The repository's own `.lfsconfig` does not decide where requests and credentials go."""
    elsewhere = await scene.world.stack.enter_async_context(LfsHost(scene.world.folder / "elsewhere"))
    evil = f"[lfs]\n\turl = {elsewhere.base}/app.git/info/lfs\n".encode()
    scene.upstream.commit("main", {".lfsconfig": evil})
    run = await scene.world.run(scene.world.mirror(scene.source.url(NAME), one=scene.there.url(NAME)))
    assert run.result is Result.SUCCESS, run.receipts
    assert elsewhere.requests == []


async def test_only_tips_that_say_so_use_lfs(scene: Scene) -> None:
    """A tip uses LFS when a `.gitattributes` anywhere says so in an attribute, not in a pattern or a comment."""
    commit, git = scene.upstream.commit, scene.world.kept(scene.world.mirror(scene.source.url(NAME), local=LOCAL)).git
    tips = {
        "attribute": commit("a", {".gitattributes": b"# all\n*.psd  filter=lfs -text\n"}, parent=None),
        "comment": commit("b", {".gitattributes": b"# *.psd filter=lfs\n"}, parent=None),
        "pattern": commit("c", {".gitattributes": b"filter=lfs text\n\n"}, parent=None),
        "other": commit("d", {".gitattributes": b"*.psd filter=lfs2\n"}, parent=None),
        "none": commit("e", {"a": b"a"}, parent=None),
        "folder": commit("f", {".gitattributes/x": b"*.psd filter=lfs\n"}, parent=None),
        "below": commit("g", {"assets/big/.gitattributes": b"*.psd filter=lfs\n", ".gitattributes": b"a text\n"}),
        "same file": commit("h", {"é/.gitattributes": b"*.psd filter=lfs\n"}, parent=None),
        "like": commit(
            "i", {"x/.gitattributes.old": b"* filter=lfs\n", "x/my.gitattributes": b"* filter=lfs\n"}, parent=None
        ),
        "tag": scene.upstream.tag("t", "a", annotated=True),
        "blob": scene.upstream.git("rev-parse", "e:a").strip(),
    }
    tips["unchanged"] = commit("g", {"a": b"a"})
    tips["changed"] = commit("g", {"assets/big/.gitattributes": b"*.psd text\n"})
    tips["elsewhere"] = commit("g", {"other/.gitattributes": b"*.psd filter=lfs\n"})
    tips["tree"] = scene.upstream.git("rev-parse", "h^{tree}").strip()
    using = await tracking(git, scene.upstream.path, tips.values())
    expected = {"attribute", "tag", "below", "same file", "unchanged", "elsewhere", "tree"}
    assert {name for name, tip in tips.items() if tip in using} == expected
    for name, tip in tips.items():  # each alone gives the same answer
        assert bool(await tracking(git, scene.upstream.path, [tip])) == (name in expected), name
    assert (
        await tracking(git, scene.upstream.path, [tips["blob"]])
        == await tracking(git, scene.upstream.path, [])
        == frozenset()
    )


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("https://host.example/a/b.git", "https://host.example/a/b.git/info/lfs"),
        ("https://host.example/a/b", "https://host.example/a/b.git/info/lfs"),
        ("ssh://git@host.example/a/b.git", "ssh://git@host.example/a/b.git"),
    ],
)
def test_the_server_is_the_one_of_the_repository(url: str, server: str) -> None:
    """The LFS server is where git-lfs looks for it by default: below the repository, or behind its SSH."""
    assert lfs_config(Address.parse(url))["lfs.url"] == server


async def test_attributes_that_are_not_there_are_no_bug(scene: Scene) -> None:
    """A copy that lacks a `.gitattributes` says so."""
    git = scene.world.kept(scene.world.mirror(scene.source.url(NAME), local=LOCAL)).git
    tip = scene.upstream.commit("a", {".gitattributes": b"*.psd filter=lfs\n"}, parent=None)
    blob = scene.upstream.git("rev-parse", "a:.gitattributes").strip()
    (scene.upstream.path / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(ContentError, match=blob):
        await tracking(git, scene.upstream.path, [tip])
