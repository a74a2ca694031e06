"""Branches whose names are those of others written out, as a mistyped push leaves them (`refs/heads/refs/heads/x`)."""

from __future__ import annotations

import pytest

from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from tests.support.gitworld import GitWorld

NAME, MAIN = "app.git", "refs/heads/main"
LONG, LONGER, TAG = f"refs/heads/{MAIN}", f"refs/heads/refs/heads/{MAIN}", f"refs/tags/{MAIN}"


async def mirrored(world: GitWorld, more: int = 0) -> tuple[Upstream, GitHost, Mirror]:
    """Start a host with an upstream that has `main` and `more` other branches, and one to mirror to."""
    source, there = await world.host("source"), await world.host("one")
    upstream = Upstream(source.create(NAME))
    first = upstream.commit("main", {"a": b"1"}, parent=None)
    for number in range(more):
        upstream.set(f"refs/heads/b{number}", first)
    there.create(NAME)
    return upstream, there, world.mirror(source.url(NAME), one=there.url(NAME), local=LOCAL)


@pytest.mark.parametrize("more", [0, 100])
@pytest.mark.parametrize("odd", [(LONG,), (TAG,), (LONG, LONGER, TAG)])
async def test_they_are_mirrored_as_all_others(world: GitWorld, odd: tuple[str, ...], more: int) -> None:
    """Created beside the short name, left alone when that moves, moved with it, deleted: all arrives, each time."""
    upstream, there, mirror = await mirrored(world, more)
    for name in odd:
        upstream.set(name, upstream.refs()[MAIN])

    async def run() -> None:
        ran = await world.run(mirror)
        assert ran.result is Result.SUCCESS, (ran.error, [one.detail for one in ran.receipts if not one.good])
        assert there.refs(NAME) == upstream.refs()

    await run()
    upstream.commit("main", {"a": b"2"})
    await run()
    upstream.commit("main", {"a": b"3"})
    for name in odd:
        upstream.set(name, upstream.refs()[MAIN])
    for number in range(more):
        upstream.set(f"refs/heads/b{number}", upstream.refs()[MAIN])
    await run()
    upstream.commit("main", {"a": b"4"})
    for name in odd:
        upstream.delete(name)
    await run()
    assert (await world.run(mirror)).result is Result.NOOP


@pytest.mark.parametrize("odd", [LONG, TAG])
async def test_drift_of_this_kind_heals(world: GitWorld, odd: str) -> None:
    """Where only the destination has the long name, the short one is not written to it, and it goes."""
    upstream, there, mirror = await mirrored(world)
    assert (await world.run(mirror)).result is Result.SUCCESS
    Upstream(there.path(NAME)).set(odd, there.refs(NAME)[MAIN])
    upstream.commit("main", {"a": b"2"})
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert there.refs(NAME) == upstream.refs()
    beside = Upstream(there.path(NAME))
    beside.set(odd, there.refs(NAME)[MAIN])
    beside.set("refs/heads/other", there.refs(NAME)[MAIN])
    beside.delete(MAIN)
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert there.refs(NAME) == upstream.refs()


async def test_a_short_name_that_goes_takes_no_other_with_it(world: GitWorld) -> None:
    """Deleting a branch beside its long name deletes that branch."""
    upstream, there, mirror = await mirrored(world, 3)
    odd = "refs/heads/refs/heads/b1"
    upstream.set(odd, upstream.refs()[MAIN])
    assert (await world.run(mirror)).result is Result.SUCCESS
    upstream.delete("refs/heads/b1")
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert there.refs(NAME) == upstream.refs()
    assert odd in there.refs(NAME)
