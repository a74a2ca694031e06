"""What a cache fetches, serves, keeps back and brings back, judged by git itself."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirrord.errors import ContentError, DeniedError, MirrordError, MissingError, RefusedError
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.git.cache.bare import INCOMING
from mirrord.wire.git.cache.repository import BACKUP, BackupRef
from tests.support.gitcache import STAMP, CacheScene, open_scene

MAIN, DEV = "refs/heads/main", "refs/heads/dev"
# What git allows in a name, and what those trip over who split lines, build arguments, or call a shell.
ODD = (
    *("refs/heads/HEAD", "refs/heads/--upload-pack=x", "refs/heads/a;b$(id)", "refs/heads/Main", "refs/tags/-v"),
    *("refs/heads/line\u2028separator", "refs/heads/next\u0085line", "refs/heads/umläut", "refs/tags/'quoted\""),
    *("refs/heads/refs/heads/main", "refs/heads/mirrord/incoming/x", "refs/tags/@", "refs/heads/a%00b"),
)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[CacheScene]:
    """Give an upstream with two branches and two tags, and a cache that was never used."""
    async with open_scene(tmp_path) as made:
        made.fill()
        yield made


async def test_a_fetch_brings_what_upstream_has_and_serves_nothing(scene: CacheScene) -> None:
    """Branches and tags arrive in the incoming namespace, tags as tag objects; nothing is served before adoption."""
    grown = await scene.fetch()
    assert (await scene.cache.incoming()).refs == scene.upstream.refs()
    assert (await scene.cache.served()).refs == {}
    assert grown > 0
    assert await scene.fetch() == 0
    assert scene.whole()


async def test_hidden_refs_are_not_fetched(scene: CacheScene) -> None:
    """Pull requests and other namespaces of a host stay there."""
    scene.upstream.set("refs/pull/1/head", scene.upstream.refs()[DEV])
    scene.upstream.set("refs/notes/commits", scene.upstream.refs()[DEV])
    await scene.turn()
    assert {name for name in await scene.cache.refs() if "pull" in name or "notes" in name} == set()


async def test_what_is_gone_upstream_leaves_incoming_only(scene: CacheScene) -> None:
    """An emptied upstream empties the incoming refs (its fetch succeeds); what is served stays until it is decided."""
    await scene.turn()
    served = await scene.cache.served()
    scene.upstream.empty()
    await scene.fetch()
    assert (await scene.cache.incoming()).refs == {}
    assert await scene.cache.served() == served


async def test_a_vanished_upstream_changes_nothing(scene: CacheScene) -> None:
    """A repository that is gone fails the fetch, and not a ref moves."""
    await scene.turn()
    before = await scene.cache.refs()
    scene.host.path("app.git").rename(scene.host.folder / "elsewhere")
    with pytest.raises(MissingError):
        await scene.fetch()
    assert await scene.cache.refs() == before


async def test_names_that_git_allows_survive(scene: CacheScene) -> None:
    """Every name that git takes is fetched, adopted, backed up and dropped like any other."""
    tip = scene.upstream.refs()[MAIN]
    wanted = {**scene.upstream.refs(), **dict.fromkeys(ODD, tip)}
    for name in ODD:
        scene.upstream.set(name, tip)
    await scene.turn(backups=dict.fromkeys(ODD, tip))
    assert (await scene.cache.served()).refs == wanted
    assert {one.ref for one in await scene.cache.backups()} == set(ODD)
    await scene.cache.adopt({MAIN: tip}, None, {}, STAMP)
    assert (await scene.cache.served()).refs == {MAIN: tip}


async def test_a_name_that_is_not_ascii_text_survives(scene: CacheScene) -> None:
    """Bytes that are no UTF-8 are kept as they are."""
    odd = b"refs/heads/caf\xe9".decode("utf-8", "surrogateescape")
    tip = scene.upstream.refs()[MAIN]
    await scene.fetch()
    await scene.cache.adopt({odd: tip}, None, {}, STAMP)
    assert (await scene.cache.served()).refs == {odd: tip}


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["dev"], ["dev/x"]),
        (["dev/x"], ["dev"]),
        (["dev/x/y", "dev/z"], ["dev"]),
        (["a", "b/c"], ["a/b", "b"]),
        (["dev/x"], ["dev/x/y"]),
    ],
)
async def test_names_may_become_folders_and_back(
    scene: CacheScene, before: list[str], after: list[str], packed: bool
) -> None:
    """`dev` gives way to `dev/x` and the other way round, when fetched, when adopted, and when backed up."""
    await scene.turn()
    tip = scene.upstream.refs()[DEV]
    scene.upstream.empty()
    for name in before:
        scene.upstream.set(f"refs/heads/{name}", tip)
    await scene.turn()
    if packed:
        scene.there.git("pack-refs", "--all")
    scene.upstream.empty()
    for name in after:
        scene.upstream.set(f"refs/heads/{name}", tip)
    await scene.turn({f"refs/heads/{name}": tip for name in before})
    assert (await scene.cache.served()).refs == scene.upstream.refs()
    assert {one.ref for one in await scene.cache.backups()} == {f"refs/heads/{name}" for name in before}


async def test_adopting_is_one_transaction(scene: CacheScene) -> None:
    """Served refs move all at once: one process, and none of them when one cannot move."""
    await scene.turn()
    before = await scene.cache.served()
    scene.upstream.rewrite("dev")
    scene.upstream.delete("refs/tags/v1")
    await scene.fetch()
    wanted = dict((await scene.cache.incoming()).refs)
    scene.git.ran.clear()
    with pytest.raises(MirrordError):
        await scene.cache.adopt({**wanted, "refs/heads/not-here": "1" * 40}, MAIN, {}, STAMP)
    assert await scene.cache.served() == before
    assert [ran[0] for ran in scene.git.ran].count("update-ref") == 1
    await scene.cache.adopt(wanted, MAIN, {}, STAMP)
    assert (await scene.cache.served()).refs == wanted


async def test_what_is_overwritten_is_backed_up_first(scene: CacheScene) -> None:
    """A backup outlives a forced branch, prune and garbage collection, and is not shown to clients."""
    await scene.turn()
    old = scene.upstream.refs()[DEV]
    scene.upstream.rewrite("dev", {"other": b"other\n"})
    await scene.turn({DEV: old})
    scene.there.git("gc", "--prune=now", "--quiet")
    assert await scene.cache.backups() == (BackupRef(STAMP, DEV, old),)
    assert scene.there.git("cat-file", "-t", old) == "commit\n"
    assert "mirrord" not in Upstream(scene.cache.folder).git("ls-remote", str(scene.cache.folder))


async def test_one_moment_may_have_several_backups_of_a_ref(scene: CacheScene) -> None:
    """A second run within one second, or `dev` lost here and `dev/x` lost there, overwrites no backup."""
    await scene.turn()
    wanted, head = (await scene.cache.incoming()).refs, MAIN
    one, other = wanted[DEV], wanted[MAIN]
    for backups in ({DEV: one}, {DEV: one}, {DEV: other}, {f"{DEV}/x": one, DEV: one}, {f"{DEV}/x/y": one}):
        await scene.cache.adopt(wanted, head, backups.items(), STAMP)
    kept = {(one.ref, one.oid) for one in await scene.cache.backups()}
    assert kept == {(DEV, one), (DEV, other), (f"{DEV}/x", one), (f"{DEV}/x/y", one)}
    assert await scene.cache.expire(datetime(2024, 5, 17, 12, 0, 0, tzinfo=UTC)) == 0
    assert await scene.cache.expire(datetime(2024, 5, 17, 12, 0, 1, tzinfo=UTC)) == 4
    assert await scene.cache.backups() == ()


async def test_backups_are_listed_from_the_newest(scene: CacheScene) -> None:
    """Each has a name under which it can be asked for, and older ones go when their time is over."""
    await scene.turn()
    refs = scene.upstream.refs()
    for day, ref in (("01", DEV), ("03", MAIN), ("02", "refs/tags/v2")):
        await scene.cache.adopt(refs, MAIN, [(DEV, refs[ref])], f"202405{day}T000000Z")
    assert [one.name for one in await scene.cache.backups()] == [
        f"202405{day}T000000Z/heads/dev" for day in ("03", "02", "01")
    ]
    assert await scene.cache.expire(datetime(2024, 5, 3, tzinfo=UTC)) == 2
    assert [one.stamp for one in await scene.cache.backups()] == ["20240503T000000Z"]


async def test_an_object_that_a_ref_loses_again_is_kept_once(scene: CacheScene) -> None:
    """A host that refuses each day to be overwritten brings no new backup each day: the newest stands for all."""
    await scene.turn()
    refs = scene.upstream.refs()
    for day in ("01", "03"):
        lost = [(DEV, refs[DEV]), (f"{DEV}/x", refs[DEV])][: 2 if day == "01" else 1]
        await scene.cache.adopt(refs, MAIN, lost, f"202405{day}T000000Z")
    names = {one.name for one in await scene.cache.backups()}
    assert names == {"20240503T000000Z/heads/dev", "20240501T000000Z.1/heads/dev/x"}


async def test_a_ref_can_be_held_and_released(scene: CacheScene) -> None:
    """A held ref is told by its own name, survives fetches, and refuses another where it cannot stand."""
    await scene.turn()
    tip = scene.upstream.refs()[MAIN]
    await scene.cache.hold({DEV: tip})
    scene.upstream.delete(DEV)
    await scene.turn()
    assert await scene.cache.held() == {DEV: tip}
    with pytest.raises(RefusedError, match="cannot stand beside refs/heads/dev"):
        await scene.cache.hold({f"{DEV}/x": tip})
    await scene.cache.hold({DEV: scene.upstream.refs()["refs/tags/v1"]})
    await scene.cache.release([DEV])
    assert await scene.cache.held() == {}


@pytest.mark.parametrize("head", ["refs/heads/trunk", "refs/heads/not-there-yet"])
async def test_head_follows(scene: CacheScene, head: str) -> None:
    """The default branch is the one that was wanted, there or not."""
    await scene.turn()
    await scene.cache.adopt({head.replace("not-there-yet", "x"): scene.upstream.refs()[MAIN]}, head, {}, STAMP)
    assert (await scene.cache.served()).head == head


@pytest.mark.parametrize("head", ["refs/tags/v1", "main", "refs/heads/..", "refs/heads/a b", "-d", "refs/heads/x\n"])
async def test_a_head_that_is_no_branch_is_left_alone(scene: CacheScene, head: str) -> None:
    """What cannot be a default branch does not become one."""
    await scene.turn()
    await scene.cache.adopt(scene.upstream.refs(), head, {}, STAMP)
    assert (await scene.cache.served()).head == MAIN


async def test_the_incoming_refs_are_private(scene: CacheScene) -> None:
    """A client that clones everything from the cache sees served branches and tags, and nothing else."""
    await scene.turn({DEV: scene.upstream.refs()[DEV]})
    await scene.cache.hold({DEV: scene.upstream.refs()[DEV]})
    shown = scene.there.git("upload-pack", "--http-backend-info-refs", ".")
    assert INCOMING not in shown
    assert BACKUP not in shown
    assert f"{scene.upstream.refs()[DEV]} {DEV}" in shown


async def test_a_new_cache_is_configured_for_one_writer_and_many_readers(scene: CacheScene) -> None:
    """No automatic maintenance, nothing can be pushed to it, filters are allowed, everything is synced to disk."""
    await scene.cache.prepare()
    expected = {
        "gc.auto": "0",
        "maintenance.auto": "false",
        "transfer.hiderefs": "refs/mirrord",
        "uploadpack.allowfilter": "true",
        "http.receivepack": "false",
        "core.fsync": "all",
        "core.bare": "true",
    }
    told = dict(line.split("=", 1) for line in scene.there.git("config", "--local", "--list").splitlines())
    assert expected.items() <= told.items()
    assert not list(scene.cache.folder.glob("hooks/*"))
    assert stat.S_ISDIR((scene.cache.folder / "objects").stat().st_mode)


async def test_prepare_costs_no_process_when_all_is_well(scene: CacheScene) -> None:
    """Only the first time starts git."""
    await scene.turn()
    scene.git.ran.clear()
    await scene.cache.prepare()
    assert scene.git.ran == []


async def test_no_name_from_outside_is_an_argument(scene: CacheScene) -> None:
    """Refs travel on standard input; what is on the command line is ours, and the address behind `--`."""
    tip = scene.upstream.refs()[MAIN]
    for name in ODD:
        scene.upstream.set(name, tip)
    await scene.turn({ODD[1]: tip})
    told = [word for ran in scene.git.ran for word in ran]
    assert not [word for word in told if any(name.partition("/")[2] in word for name in ODD)]
    (fetch,) = (ran for ran in scene.git.ran if ran[0] == "fetch")
    assert fetch[fetch.index("--") + 1] == scene.host.url("app.git")


async def test_59_dangerous_content_is_refused_and_costs_one_fetch(scene: CacheScene) -> None:
    """A tree that would write into `.git` of whoever checks it out (CVE-2014-9390) is not taken, nor fetched twice."""
    await scene.turn()
    before = await scene.cache.refs()
    blob = scene.upstream.git("hash-object", "-w", "--stdin", stdin=b"[core]\n").strip()
    tree = scene.upstream.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=_tree(".GIT", blob))
    person = b"Ada <ada@example.com> 1700000000 +0000"
    text = b"tree %s\nauthor %s\ncommitter %s\n\nbad\n" % (tree.strip().encode(), person, person)
    scene.upstream.set(
        "refs/heads/bad", scene.upstream.git("hash-object", "-w", "-t", "commit", "--stdin", stdin=text).strip()
    )
    scene.git.ran.clear()
    with pytest.raises(ContentError, match="hasDotgit"):
        await scene.fetch()
    assert await scene.cache.refs() == before
    assert [ran[0] for ran in scene.git.ran].count("fetch") == 1


async def test_what_old_histories_got_wrong_is_taken(scene: CacheScene) -> None:
    """Zero-padded modes and bad dates, which nobody can put right any more, are mirrored and called whole."""
    await scene.turn()
    blob = scene.upstream.git("hash-object", "-w", "--stdin", stdin=b"old\n").strip()
    tree = scene.upstream.git(
        "hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=b"0" + _tree("file", blob)
    ).strip()
    author = b"Ada <ada@example.com> 1700000000 +51800000"
    text = b"tree %s\nauthor %s\ncommitter %s\n\nold\n" % (tree.encode(), author, author)
    commit = scene.upstream.git("hash-object", "-w", "-t", "commit", "--literally", "--stdin", stdin=text).strip()
    scene.upstream.set("refs/heads/old", commit)
    await scene.turn()
    assert (await scene.cache.served()).refs["refs/heads/old"] == commit


def _tree(name: str, blob: str) -> bytes:
    return b"100644 %s\0%s" % (name.encode(), bytes.fromhex(blob))


async def test_a_refusal_of_the_host_is_told_as_such(scene: CacheScene) -> None:
    """What the host forbids is no damage: the cache is not looked at, nor fetched anew."""
    await scene.turn()
    scene.upstream.commit("main", {"more": b"more\n"})
    scene.host.faults.on("*", "", times=None).status(403)
    scene.git.ran.clear()
    with pytest.raises(DeniedError):
        await scene.fetch()
    assert [ran[0] for ran in scene.git.ran] == ["fetch"]
