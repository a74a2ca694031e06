"""What only a target has is fetched and kept before it is overwritten or deleted there, or it stays."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirrord.errors import DeniedError, UnsupportedError
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.syncers.git.transfer import rescue
from mirrord.testing.exchange import Exchange
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.git.address import Address
from mirrord.wire.git.lfs.objects import Pointer
from tests.support.gitcontent import lfs_pointer
from tests.support.gitworld import GitWorld, receipts
from tests.support.lfshost import LfsHost

NAME = "app.git"
MAIN, DEV, PERSON = "refs/heads/main", "refs/heads/dev", "refs/heads/person"
NOISE = random.Random(5).randbytes(1 << 20)


@dataclass(slots=True)
class Scene:
    """An upstream that is mirrored to two targets and `local`."""

    world: GitWorld
    source: GitHost
    upstream: Upstream
    d1: GitHost
    d2: GitHost

    @property
    def there(self) -> Upstream:
        """What people push to."""
        return Upstream(self.d2.path(NAME))

    def mirror(self, **keys: object) -> Mirror:
        places = {"d1": self.d1.url(NAME), "d2": self.d2.url(NAME)}
        return self.world.mirror(self.source.url(NAME), places, keys=keys, local=LOCAL)

    async def kept(self) -> set[tuple[str, str]]:
        return {(one.ref, one.oid) for one in await self.world.cache(self.mirror()).repository.backups()}

    async def listed(self) -> dict[str, str]:
        """Return what `restore` lists: ref → what became of it, without the time."""
        listed = await self.world.cache(self.mirror()).backups()
        return {one.item: one.why.rpartition(", ")[0] for one in listed}


@pytest.fixture
async def scene(world: GitWorld) -> Scene:
    """Build it, and run it once."""
    source, d1, d2 = [await world.host(name) for name in ("source", "d1", "d2")]
    upstream = Upstream(source.create(NAME))
    first = upstream.commit("main", {"README.md": b"one\n"})
    upstream.commit("main", {"README.md": b"two\n"})
    upstream.commit("dev", {"dev.txt": b"dev\n"}, parent=first)
    upstream.tag("v1", "main", annotated=True)
    for host in (d1, d2):
        host.create(NAME)
    made = Scene(world, source, upstream, d1, d2)
    assert (await world.run(made.mirror())).result is Result.SUCCESS
    for host in (source, d1, d2):
        host.forget()
    return made


async def test_what_a_person_pushed_is_kept_and_comes_back(scene: Scene) -> None:
    """A commit on `main` and a branch that only one target has: both are backups, and restoring brings them back."""
    mine = scene.there.commit("main", {"README.md": b"mine\n"})
    person = scene.there.commit("person", {"work": NOISE}, parent=mine)
    plan = await scene.world.plan(scene.mirror())
    reasons = {step.item: step.reason for step in plan.steps if step.target == "d2"}
    assert reasons[MAIN] == f"forced: {mine[:7]} is overwritten, once it is fetched from there and kept as backup"
    assert reasons[PERSON] == f"not upstream: {person[:7]} is deleted, once it is fetched from there and kept as backup"
    run = await scene.world.run(scene.mirror())
    assert run.result is Result.SUCCESS, run.receipts
    assert scene.d2.refs(NAME) == scene.upstream.refs()
    assert receipts(run, "d2")[MAIN].detail == f"{MAIN}: {reasons[MAIN]}"
    assert await scene.kept() == {(MAIN, mine), (PERSON, person)}
    assert await scene.listed() == {MAIN: "overwritten at d2", PERSON: "deleted at d2"}
    kept = scene.world.cache(scene.mirror())
    for backup in await kept.backups():
        await kept.restore([backup.name])
    assert (await scene.world.run(scene.mirror())).result is Result.SUCCESS
    for host in (scene.d1, scene.d2):
        assert host.refs(NAME) == {**scene.upstream.refs(), MAIN: mine, PERSON: person}
        Upstream(host.path(NAME)).git("fsck", "--strict", "--connectivity-only")
    assert scene.there.git("cat-file", "-s", f"{PERSON}:work").strip() == str(len(NOISE))


async def test_a_first_run_to_somebodys_fork_keeps_what_is_theirs(scene: Scene) -> None:
    """Five branches are upstream's and one is not: it stays at first, and goes with the next run, and is backed up."""
    fork = await scene.world.host("fork")
    fork.create(NAME)
    there = Upstream(fork.path(NAME))
    there.git("fetch", "-q", str(scene.upstream.path), "refs/*:refs/*")
    mine = there.commit("mywork", {"mine": b"mine\n"}, parent=there.refs()[DEV])
    mirror = scene.world.mirror(scene.source.url(NAME), name="another", fork=fork.url(NAME))
    run = await scene.world.run(mirror)
    assert run.result is Result.NOOP, run.receipts
    assert fork.refs(NAME) == {**scene.upstream.refs(), "refs/heads/mywork": mine}
    assert any("this one deletes nothing" in remark for remark in run.remarks)
    run = await scene.world.run(mirror)
    assert run.result is Result.SUCCESS, run.receipts
    assert not any("this one deletes nothing" in remark for remark in run.remarks)
    assert fork.refs(NAME) == scene.upstream.refs()
    assert [(one.item, one.digest) for one in await scene.world.cache(mirror).backups()] == [
        ("refs/heads/mywork", mine)
    ]


async def test_one_branch_loses_something_else_at_each_target(scene: Scene) -> None:
    """Two people at two targets, and upstream's own force push: three backups of one branch, each with its fate."""
    old = scene.upstream.refs()[DEV]
    here = Upstream(scene.d1.path(NAME)).commit("dev", {"a": b"a\n"})
    there = scene.there.commit("dev", {"b": b"b\n"})
    scene.upstream.rewrite("dev")
    assert (await scene.world.run(scene.mirror())).result is Result.SUCCESS
    assert await scene.kept() == {(DEV, old), (DEV, here), (DEV, there)}
    listed = await scene.world.cache(scene.mirror()).backups()
    assert {one.digest: one.why.partition(",")[0] for one in listed} == {
        old: "overwritten by upstream",
        here: "overwritten at d1",
        there: "overwritten at d2",
    }
    assert len({one.name for one in listed}) == 3


async def test_a_branch_that_makes_room_and_tags_are_kept(scene: Scene) -> None:
    """`x` of a person goes for upstream's `x/y`; a tag moved by hand, and a tag of a tree, are kept as they are."""
    mine = scene.there.commit("x", {"x": b"x\n"}, parent=scene.upstream.refs()[MAIN])
    tag = scene.there.tag("v1", "refs/heads/x", annotated=True)
    tree = scene.there.set("refs/tags/tree", scene.there.git("rev-parse", "refs/heads/x^{tree}").strip())
    scene.upstream.set("refs/heads/x/y", scene.upstream.refs()[DEV])
    run = await scene.world.run(scene.mirror())
    assert run.result is Result.SUCCESS, run.receipts
    assert scene.d2.refs(NAME) == scene.upstream.refs()
    assert await scene.kept() == {("refs/heads/x", mine), ("refs/tags/v1", tag), ("refs/tags/tree", tree)}


async def test_a_normal_day_and_an_idle_day_ask_for_nothing(scene: Scene) -> None:
    """Forward, forced and deleted refs of upstream: a target is looked at and pushed to; nothing is fetched there."""
    scene.upstream.commit("main", {"README.md": b"three\n"})
    scene.upstream.rewrite("dev")
    scene.upstream.delete("refs/tags/v1")
    scene.upstream.commit("new", {"n": b"n\n"}, parent=None)
    run = await scene.world.run(scene.mirror(max_loss=1))
    assert run.result is Result.SUCCESS, run.receipts
    assert (scene.d2.count("POST", "git-upload-pack"), scene.d2.count("*")) == (2, 4)  # two looks, a push of two
    scene.d2.forget()
    assert (await scene.world.run(scene.mirror(max_loss=1))).result is Result.NOOP
    assert scene.d2.count("*") == 1
    known = scene.upstream.refs()[MAIN]
    scene.there.set(DEV, known)  # drifted to what is here: nothing has to be fetched either
    scene.d2.forget()
    assert (await scene.world.run(scene.mirror(max_loss=1))).result is Result.SUCCESS
    assert scene.d2.count("*") == 4
    scene.there.commit("dev", {"mine": b"mine\n"})
    scene.d2.forget()
    assert (await scene.world.run(scene.mirror(max_loss=1))).result is Result.SUCCESS
    assert scene.d2.count("*") == 4 + 2


async def test_backups_of_0s_fetch_nothing(scene: Scene) -> None:
    """Whoever wants no backups gets none: it is overwritten, and the plan says that it is lost."""
    mine = scene.there.commit("main", {"README.md": b"mine\n"})
    run = await scene.world.run(scene.mirror(backups="0s"))
    assert run.result is Result.SUCCESS
    told = receipts(run, "d2")[MAIN].detail
    assert told == f"{MAIN}: forced: {mine[:7]} is overwritten, and is lost: `backups: 0s` keeps nothing"
    assert scene.d2.count("*") == 4
    assert await scene.kept() == set()


async def test_what_cannot_be_fetched_stays_where_it_is(scene: Scene) -> None:
    """A host that does not let it be fetched: the ref is refused with the reason and what to do; all others go on."""
    mine = scene.there.commit("main", {"README.md": b"mine\n"})
    scene.upstream.commit("dev", {"dev.txt": b"more\n"})
    scene.d2.faults.on("GET", "service=git-upload-pack", times=None).status(403)
    for _ in range(2):
        run = await scene.world.run(scene.mirror())
        told = receipts(run, "d2")[MAIN]
        assert (run.result, told.outcome, told.code) == (Result.PARTIAL, Outcome.REFUSED, "guard")
        assert f"{mine[:7]} is nowhere else, and could not be kept: {scene.d2.host}" in told.detail
        assert "fetch it from there yourself, or let it go with `mirrord sync app --allow`" in told.detail
        assert scene.d2.refs(NAME) == {**scene.upstream.refs(), MAIN: mine}
        assert scene.d1.refs(NAME) == scene.upstream.refs()
        assert await scene.listed() == {}
    run = await scene.world.run(scene.mirror(), allow=True)
    assert run.result is Result.SUCCESS
    assert f"{mine[:7]} is overwritten, and is lost: it could not be kept: " in receipts(run, "d2")[MAIN].detail
    assert scene.d2.refs(NAME) == scene.upstream.refs()
    (lost,) = await scene.world.cache(scene.mirror()).backups()
    assert (lost.name, lost.item, lost.digest) == ("", MAIN, mine)
    assert lost.why.startswith(f"overwritten at d2, and not kept: {scene.d2.host}")


async def test_whoever_lets_it_be_fetched_is_enough(scene: Scene) -> None:
    """Two targets have the same commit, and one of them does not let it be fetched: it is kept, and both go on."""
    mine = scene.there.commit("main", {"README.md": b"mine\n"})
    Upstream(scene.d1.path(NAME)).git("fetch", "-q", str(scene.there.path), "+main:main")
    scene.d2.faults.on("GET", "service=git-upload-pack", times=None).status(403)
    run = await scene.world.run(scene.mirror())
    assert run.result is Result.SUCCESS, run.receipts
    assert await scene.kept() == {(MAIN, mine)}
    assert await scene.listed() == {MAIN: "overwritten at d1, d2"}


async def test_a_fetch_that_fails_leaves_that_of_another_target_alone(scene: Scene) -> None:
    """What has come of the one pack stays while the other target refuses: it was removed with what the other left."""
    mine = scene.there.commit("main", {"noise": NOISE})
    Upstream(scene.d1.path(NAME)).git("fetch", "-q", str(scene.there.path), "+main:main")
    d1, d2 = (Address.parse(host.url(NAME)) for host in (scene.d1, scene.d2))
    repository = scene.world.cache(scene.mirror()).repository
    await repository.prepare()
    stalled = scene.d1.faults.on("POST", "git-upload-pack", times=None).stall(200_000)
    scene.d2.faults.on("GET", "service=git-upload-pack", times=None).status(403)
    taking = asyncio.create_task(repository.take(d1, [mine], deadline=60, largest=1 << 30))
    async with asyncio.timeout(60):
        while not any(repository.folder.glob("objects/pack/tmp_*")):  # noqa: ASYNC110 - git makes it
            await asyncio.sleep(0.02)
    with pytest.raises(DeniedError):
        await repository.take(d2, [mine], deadline=60, largest=1 << 30)
    stalled.release()
    await taking
    assert await repository.lacking([mine]) == frozenset()


async def test_a_server_of_the_old_protocol_is_asked_by_id_too(scene: Scene) -> None:
    """Git's first protocol lets what refs lead to be fetched by its id as well."""

    class Old(GitHost):
        def _environ(self, exchange: Exchange) -> dict[str, str]:
            return {name: value for name, value in super()._environ(exchange).items() if name != "GIT_PROTOCOL"}

    old = await scene.world.stack.enter_async_context(Old(scene.world.folder / "old"))
    old.create(NAME)
    mirror = scene.world.mirror(scene.source.url(NAME), name="other", old=old.url(NAME))
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    mine = Upstream(old.path(NAME)).commit("main", {"README.md": b"mine\n"})
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert await scene.world.backups(mirror) == {MAIN: mine}


async def test_a_target_that_stumbles_is_asked_once_more(scene: Scene) -> None:
    """A fetch that broke is tried again in the same run."""
    mine = scene.there.commit("main", {"README.md": b"mine\n"})
    scene.d2.faults.on("GET", "service=git-upload-pack").status(503)
    assert (await scene.world.run(scene.mirror())).result is Result.SUCCESS
    assert await scene.kept() == {(MAIN, mine)}


async def test_what_stands_behind_what_stays_waits(scene: Scene) -> None:
    """`x` of a person cannot be kept, so upstream's `x/y` cannot come; it says what it waits for."""
    mine = scene.there.commit("x", {"x": b"x\n"}, parent=scene.upstream.refs()[MAIN])
    scene.upstream.set("refs/heads/x/y", scene.upstream.refs()[DEV])
    scene.upstream.set("refs/heads/z", scene.upstream.refs()[DEV])
    scene.d2.faults.on("GET", "service=git-upload-pack", times=None).status(403)
    run = await scene.world.run(scene.mirror())
    told = receipts(run, "d2")
    assert {ref: one.outcome for ref, one in told.items()} == {
        "refs/heads/x": Outcome.REFUSED,
        "refs/heads/x/y": Outcome.REFUSED,
        "refs/heads/z": Outcome.DONE,
    }
    assert "refs/heads/x/y has to wait until refs/heads/x has gone" in told["refs/heads/x/y"].detail
    assert scene.d2.refs(NAME)["refs/heads/x"] == mine


@pytest.mark.parametrize("flaw", ["large", "dangerous", "broken"])
async def test_one_that_cannot_be_kept_hinders_no_other(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, flaw: str
) -> None:
    """Too big, refused by fsck, or damaged there: that ref stays, the others are kept; nothing is left half-way."""
    fine = scene.there.commit("fine", {"work": b"work\n"}, parent=scene.upstream.refs()[MAIN])
    scene.there.commit("bad", {"noise": NOISE, "more": b"more\n"}, parent=scene.upstream.refs()[MAIN])
    if flaw == "large":
        monkeypatch.setattr(rescue, "LARGEST", 1 << 19)
    elif flaw == "dangerous":
        blob = scene.there.git("hash-object", "-w", "--stdin", stdin=b"[core]\n").strip()
        inner = scene.there.git("mktree", stdin=f"100644 blob {blob}\tconfig\n".encode()).strip()
        tree = scene.there.git("mktree", stdin=f"040000 tree {inner}\t.git\n".encode()).strip()
        person = ("-c", "user.name=Eve", "-c", "user.email=eve@example.com")
        scene.there.set("refs/heads/bad", scene.there.git(*person, "commit-tree", "-m", "x", tree).strip())
    else:
        blob = scene.there.git("rev-parse", "refs/heads/bad:more").strip()
        scene.there.git("repack", "-q", "-a", "-d")
        _lose(scene.there, blob)
    bad = scene.there.refs()["refs/heads/bad"]
    run = await scene.world.run(scene.mirror())
    told = receipts(run, "d2")
    assert {ref: one.outcome for ref, one in told.items()} == {
        "refs/heads/bad": Outcome.REFUSED,
        "refs/heads/fine": Outcome.DONE,
    }, told
    words = {"large": f"more than {1 << 19} bytes", "dangerous": "hasDotgit", "broken": ""}[flaw]
    assert words in told["refs/heads/bad"].detail
    assert await scene.kept() == {("refs/heads/fine", fine)}
    assert scene.d2.refs(NAME) == {**scene.upstream.refs(), "refs/heads/bad": bad}
    folder = scene.world.cache(scene.mirror()).folder
    Upstream(folder).git("fsck", "--strict")
    scene.there.delete("refs/heads/bad")
    assert (await scene.world.run(scene.mirror())).result is Result.NOOP


def _lose(repository: Upstream, blob: str) -> None:
    """Lose one object, as a damaged disk does."""
    packs = list(repository.path.glob("objects/pack/*.pack"))
    data = [pack.read_bytes() for pack in packs]
    for file in repository.path.glob("objects/pack/*"):
        file.chmod(0o600)
        file.unlink()
    for pack in data:
        repository.git("unpack-objects", "-q", stdin=pack)
    (repository.path / "objects" / blob[:2] / blob[2:]).unlink()


async def test_more_than_are_kept_at_most(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many refs of somebody else's the first are kept, and the others stay."""
    monkeypatch.setattr(rescue, "MOST", 2)
    made = [scene.there.commit(f"p{number}", {"p": bytes([65 + number])}, parent=None) for number in range(3)]
    run = await scene.world.run(scene.mirror())
    told = receipts(run, "d2")
    assert [told[f"refs/heads/p{number}"].outcome for number in range(3)].count(Outcome.REFUSED) == 1
    assert "3 refs there have what is nowhere else; 2 are kept at most" in str(told)
    assert len(await scene.kept()) == 2
    assert {oid for _, oid in await scene.kept()} <= set(made)
    assert (await scene.world.run(scene.mirror())).result is Result.SUCCESS  # those two are here, so one is left
    assert scene.d2.refs(NAME) == scene.upstream.refs()


async def test_what_a_target_refuses_to_give_up_is_told_so(scene: Scene) -> None:
    """A protected branch: its commit is kept once, not once a day, and nobody says that it was overwritten."""
    mine = scene.there.commit("main", {"README.md": b"mine\n"})
    scene.there.git("config", "receive.denyNonFastForwards", "true")
    for _ in range(3):
        run = await scene.world.run(scene.mirror())
        assert receipts(run, "d2")[MAIN].outcome is Outcome.REFUSED
        assert await scene.kept() == {(MAIN, mine)}
        assert len(await scene.world.cache(scene.mirror()).backups()) == 1
        assert await scene.listed() == {MAIN: "was to be overwritten at d2, which failed"}
    scene.there.git("config", "receive.denyNonFastForwards", "false")
    assert (await scene.world.run(scene.mirror())).result is Result.SUCCESS
    assert await scene.listed() == {MAIN: "overwritten at d2"}


async def test_what_only_a_second_look_shows_is_kept_too(scene: Scene) -> None:
    """The plan could not see the target; the run can, and keeps what it overwrites."""
    mine = scene.there.commit("main", {"README.md": b"mine\n"})
    scene.upstream.commit("main", {"README.md": b"three\n"})
    scene.d2.faults.on("POST", "git-upload-pack", times=2).status(400)  # falls back to `git ls-remote`, which fails
    scene.d2.faults.on("GET", "info/refs").status(500)
    run = await scene.world.run(scene.mirror())
    assert "refs" in receipts(run, "d2")
    assert scene.d2.refs(NAME) == scene.upstream.refs(), run.receipts
    assert await scene.kept() == {(MAIN, mine)}


@pytest.mark.parametrize("there", [True, False])
async def test_lfs_objects_of_what_only_a_target_has_come_too(world: GitWorld, there: bool) -> None:
    """What a person's commit points to is fetched from that target's LFS server; where it has lost it, that is told."""
    hosts = [await world.stack.enter_async_context(LfsHost(world.folder / name)) for name in ("up", "d1", "d2")]
    source, d1, d2 = hosts
    upstream = Upstream(source.create(NAME))
    upstream.commit("main", {"README.md": b"one\n"})
    for host in (d1, d2):
        host.create(NAME)
    mirror = world.mirror(source.url(NAME), d1=d1.url(NAME), d2=d2.url(NAME))
    await world.run(mirror)
    theirs = Upstream(d2.path(NAME))
    attributes = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"
    mine = theirs.commit("main", {"f.bin": lfs_pointer(NOISE), ".gitattributes": attributes})
    oid = d2.put(NAME, NOISE) if there else ""
    run = await world.run(mirror)
    assert run.result is Result.SUCCESS, run.receipts
    assert d2.refs(NAME) == upstream.refs()
    lost = [remark for remark in run.remarks if "an LFS object of what was kept could not be fetched" in remark]
    assert len(lost) == (0 if there else 1)
    (backup,) = await world.cache(mirror).backups()
    await world.cache(mirror).restore([backup.name])
    run = await world.run(mirror)
    assert (run.result is Result.SUCCESS) is there
    if there:
        assert d1.refs(NAME)[MAIN] == d2.refs(NAME)[MAIN] == mine
        assert d1.objects == {(NAME, oid): NOISE}


async def test_a_history_that_cannot_be_searched_for_lfs_stops_nobody(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody pushed to one target is too large to look for LFS objects: kept, told, and all targets run."""

    async def too_large(*_: object) -> frozenset[Pointer]:
        raise UnsupportedError("app.git: its history has too many small files to look for LFS pointers")

    monkeypatch.setattr(rescue, "search", too_large)
    mine = scene.there.commit("main", {"README.md": b"mine\n"})
    tip = scene.upstream.commit("main", {"README.md": b"three\n"})
    run = await scene.world.run(scene.mirror())
    assert run.result is Result.SUCCESS, run.receipts
    assert scene.d1.refs(NAME)[MAIN] == scene.d2.refs(NAME)[MAIN] == tip
    assert await scene.kept() == {(MAIN, mine)}
    assert [one for one in run.remarks if "could not be looked for: app.git: its history" in one]


@pytest.mark.parametrize("stop", ["git.backed_up", "git.adopted", "git.pushed", "notes.written", "notes.renamed"])
async def test_f4_killed_anywhere_nothing_is_lost(scene: Scene, stop: str) -> None:
    """At any durable step what only the target had is still there, or a backup leads to it; the next run ends it."""
    mine = scene.there.commit("main", {"README.md": b"mine\n"})
    person = scene.there.commit("person", {"work": b"work\n"}, parent=mine)
    targets = (f"d1={scene.d1.url(NAME)}", f"d2={scene.d2.url(NAME)}", "local=local")
    words = (sys.executable, "-m", "tests.support.gitworld", str(scene.world.folder), scene.source.url(NAME), stop)
    child = await asyncio.create_subprocess_exec(*words, *targets, stdout=subprocess.DEVNULL)
    assert await child.wait() == 137
    held = scene.d2.refs(NAME)
    safe = await scene.kept() if Path(scene.world.cache(scene.mirror()).folder).exists() else set()
    for ref, oid in ((MAIN, mine), (PERSON, person)):
        assert held.get(ref) == oid or (ref, oid) in safe
    assert not (await scene.world.run(scene.mirror(), allow=True)).error
    assert scene.d2.refs(NAME) == scene.upstream.refs()
    assert await scene.kept() == {(MAIN, mine), (PERSON, person)}
