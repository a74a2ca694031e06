"""Whole runs from a real Git server to real Git servers, judged by git itself."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from mirrord.model.plan import Action
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from tests.support import gitworld
from tests.support.gitworld import GitWorld, receipts

NAME = "app.git"


@dataclass(slots=True)
class Scene:
    """One upstream, three destinations and `local`."""

    world: GitWorld
    source: GitHost
    upstream: Upstream
    hosts: dict[str, GitHost]
    mirror: Mirror

    def wanted(self) -> dict[str, str]:
        return self.upstream.refs()

    def held(self, host: str) -> dict[str, str]:
        return self.hosts[host].refs(NAME)

    def forget(self) -> None:
        self.source.forget()  # all hosts are on one wire


@pytest.fixture
async def scene(world: GitWorld) -> Scene:
    """Build a small upstream, and empty repositories for it."""
    source = await world.host("source")
    upstream = Upstream(source.create(NAME))
    first = upstream.commit("main", {"README.md": b"one\n"})
    upstream.commit("main", {"README.md": b"two\n"})
    upstream.commit("dev", {"dev.txt": b"dev\n"}, parent=first)
    upstream.tag("v1", first)
    upstream.tag("v2", "main", annotated=True)
    hosts = {name: await world.host(name) for name in ("one", "two", "three")}
    for host in hosts.values():
        host.create(NAME)
    places = {name: host.url(NAME) for name, host in hosts.items()}
    return Scene(world, source, upstream, hosts, world.mirror(source.url(NAME), places, local=LOCAL))


async def test_a_first_mirror_reaches_every_destination(scene: Scene) -> None:
    """Branches, tags and annotated tags arrive at three hosts and in the local cache, exactly as upstream has them."""
    run = await scene.world.run(scene.mirror)
    assert run.error == ""
    assert run.result is Result.SUCCESS, run.receipts
    assert run.read > 0
    for name, host in scene.hosts.items():
        assert scene.held(name) == scene.wanted()
        assert host.count("POST", "git-receive-pack") == 1
    assert (await scene.world.cache(scene.mirror).known.read()).served == await scene.world.cache(
        scene.mirror
    ).repository.served()
    assert scene.source.count("*") == 4  # ls-refs, and a fetch of three


async def test_nothing_to_do_is_one_request_a_host_and_no_process(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run without changes asks upstream once and each destination once, and starts no git process."""
    await scene.world.run(scene.mirror)
    await scene.world.run(scene.mirror)  # the own day of the month of its check may have come
    scene.forget()
    started: list[object] = []
    monkeypatch.setattr("mirrord.wire.git.command.Git.run", lambda *args, **_: started.append(args))
    run = await scene.world.run(scene.mirror)
    assert run.result is Result.NOOP
    assert (scene.source.count("*"), *(host.count("*") for host in scene.hosts.values())) == (1, 1, 1, 1)
    assert started == []


async def test_a_new_commit_is_a_fast_forward(scene: Scene) -> None:
    """One new commit costs one push a destination, and the receipt says what it was."""
    await scene.world.run(scene.mirror)
    scene.upstream.commit("main", {"README.md": b"three\n"})
    scene.forget()
    run = await scene.world.run(scene.mirror)
    assert run.result is Result.SUCCESS
    told = receipts(run, "one")
    assert list(told) == ["refs/heads/main"]
    assert "fast-forward" in told["refs/heads/main"].detail
    assert scene.held("one") == scene.wanted()
    assert scene.hosts["one"].count("*") == 4  # a look, a push of two, a look
    assert await scene.world.backups(scene.mirror) == {}


async def test_a_force_push_is_followed_and_backed_up(scene: Scene) -> None:
    """A rewritten branch is forced everywhere; what it was stays as a backup."""
    await scene.world.run(scene.mirror)
    old = scene.wanted()["refs/heads/dev"]
    scene.upstream.rewrite("dev")
    run = await scene.world.run(scene.mirror)
    assert run.result is Result.SUCCESS
    assert "kept as backup" in receipts(run, "two")["refs/heads/dev"].detail
    assert scene.held("two") == scene.wanted()
    assert await scene.world.backups(scene.mirror) == {"refs/heads/dev": old}


async def test_deletions_and_a_moved_tag_are_followed(scene: Scene) -> None:
    """A branch and a tag that go upstream go everywhere, a tag that moves moves, and all of them are backed up."""
    upstream = scene.upstream
    for number in range(10):
        upstream.tag(f"w{number}", "main")
    await scene.world.run(scene.mirror)
    before = scene.wanted()
    upstream.delete("refs/heads/dev", "refs/tags/w1")
    upstream.tag("v1", "main")
    run = await scene.world.run(scene.mirror)
    assert run.result is Result.SUCCESS, run
    assert all(scene.held(name) == scene.wanted() for name in scene.hosts)
    gone = ("refs/heads/dev", "refs/tags/w1", "refs/tags/v1")
    assert await scene.world.backups(scene.mirror) == {ref: before[ref] for ref in gone}


async def test_a_branch_gives_way_to_a_folder_of_branches(scene: Scene) -> None:
    """`dev` becomes `dev/x`, which an atomic push could never do, and back again."""
    await scene.world.run(scene.mirror)
    tip = scene.wanted()["refs/heads/dev"]
    scene.upstream.delete("refs/heads/dev")
    scene.upstream.set("refs/heads/dev/x", tip)
    run = await scene.world.run(scene.mirror)
    assert run.result is Result.SUCCESS, run
    assert all(scene.held(name) == scene.wanted() for name in scene.hosts)
    scene.upstream.delete("refs/heads/dev/x")
    scene.upstream.set("refs/heads/dev", tip)
    assert (await scene.world.run(scene.mirror)).result is Result.SUCCESS
    assert all(scene.held(name) == scene.wanted() for name in scene.hosts)


async def test_63_f44_an_emptied_upstream_blocks(scene: Scene) -> None:
    """When upstream has nothing any more, nothing is deleted anywhere, until somebody allows it."""
    await scene.world.run(scene.mirror)
    before = scene.held("one")
    scene.upstream.empty()
    for _ in range(2):
        run = await scene.world.run(scene.mirror)
        assert run.receipts == ()
        assert run.result is Result.FAILED
        assert run.plan is not None
        assert {step.action for step in run.plan.steps} == {Action.REFUSE}
        assert "--allow" in run.plan.steps[0].reason
        assert all(scene.held(name) == before for name in scene.hosts)
        assert (await scene.world.cache(scene.mirror).repository.served()).refs == before
    scene.upstream.set("refs/heads/main", before["refs/heads/main"])
    run = await scene.world.run(scene.mirror, allow=True)
    assert run.result is Result.SUCCESS
    assert scene.held("one") == {"refs/heads/main": before["refs/heads/main"]}
    assert set(await scene.world.backups(scene.mirror)) == set(before) - {"refs/heads/main"}


async def test_63_f44_a_replaced_upstream_blocks(scene: Scene) -> None:
    """When another repository took upstream's name, everything stays."""
    await scene.world.run(scene.mirror)
    before = scene.held("one")
    scene.upstream.replace()
    run = await scene.world.run(scene.mirror)
    assert run.result is Result.FAILED
    assert run.receipts == ()
    assert all(scene.held(name) == before for name in scene.hosts)


async def test_f44_a_vanished_upstream_changes_nothing(scene: Scene) -> None:
    """When upstream is gone the run fails and says so; what was mirrored stays."""
    await scene.world.run(scene.mirror)
    before = scene.held("one")
    scene.source.path(NAME).rename(scene.source.folder / "gone")
    run = await scene.world.run(scene.mirror)
    assert (run.result, run.code) == (Result.FAILED, "missing")
    assert "stays as it is" in run.error
    assert scene.held("one") == before


@pytest.mark.parametrize(("status", "code"), [(401, "denied"), (403, "denied"), (404, "missing"), (451, "missing")])
async def test_f44_who_may_not_see_is_told_from_what_is_gone(scene: Scene, status: int, code: str) -> None:
    """Upstream's 401 and 403 are a token's fault, 404 and 451 say that it is gone; what was mirrored stays."""
    await scene.world.run(scene.mirror)
    before = scene.held("one")
    scene.source.faults.on("*", "", times=None).status(status)
    run = await scene.world.run(scene.mirror)
    assert (run.result, run.code) == (Result.FAILED, code)
    assert scene.held("one") == before
    assert (await scene.world.cache(scene.mirror).repository.served()).refs == before


async def test_62_hidden_refs_are_never_mirrored(scene: Scene) -> None:
    """Pull requests, notes and whatever else a host keeps are neither fetched nor pushed."""
    tip = scene.wanted()["refs/heads/main"]
    for name in ("pull/1/head", "notes/commits", "merge-requests/1/head", "keep-around/1", "stash", "mirrord/backup/x"):
        scene.upstream.set(f"refs/{name}", tip)
    run = await scene.world.run(scene.mirror)
    assert run.result is Result.SUCCESS
    assert set(scene.held("one")) == {ref for ref in scene.wanted() if ref.startswith(("refs/heads/", "refs/tags/"))}


async def test_58_names_that_look_like_options_and_commands_are_names(scene: Scene) -> None:
    """A branch may be called like an option, a command, or HEAD (bad input 58)."""
    tip = scene.wanted()["refs/heads/main"]
    odd = ("--upload-pack=x", "a;b$(id)", "HEAD", "Main", "main`", "x'y", 'q"r', "ünïcode", "%2e%2e", "refs/heads/main")
    for name in odd:
        scene.upstream.set(f"refs/heads/{name}", tip)
    scene.upstream.set("refs/tags/--force", tip)
    assert (await scene.world.run(scene.mirror)).result is Result.SUCCESS
    assert all(scene.held(name) == scene.wanted() for name in scene.hosts)
    scene.upstream.delete("refs/heads/HEAD", "refs/heads/--upload-pack=x")
    run = await scene.world.run(scene.mirror)
    assert run.result is Result.SUCCESS, run.receipts
    assert all(scene.held(name) == scene.wanted() for name in scene.hosts)


async def test_58_names_of_strange_letters(scene: Scene) -> None:
    """A name may hold what other programs take for the end of a line, or 200 characters; it arrives as it is."""
    tip = scene.wanted()["refs/heads/main"]
    odd = ("a\u2028b", "a\u2029b", "a\x85b", "\u202egpj", "é", "e\u0301", "x" * 200)
    for name in odd:
        scene.upstream.set(f"refs/heads/{name}", tip)
    run = await scene.world.run(scene.mirror)
    assert run.result is Result.SUCCESS, run.receipts
    assert {f"refs/heads/{name}" for name in odd} <= scene.held("one").keys()
    assert all(scene.held(name) == scene.wanted() for name in scene.hosts)
    scene.upstream.delete(*(f"refs/heads/{name}" for name in odd[:2]))
    assert (await scene.world.run(scene.mirror)).result is Result.SUCCESS
    assert scene.held("one") == scene.wanted()


async def test_drift_at_a_destination_heals(scene: Scene) -> None:
    """A branch moved, one deleted and one added at a destination by hand are put right by the next run."""
    await scene.world.run(scene.mirror)
    there = Upstream(scene.hosts["two"].path(NAME))
    foreign = there.commit("main", {"README.md": b"somebody else\n"})
    there.delete("refs/heads/dev")
    there.set("refs/heads/extra", scene.wanted()["refs/heads/dev"])
    scene.forget()
    run = await scene.world.run(scene.mirror)
    assert run.result is Result.SUCCESS, run.receipts
    told = receipts(run, "two")
    assert set(told) == {"refs/heads/main", "refs/heads/dev", "refs/heads/extra"}
    assert (
        f"{foreign[:7]} is overwritten, once it is fetched from there and kept as backup"
        in told["refs/heads/main"].detail
    )
    assert scene.held("two") == scene.wanted()
    assert scene.hosts["one"].count("*") == 1
    assert scene.source.count("*") == 1


async def test_many_refs_go_as_wildcards(scene: Scene) -> None:
    """More than fifty changed refs are pushed by wildcards, deletions among them, in one push."""
    for number in range(80):
        scene.upstream.tag(f"n{number}", "main")
    scene.upstream.set("refs/heads/x", scene.wanted()["refs/heads/dev"])
    assert (await scene.world.run(scene.mirror)).result is Result.SUCCESS
    scene.upstream.delete("refs/heads/x")
    for number in range(80):
        scene.upstream.tag(f"m{number}", "main")
    scene.forget()
    run = await scene.world.run(scene.mirror)
    assert run.result is Result.SUCCESS
    assert all(scene.held(name) == scene.wanted() for name in scene.hosts)
    assert scene.hosts["one"].count("POST", "git-receive-pack") == 1
    assert len(receipts(run, "one")) == 81


async def test_without_local_the_served_refs_follow_all_the_same(scene: Scene) -> None:
    """A destination that somebody else brought up to date leaves nothing to push; the guard's baseline still moves."""
    mirror = scene.world.mirror(scene.source.url(NAME), one=scene.hosts["one"].url(NAME))
    await scene.world.run(mirror)
    tip = scene.upstream.commit("main", {"README.md": b"three\n"})
    Upstream(scene.hosts["one"].path(NAME)).git("fetch", "-q", str(scene.upstream.path), "main:main")
    run = await scene.world.run(mirror)
    assert run.result is Result.NOOP
    assert (await scene.world.cache(mirror).repository.served()).refs["refs/heads/main"] == tip


async def test_a_plan_shows_the_steps_and_does_none(scene: Scene) -> None:
    """Planning may fetch; it neither pushes nor moves what is served."""
    await scene.world.run(scene.mirror)
    before = scene.held("one")
    scene.upstream.commit("main", {"README.md": b"three\n"})
    scene.forget()
    plan = await scene.world.plan(scene.mirror)
    assert {step.item for step in plan.active} == {"refs/heads/main"}
    assert len(plan.active) == 4
    assert scene.held("one") == before
    assert (await scene.world.cache(scene.mirror).repository.served()).refs == before
    assert scene.hosts["one"].count("POST", "git-receive-pack") == 0


async def test_receipts_are_told_as_done(scene: Scene) -> None:
    """Every active step gets exactly one receipt, and all of a first run are done."""
    run = await scene.world.run(scene.mirror)
    assert run.plan is not None
    assert sorted(receipt.step.item for receipt in run.receipts) == sorted(step.item for step in run.plan.active)
    assert {receipt.outcome for receipt in run.receipts} == {Outcome.DONE}


async def test_a_run_decides_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run, also one that cannot see a host at first, chooses, guards and plans once; receipts are of its steps."""
    calls = Counter[str]()

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            calls[name] += 1
            return real(*args)

        return call

    for module, name in (("upstream.survey", "choose"), ("upstream.survey", "guard"), ("names", "forge_of")):
        place = f"mirrord.syncers.git.{module}"
        monkeypatch.setattr(f"{place}.{name}", counted(name, getattr(importlib.import_module(place), name)))
    monkeypatch.setattr(gitworld, "GIT", replace(gitworld.GIT, plan=counted("plan", gitworld.GIT.plan)))
    first = await scene.world.run(scene.mirror)
    assert calls == {"choose": 1, "guard": 1, "plan": 1, "forge_of": 1 + len(scene.hosts)}
    scene.upstream.commit("main", {"README.md": b"three\n"})
    scene.hosts["two"].faults.on("POST", "git-upload-pack", times=2).status(400)
    scene.hosts["two"].faults.on("GET", "info/refs").status(500)
    calls.clear()
    second = await scene.world.run(scene.mirror)
    assert calls == {"choose": 1, "guard": 1, "plan": 1}
    for run in (first, second):
        assert run.result is Result.SUCCESS, run.receipts
        assert run.plan is not None
        assert [one.step for one in run.receipts if one.step not in run.plan.steps] == []
        assert {one.step.target for one in run.receipts} == {*scene.hosts, LOCAL}
    assert scene.held("two") == scene.wanted()
