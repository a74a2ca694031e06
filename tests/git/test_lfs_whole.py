"""A copy is whole when its LFS objects are there: those of the whole history, at every target, as long as it takes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mirrord.model.plan import Action
from mirrord.model.run import Outcome, Result, Run
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.syncers.git.syncer import SYNCER
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.running import run as program
from mirrord.testing.servers import require
from mirrord.wire.git.command import Git
from mirrord.wire.git.lfs.objects import place, size_of
from tests.support.frontserver import open_front
from tests.support.gitcontent import lfs_pointer
from tests.support.gitworld import GitWorld, receipts
from tests.support.lfshost import LfsHost

NAME, MAIN, DEV = "app.git", "refs/heads/main", "refs/heads/dev"
OLD, BIG, NEW = b"old" * 1000, b"big" * 4096, b"new" * 2000
ATTRIBUTES = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"


@dataclass(slots=True)
class Scene:
    """An upstream whose `main` had OLD, has BIG and no LFS any more on `dev`; and a destination."""

    world: GitWorld
    source: LfsHost
    upstream: Upstream
    there: LfsHost

    def mirror(self, *targets: str, **keys: Any) -> Mirror:
        places = {"one": self.there.url(NAME), "local": LOCAL}
        return self.world.mirror(self.source.url(NAME), {name: places[name] for name in targets}, keys=keys)

    def oid(self, data: bytes) -> str:
        return lfs_pointer(data).split(b"sha256:")[1][:64].decode()

    def given(self, host: LfsHost | None = None) -> set[bytes]:
        return set((host or self.there).objects.values())

    def cached(self, mirror: Mirror, data: bytes) -> bool:
        return size_of(self.world.cache(mirror).folder, self.oid(data)) == len(data)


@pytest.fixture
async def scene(world: GitWorld) -> Scene:
    source = await world.stack.enter_async_context(LfsHost(world.folder / "source", wire=world.wire))
    there = await world.stack.enter_async_context(LfsHost(world.folder / "one", wire=world.wire))
    upstream = Upstream(source.create(NAME))
    upstream.commit("main", {"f.bin": lfs_pointer(OLD), ".gitattributes": ATTRIBUTES}, parent=None)
    tip = upstream.commit("main", {"f.bin": lfs_pointer(BIG)})
    upstream.commit("dev", {"f.bin": b"small again\n", ".gitattributes": b"\n"}, parent=tip)
    there.create(NAME)
    for data in (OLD, BIG):
        source.put(NAME, data)
    return Scene(world, source, upstream, there)


def large(run: Run, target: str) -> Outcome:
    return receipts(run, target)["lfs"].outcome


async def test_objects_of_the_whole_history_go_before_the_refs(scene: Scene) -> None:
    """What only older commits point to is carried too, as `git lfs push --all` does; refs follow when all are there."""
    run = await scene.world.run(scene.mirror("one"))
    assert run.result is Result.SUCCESS, run.receipts
    assert scene.given() == {OLD, BIG}
    assert scene.there.refs(NAME) == scene.upstream.refs()
    order = [
        one.target
        for one in scene.world.wire.exchanges
        if one.method in {"PUT", "POST"} and one.server == scene.there.host
    ]
    assert max(at for at, target in enumerate(order) if "lfs-objects" in target) < next(
        at for at, target in enumerate(order) if "git-receive-pack" in target
    )
    (step,) = [step for step in run.plan.steps if step.item == "lfs"] if run.plan else []
    assert (step.action, step.size) == (Action.COPY, len(OLD) + len(BIG))
    assert step.reason == "2 LFS objects that are not known to be there"
    assert receipts(run, "one")["lfs"].sent == len(OLD) + len(BIG)


async def test_a_repository_that_left_lfs_is_carried_whole(scene: Scene) -> None:
    """Where no tip uses LFS any more, its history still does."""
    scene.upstream.set(MAIN, scene.upstream.refs()[DEV])
    assert (await scene.world.run(scene.mirror("one", "local"))).result is Result.SUCCESS
    assert scene.given() == {OLD, BIG}


async def test_what_did_not_come_is_asked_for_until_it_does(scene: Scene) -> None:
    """An object that is missing for a day is no success, is had the next day, and then costs nothing any more."""
    held = scene.source.objects.pop((NAME, scene.oid(BIG)))
    mirror = scene.mirror("local")
    for asked in ("2 LFS objects", "1 LFS object"):
        run = await scene.world.run(mirror)
        assert (run.result, large(run, "local")) == (Result.PARTIAL, Outcome.REFUSED)
        detail = receipts(run, "local")["lfs"].detail
        assert detail.startswith(f"1 of {asked} could not be brought: ")
        assert detail.endswith(f"; it is {scene.oid(BIG)[:12]}")
        assert scene.cached(mirror, OLD)
    scene.source.put(NAME, held)
    run = await scene.world.run(mirror)
    assert (run.result, run.read) == (Result.SUCCESS, len(BIG))
    assert scene.cached(mirror, BIG)


async def test_an_idle_day_costs_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all is whole no process starts, no LFS server is asked, and nothing is to do."""
    mirror = scene.mirror("one", "local")
    await scene.world.run(mirror)
    started: list[Sequence[str]] = []
    real = Git.run

    async def counted(self: Git, args: Sequence[str], **more: Any) -> Any:
        started.append(args)
        return await real(self, args, **more)

    monkeypatch.setattr(Git, "run", counted)
    scene.source.asked.clear()
    scene.there.asked.clear()
    assert (await scene.world.run(mirror)).result is Result.NOOP
    assert (started, scene.source.asked, scene.there.asked) == ([], [], [])


async def test_only_what_is_new_is_asked_for(scene: Scene) -> None:
    """After a new commit the servers hear of its objects alone."""
    mirror = scene.mirror("one", "local")
    await scene.world.run(mirror)
    scene.source.asked.clear()
    scene.there.asked.clear()
    scene.upstream.commit("main", {"n.bin": lfs_pointer(NEW)})
    scene.source.put(NAME, NEW)
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert scene.source.asked == [("download", [scene.oid(NEW)])]
    assert scene.there.asked == [("upload", [scene.oid(NEW)])]


async def test_lfs_that_is_switched_on_later_is_made_up_for(scene: Scene) -> None:
    """`lfs: false` and then `true`: cache and destination get what they lack, although no ref moves."""
    await scene.world.run(scene.mirror("one", "local", lfs=False))
    assert scene.there.refs(NAME) == scene.upstream.refs()
    assert scene.given() == set()
    mirror = scene.mirror("one", "local")
    run = await scene.world.run(mirror)
    assert run.result is Result.SUCCESS
    assert {receipt.step.item for receipt in run.receipts} == {"lfs"}
    assert scene.given() == {OLD, BIG}
    assert scene.cached(mirror, OLD)
    assert (await scene.world.run(mirror)).result is Result.NOOP


async def test_what_upstream_lost_long_ago_stops_nobody(scene: Scene) -> None:
    """An object that only older commits point to, and that upstream has no more, is a problem of upstream's alone."""
    lost = scene.source.objects.pop((NAME, scene.oid(OLD)))
    mirror = scene.mirror("one", "local")
    run = await scene.world.run(mirror)
    assert run.result is Result.SUCCESS
    assert scene.there.refs(NAME) == scene.upstream.refs()
    assert scene.given() == {BIG}
    assert {large(run, name) for name in ("one", "local")} == {Outcome.LEFT_OUT}
    (problem,) = run.problems
    assert problem.startswith("1 LFS object of older commits, which no branch or tag needs, cannot be had: ")
    assert problem.endswith(f"; it is {scene.oid(OLD)[:12]}")
    run = await scene.world.run(mirror)
    assert (run.result, run.problems) == (Result.NOOP, (problem,))
    scene.source.put(NAME, lost)
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert scene.given() == {OLD, BIG}


@pytest.mark.parametrize("side", ["upstream", "destination"])
async def test_without_an_lfs_server_those_that_need_none_go_on(scene: Scene, side: str) -> None:
    """Where one side has no LFS server a ref waits that needs objects for a checkout; who left LFS is mirrored."""
    bare = scene.source if side == "upstream" else scene.there
    bare.faults.on("POST", "/info/lfs/", times=None).status(404)
    mirror = scene.mirror("one")
    run = await scene.world.run(mirror)
    told = receipts(run, "one")
    assert (run.result, told["lfs"].outcome, told["lfs"].code) == (Result.PARTIAL, Outcome.REFUSED, "unsupported")
    assert "set `lfs: false` to mirror pointers only" in told["lfs"].detail
    assert {item for item, one in told.items() if not one.good} == {MAIN, "lfs"}
    assert set(scene.there.refs(NAME)) == {DEV}
    scene.upstream.set(MAIN, scene.upstream.refs()[DEV])
    run = await scene.world.run(mirror)
    assert (run.result, large(run, "one"), len(run.problems)) == (Result.SUCCESS, Outcome.LEFT_OUT, 1)
    assert scene.there.refs(NAME) == scene.upstream.refs()


async def test_many_destinations_cost_one_look_at_the_history(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who needs what did not come is found out once for all targets to which the same happened."""
    places = {}
    for name in ("one", "two", "three"):
        scene.there.create(f"{name}.git")
        places[name] = scene.there.url(f"{name}.git")
    scene.source.faults.on("POST", "/info/lfs/", times=None).status(403)
    walks: list[str] = []
    real = Git.run

    async def counted(self: Git, args: Sequence[str], **more: Any) -> Any:
        walks.extend(args[:1] if any(arg.startswith("--find-object") for arg in args) else [])
        return await real(self, args, **more)

    monkeypatch.setattr(Git, "run", counted)
    run = await scene.world.run(scene.world.mirror(scene.source.url(NAME), places))
    assert {large(run, name) for name in places} == {Outcome.REFUSED}
    assert walks == ["diff-tree", "log"]


async def test_an_object_that_a_destination_does_not_take_stops_those_whose_history_has_it(scene: Scene) -> None:
    """Of what can be had all goes before a ref that ever pointed to it; refs that never did do not wait."""
    scene.upstream.commit("other", {"n.bin": lfs_pointer(NEW), ".gitattributes": ATTRIBUTES}, parent=None)
    scene.source.put(NAME, NEW)
    scene.there.refuses = {scene.oid(OLD)}
    run = await scene.world.run(scene.mirror("one"))
    told = receipts(run, "one")
    assert {item for item, one in told.items() if not one.good} == {MAIN, DEV, "lfs"}
    assert set(scene.there.refs(NAME)) == {"refs/heads/other"}
    assert scene.given() == {BIG, NEW}
    assert "quota of this host is used up" in told["lfs"].detail


async def test_a_destination_that_misses_objects_is_asked_about_each(scene: Scene) -> None:
    """A host that refuses a ref for objects that it was believed to have (GH008) gets them with the next run."""
    mirror = scene.mirror("one", "local")
    await scene.world.run(mirror)
    scene.there.objects.clear()
    hook = "#!/bin/sh\necho 'error: GH008: Your push referenced at least 1 unknown Git LFS object:' >&2\nexit 1\n"
    scene.there.hook(NAME, "pre-receive", hook)
    scene.upstream.commit("main", {"README.md": b"more\n"})
    told = receipts(await scene.world.run(mirror), "one")[MAIN]
    assert "the host misses LFS objects" in told.detail
    (scene.there.path(NAME) / "hooks" / "pre-receive").unlink()
    run = await scene.world.run(mirror)
    assert run.result is Result.SUCCESS
    assert scene.given() == {OLD, BIG}
    assert scene.there.refs(NAME) == scene.upstream.refs()


@pytest.mark.parametrize("fresh", ["added", "moved", "made anew", "emptied"])
async def test_a_destination_that_is_new_gets_all(scene: Scene, fresh: str) -> None:
    """Whatever is known of another place, or of what once was there, counts for nothing."""
    mirror = scene.mirror("local") if fresh == "added" else scene.mirror("one", "local")
    await scene.world.run(mirror)
    there = scene.there
    if fresh == "moved":
        there = await scene.world.stack.enter_async_context(LfsHost(scene.world.folder / "two"))
        there.create(NAME)
    elif fresh != "added":
        there.objects.clear()
        shutil.rmtree(there.path(NAME))
        there.create(NAME)
    mirror = scene.world.mirror(scene.source.url(NAME), one=there.url(NAME), local=LOCAL)
    if fresh == "emptied":
        Upstream(there.path(NAME)).set("refs/heads/tmp", Upstream(there.path(NAME)).commit("tmp", {"a": b"a"}))
        Upstream(there.path(NAME)).delete("refs/heads/tmp")
    run = await scene.world.run(mirror)
    assert run.result is Result.SUCCESS, (run.error, run.receipts)
    assert scene.given(there) == {OLD, BIG}
    assert there.refs(NAME) == scene.upstream.refs()


async def test_a_cache_of_before_is_read(scene: Scene) -> None:
    """Objects that git-lfs laid into a cache are there; nothing is downloaded again, and who has them is asked once."""
    mirror = scene.mirror("one", "local")
    await scene.world.run(mirror)
    folder = scene.world.cache(mirror).folder
    (folder / "mirrord-lfs.json").unlink()
    (folder / "lfs" / "logs").touch()
    scene.source.asked.clear()
    scene.there.asked.clear()
    run = await scene.world.run(mirror)
    assert (run.result, run.read) == (Result.SUCCESS, 0)
    assert scene.source.asked == []
    assert [(operation, len(ids)) for operation, ids in scene.there.asked] == [("upload", 2)]
    assert not (folder / "lfs" / "logs").exists()
    assert (await scene.world.run(mirror)).result is Result.NOOP


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"print": 1, "owed one": "x", "tips": "zz"}'])
async def test_a_damaged_note_is_no_note(scene: Scene, damage: str) -> None:
    """What is noted is believed when it can be read; else everything is looked at once more."""
    mirror = scene.mirror("one", "local")
    await scene.world.run(mirror)
    (scene.world.cache(mirror).folder / "mirrord-lfs.json").write_text(damage)
    scene.upstream.commit("main", {"n.bin": lfs_pointer(NEW)})
    scene.source.put(NAME, NEW)
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert scene.given() == {OLD, BIG, NEW}


async def test_what_no_ref_points_to_any_more_is_not_owed(scene: Scene) -> None:
    """When upstream takes a branch back, nobody asks for the objects that only that branch had."""
    scene.upstream.commit("stale", {"n.bin": lfs_pointer(NEW), ".gitattributes": ATTRIBUTES}, parent=None)
    mirror = scene.mirror("one", "local")
    assert (await scene.world.run(mirror)).result is Result.PARTIAL
    scene.upstream.delete("refs/heads/stale")
    assert (await scene.world.run(mirror)).result in {Result.SUCCESS, Result.NOOP}
    scene.source.asked.clear()
    assert (await scene.world.run(mirror)).result is Result.NOOP
    assert scene.source.asked == []


async def test_pointers_in_documentation_are_no_objects(scene: Scene) -> None:
    """Where no `.gitattributes` ever handed files to LFS, pointers are files like any other; else they count."""
    upstream = Upstream(scene.source.create("docs.git"))
    upstream.commit("main", {"example.txt": lfs_pointer(NEW)}, parent=None)
    scene.there.create("docs.git")
    mirror = scene.world.mirror(scene.source.url("docs.git"), one=scene.there.url("docs.git"), local=LOCAL)
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    upstream.commit("main", {"README.md": b"more\n"})
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert (scene.source.asked, scene.there.asked) == ([], [])
    upstream.commit("main", {".gitattributes": b"*.txt filter=lfs\n"})
    scene.source.put("docs.git", NEW)
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert scene.given() == {NEW}


async def test_an_lfs_server_that_leads_into_private_networks_is_refused(scene: Scene) -> None:
    """The refusal is told with the item, the refs that need the objects wait, and nothing is kept of it."""
    scene.source.elsewhere, scene.source.issues = "http://169.254.169.254", {"Metadata-Flavor": "Google"}
    scene.upstream.commit("plain", {"a": b"a"}, parent=None)
    run = await scene.world.run(scene.mirror("one", "local"))
    told = receipts(run, "one")
    assert (told["lfs"].outcome, told["lfs"].code) == (Outcome.REFUSED, "untrusted")
    assert "169.254.169.254 is a private or reserved address" in told["lfs"].detail
    assert set(scene.there.refs(NAME)) == {"refs/heads/plain"}
    assert {method for method, _, _ in scene.source.requests} == {"POST"}


async def test_a_damaged_object_comes_anew(scene: Scene) -> None:
    """An object that rotted in the cache is not brought to a destination; it comes anew with the next run."""
    mirror = scene.mirror("local")
    await scene.world.run(mirror)
    path = place(scene.world.cache(mirror).folder, scene.oid(BIG))
    path.write_bytes(b"?" * len(BIG))
    wider = scene.mirror("one", "local")
    run = await scene.world.run(wider)
    assert "is damaged; the next run fetches it again" in receipts(run, "one")["lfs"].detail
    assert scene.given() == {OLD}
    assert MAIN not in scene.there.refs(NAME)
    assert (await scene.world.run(wider)).result is Result.SUCCESS
    assert scene.given() == {OLD, BIG}
    assert path.read_bytes() == BIG


async def test_a_cache_that_cannot_be_searched_is_healed(scene: Scene) -> None:
    """Where the history has a hole nothing is pushed, and the next run builds a new cache."""
    await scene.world.run(scene.mirror("local", lfs=False))
    mirror = scene.mirror("one", "local")
    cache = Upstream(scene.world.cache(mirror).folder)
    (pack,) = (one.read_bytes() for one in cache.path.glob("objects/pack/*.pack"))
    shutil.rmtree(cache.path / "objects" / "pack")
    cache.git("unpack-objects", "-q", stdin=pack)
    tree = cache.git("rev-parse", f"{MAIN}~1^{{tree}}").strip()
    (cache.path / "objects" / tree[:2] / tree[2:]).unlink()
    run = await scene.world.run(mirror)
    assert run.result is Result.FAILED
    assert "damaged" in run.error
    assert scene.there.refs(NAME) == {}
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert scene.given() == {OLD, BIG}
    assert scene.there.refs(NAME) == scene.upstream.refs()


async def test_from_upstream_to_a_clone(scene: Scene, tmp_path: Path) -> None:
    """What one run mirrors to `local`, real git with real git-lfs clones from there, with every version of the file."""
    require("git-lfs")
    assert (await scene.world.run(scene.mirror("local"))).result is Result.SUCCESS
    settings = {"filter.lfs.process": "git-lfs filter-process", "filter.lfs.required": "true"}
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    async with open_front(scene.world.services, SYNCER) as url:
        cloned = await program("git", *options, "clone", "--quiet", f"{url}/git/app.git", tmp_path / "c")
        assert cloned.status == 0, cloned.output
        assert (tmp_path / "c" / "f.bin").read_bytes() == BIG
        older = await program("git", *options, "-C", tmp_path / "c", "checkout", "--quiet", "HEAD~1")
        assert older.status == 0, older.output
        assert (tmp_path / "c" / "f.bin").read_bytes() == OLD


@pytest.mark.parametrize("size", [len(BIG) - 1, len(BIG) + 1, 0, 10**17])
async def test_a_pointer_with_a_wrong_size_stops_nobody(scene: Scene, size: int) -> None:
    """An object is what its id says: a branch whose pointer tells another size has it as well, as with git-lfs."""
    wrong = lfs_pointer(BIG).replace(b"size %d" % len(BIG), b"size %d" % size)
    scene.upstream.commit("pr", {"x.bin": wrong, ".gitattributes": ATTRIBUTES}, parent=None)
    mirror = scene.mirror("one", "local")
    run = await scene.world.run(mirror)
    assert run.result is Result.SUCCESS, run.receipts
    assert scene.there.refs(NAME) == scene.upstream.refs()
    assert scene.given() == {OLD, BIG}
    assert scene.cached(mirror, BIG)
    scene.source.asked.clear()
    assert (await scene.world.run(mirror)).result is Result.NOOP
    assert scene.source.asked == []
