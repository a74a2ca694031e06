"""Thousands of refs are worked on beside the event loop: one turn of it passes over them at most, and makes nothing."""

from __future__ import annotations

from mirrord.model.run import Result
from mirrord.record.store import open_store
from mirrord.syncer.values import LOCAL
from mirrord.testing.gitrepos import Upstream
from tests.support.gitcontent import fill
from tests.support.gitworld import GitWorld
from tests.support.turns import Turns

NAME, REFS = "app.git", 4500
EACH = 5
"""Calls of functions for each ref in one turn: 50 000 refs take 25 ms then."""


async def test_no_turn_of_the_loop_looks_at_all_of_them(world: GitWorld) -> None:
    """First mirror, a new commit and nothing to do, to a host and to `local`: no turn does work for each ref."""
    source, one = await world.host("source"), await world.host("one")
    upstream = Upstream(source.create(NAME))
    fill(upstream, REFS, 10_000)
    upstream.git("pack-refs", "--all")
    one.create(NAME)
    mirror = world.mirror(source.url(NAME), one=one.url(NAME), local=LOCAL)
    world.store = await open_store(world.folder / "record.db", world.now)  # type: ignore[assignment]  # for real
    turns = {}
    for case, result in (("first", Result.SUCCESS), ("commit", Result.SUCCESS), ("idle", Result.NOOP)):
        if case == "commit":
            upstream.commit("main", {"news": b"n\n"})
        counter = Turns()
        with counter.counted():
            assert (await world.run(mirror)).result is result
        turns[case] = counter
    await world.store.close()
    assert max(counter.most for counter in turns.values()) < EACH * REFS, turns
    assert one.refs(NAME) == upstream.refs()
