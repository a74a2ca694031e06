"""How refs relate: one walk for thousands of pairs says what `git merge-base` says of each."""

from __future__ import annotations

import random
import subprocess
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import pytest

from mirrord.testing.gitrepos import PERSON
from mirrord.wire.git.cache import repository
from mirrord.wire.git.cache.ancestry import relate
from mirrord.wire.git.refs import Relation
from tests.support.gitcache import CacheScene, open_scene
from tests.support.gitcontent import fill

A, B, C, D, E = (letter * 40 for letter in "abcde")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[CacheScene]:
    """Give an empty upstream and a cache."""
    async with open_scene(tmp_path) as made:
        yield made


def tangle(scene: CacheScene, commits: int, seed: int) -> list[str]:
    """Make a history with forks, merges and several beginnings; return its commits."""
    dice, parts = random.Random(seed), []
    for number in range(1, commits + 1):
        olds = dice.sample(range(1, number), min(number - 1, dice.choice((0, 1, 1, 1, 2, 3)))) if number > 1 else []
        parts.append(
            f"commit refs/heads/c{number}\nmark :{number}\ncommitter {PERSON} {1_700_000_000 + number} +0000\n"
        )
        parts.append(f"data 3\nc{number % 10}\n\n")
        parts += [f"{'merge' if place else 'from'} :{old}\n" for place, old in enumerate(olds)]
        parts.append(f"M 100644 inline f\ndata <<X\n{number}\nX\n\n")
    scene.upstream.git("fast-import", "--quiet", "--force", stdin="".join(parts).encode())
    return list(scene.upstream.refs().values())


def judged(folder: Path, old: str, new: str) -> Relation:
    """Ask git about one pair."""

    def base(*words: str) -> bool:
        asked = ["git", "-C", str(folder), "merge-base", *words]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    if old == new:
        return Relation.SAME
    if base("--is-ancestor", old, new):
        return Relation.FORWARD
    return Relation.REWRITTEN if base(old, new) else Relation.UNRELATED


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_walk_says_what_git_says(scene: CacheScene, seed: int) -> None:
    """Every pair of a tangled history, asked by one walk and pair by pair, is judged as git judges it."""
    commits = tangle(scene, 12, seed)
    await scene.turn()
    pairs = list(product(commits, commits))
    assert len(pairs) > repository._FEW
    walked = await scene.cache.relations(pairs)
    assert walked == {pair: judged(scene.cache.folder, *pair) for pair in pairs}
    assert await scene.cache.relations(pairs[: repository._FEW]) == {
        pair: walked[pair] for pair in pairs[: repository._FEW]
    }


async def test_three_thousand_pairs_cost_two_processes(scene: CacheScene) -> None:
    """However many refs changed, git is started twice: to see which objects are here, and to walk."""
    fill(scene.upstream, 900, 1 << 16, commits=80)
    await scene.turn()
    commits = sorted(set(scene.upstream.refs().values()))
    pairs = list(product(commits, commits))[:3000]
    scene.git.ran.clear()
    found = await scene.cache.relations(pairs)
    assert [ran[0] for ran in scene.git.ran] == ["cat-file", "rev-list"]
    assert set(found.values()) == {Relation.SAME, Relation.FORWARD, Relation.REWRITTEN}


async def test_a_history_too_long_for_one_walk_is_asked_pair_by_pair(
    scene: CacheScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the walk would not fit into memory, the answers are the same."""
    commits = tangle(scene, 9, 4)
    await scene.turn()
    pairs = list(product(commits, commits))
    expected = await scene.cache.relations(pairs)
    monkeypatch.setattr(repository, "_WALK", 100)
    assert await scene.cache.relations(pairs) == expected


async def test_nothing_asked_costs_nothing(scene: CacheScene) -> None:
    """No pairs, or pairs of the same, start no process."""
    await scene.cache.prepare()
    scene.git.ran.clear()
    assert await scene.cache.relations([]) == {}
    assert await scene.cache.relations([(A, A)]) == {(A, A): Relation.SAME}
    assert scene.git.ran == []


async def test_tags_stand_for_their_commits(scene: CacheScene) -> None:
    """An annotated tag relates as its commit does; what has no history is related to nothing."""
    first = scene.upstream.commit("main", {"a": b"1"})
    second = scene.upstream.commit("main", {"a": b"2"})
    one = scene.upstream.tag("one", first, annotated=True)
    two = scene.upstream.tag("two", second, annotated=True)
    again = scene.upstream.tag("again", second, annotated=True)
    blob = scene.upstream.set("refs/tags/blob", scene.upstream.git("rev-parse", f"{first}:a").strip())
    tree = scene.upstream.set("refs/tags/tree", scene.upstream.git("rev-parse", f"{first}^{{tree}}").strip())
    await scene.turn()
    expected = {
        (one, two): Relation.FORWARD,
        (two, one): Relation.REWRITTEN,
        (first, two): Relation.FORWARD,
        (two, again): Relation.FORWARD,
        (blob, second): Relation.UNRELATED,
        (second, tree): Relation.UNRELATED,
    }
    assert await scene.cache.relations(list(expected)) == expected


@pytest.mark.parametrize("stranger", ["1" * 40, "0" * 40, "", "--all", "HEAD", f"{A}\n{B}", "a" * 64])
async def test_what_is_not_here_is_unknown(scene: CacheScene, stranger: str) -> None:
    """Nobody can say how an object relates that is not here; what is no object id is not here either."""
    tip = scene.upstream.commit("main", {"a": b"1"})
    await scene.turn()
    found = await scene.cache.relations([(stranger, tip), (tip, stranger)])
    assert set(found.values()) == {Relation.UNKNOWN}


def test_a_walk_forgets_what_nobody_asks_for() -> None:
    """Marks come from all parents, and beginnings are told apart."""
    listing = "".join(f"{line}\n" for line in (A, f"{B} {A}", f"{C} {A}", f"{D} {B} {C}", E)).encode()
    asked = [(A, D), (B, C), (C, D), (D, A), (A, E), (E, E)]
    assert list(relate(listing, asked).values()) == [
        Relation.FORWARD,
        Relation.REWRITTEN,
        Relation.FORWARD,
        Relation.REWRITTEN,
        Relation.UNRELATED,
        Relation.FORWARD,
    ]
