"""What runs over repositories write down of the refs they move, and how what was left open is settled."""

from __future__ import annotations

from pathlib import Path

from mirrord import failpoints
from mirrord.model.ledger import Settled
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.testing.gitrepos import Upstream
from tests.support.gitworld import GitWorld, open_git_world

MAIN, DEV = "refs/heads/main", "refs/heads/dev"
Entry = tuple[str, str, str | None, str | None, Settled]


async def entries(world: GitWorld) -> set[Entry]:
    return {(one.target, one.name, one.before, one.after, one.outcome) for one in await world.store.moves("app")}


async def test_each_ref_that_moves_is_written_down(tmp_path: Path) -> None:
    """Of each ref that changes at a target, and of each that is served, there is what it was and what it is."""
    async with open_git_world(tmp_path) as world:
        source, one = await world.host("source"), await world.host("one")
        upstream = Upstream(source.create("app.git"))
        one.create("app.git")
        mirror = world.mirror(source.url("app.git"), one=one.url("app.git"), local=LOCAL, keys={"max_loss": 1})
        first = upstream.commit("main", {"a": b"a"})
        branch = upstream.commit("dev", {"b": b"b"}, parent=first)
        await world.run(mirror)
        made = {
            (name, ref, None, oid, Settled.DONE)
            for name in ("one", "local")
            for ref, oid in ((MAIN, first), (DEV, branch))
        }
        assert await entries(world) == made
        second = upstream.commit("main", {"a": b"c"})
        upstream.delete(DEV)
        await world.run(mirror)
        moved = {(name, MAIN, first, second, Settled.DONE) for name in ("one", "local")}
        gone = {(name, DEV, branch, None, Settled.DONE) for name in ("one", "local")}
        assert await entries(world) - made == moved | gone
        assert (await world.run(mirror)).result is Result.NOOP
        assert len(await entries(world)) == 8


async def test_a_ref_that_was_refused_is_undone(tmp_path: Path) -> None:
    """What a host did not take is settled at once by what it shows after the push."""
    async with open_git_world(tmp_path) as world:
        source, one = await world.host("source"), await world.host("one")
        upstream = Upstream(source.create("app.git"))
        one.create("app.git")
        one.hook("app.git", "update", f'#!/bin/sh\ntest "$1" != {DEV}\n')
        first = upstream.commit("main", {"a": b"a"})
        branch = upstream.commit("dev", {"b": b"b"}, parent=first)
        await world.run(world.mirror(source.url("app.git"), one=one.url("app.git")))
        assert await entries(world) == {
            ("one", MAIN, None, first, Settled.DONE),
            ("one", DEV, None, branch, Settled.UNDONE),
        }


async def test_what_a_failure_left_open_is_looked_at(tmp_path: Path) -> None:
    """When nobody could see what came of a push the next run looks, at the host and at what is served."""
    async with open_git_world(tmp_path) as world:
        source, one = await world.host("source"), await world.host("one")
        upstream = Upstream(source.create("app.git"))
        one.create("app.git")
        mirror = world.mirror(source.url("app.git"), one=one.url("app.git"), local=LOCAL)
        upstream.commit("main", {"a": b"a"})

        def away() -> None:
            one.faults.on("*", "", times=None).status(403)

        failpoints.arm("git.pushed", away)
        try:
            assert (await world.run(mirror)).result is not Result.SUCCESS
        finally:
            failpoints.disarm()
        assert [found.target for found in await world.store.moves("app", unsettled=True)] == ["one"]
        one.faults.clear()
        await world.run(mirror)
        assert {found.outcome for found in await world.store.moves("app")} == {Settled.DONE}
