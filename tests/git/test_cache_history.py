"""Raw files out of a cache: which ref and path a URL means, what is there, and its bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.errors import MissingError, TooLargeError
from mirrord.wire.git.history import LINK, SUBMODULE, History, TreeEntry, TreePath
from tests.support.gitcache import CacheScene, open_scene

DEEP = "a/b/c d/\u00fc\u2028.txt"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[CacheScene]:
    """Serve branches with slashes, tags of the same names, a link, a submodule, folders."""
    async with open_scene(tmp_path) as made:
        up = made.upstream
        main = up.commit("main", {"README.md": b"main\n", DEEP: b"deep\n", "x tree": b"1\n", "run.sh": b"#!\n"})
        up.commit("feature", {"README.md": b"feature\n", "x/y": b"of feature\n"}, parent=None)
        up.tag("release", main, annotated=True)
        up.commit("release/1.0", {"f": b"branch release/1.0\n"}, parent=None)
        up.tag("main", up.commit("main2", {"README.md": b"tag main\n"}, parent=None))
        blob, link = (up.git("hash-object", "-w", "--stdin", stdin=data).strip() for data in (b"x\n", b"../secret"))
        tree = f"120000 blob {link}\tlink\n100755 blob {blob}\trun\n160000 commit {main}\tmodule\n"
        tree_id = up.git("mktree", "--missing", stdin=tree.encode()).strip()
        commit = up.git("-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", "-m", "odd", tree_id).strip()
        up.set("refs/heads/odd", commit)
        await made.turn()
        yield made


@pytest.fixture
def history(scene: CacheScene) -> History:
    """Read the cache."""
    return History(scene.git, scene.cache.folder)


async def text(history: History, url: str) -> str:
    return (await history.blob((await history.find(url.split("/"))).entry.oid, 1000)).decode()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("main/README.md", "main\n"),  # a branch before a tag
        ("feature/README.md", "feature\n"),
        ("feature/x/y", "of feature\n"),
        ("release/1.0/f", "branch release/1.0\n"),  # the longest name wins
        ("release/README.md", "main\n"),  # an annotated tag stands for its commit
        (f"main/{DEEP}", "deep\n"),
        ("main/x tree", "1\n"),
        ("HEAD/README.md", "main\n"),
    ],
)
async def test_a_path_begins_with_a_ref(history: History, url: str, expected: str) -> None:
    """Branches and tags may hold slashes: the longest one that exists is meant."""
    assert await text(history, url) == expected


async def test_the_longest_branch_wins(scene: CacheScene, history: History) -> None:
    """A tag `release` and a branch below that name do not hide each other."""
    scene.upstream.commit("release/2.0/hot", {"f": b"hot\n"}, parent=None)
    await scene.turn()
    assert await text(history, "release/2.0/hot/f") == "hot\n"
    assert await text(history, "release/README.md") == "main\n"


async def test_a_full_name_means_itself(scene: CacheScene, history: History) -> None:
    """`refs/heads/…` and `refs/tags/…` tell a branch from a tag, and win over a branch that is really called so."""
    assert await text(history, "refs/heads/main/README.md") == "main\n"
    assert await text(history, "refs/tags/main/README.md") == "tag main\n"
    assert await text(history, "refs/heads/release/1.0/f") == "branch release/1.0\n"
    scene.upstream.commit("refs/heads/main/x", {"f": b"odd\n"}, parent=None)
    scene.upstream.commit("refs/heads/only", {"f": b"only\n"}, parent=None)
    await scene.turn()
    assert await text(history, "refs/heads/main/x tree") == "1\n"
    full, short = [await history.find(url.split("/")) for url in ("refs/heads/main/x tree", "main/x tree")]
    assert full == short
    assert await text(history, "refs/heads/refs/heads/main/x/f") == "odd\n"
    assert await text(history, "refs/heads/only/f") == "only\n"
    for hidden in ("refs/mirrord/incoming/heads/main", "refs/heads", "refs/heads/none"):
        with pytest.raises(MissingError):
            await history.find([*hidden.split("/"), "README.md"])


async def test_a_commit_is_shown_when_a_served_ref_contains_it(scene: CacheScene, history: History) -> None:
    """Full ids of what is served work; what only a backup or upstream's newest state has is not shown."""
    old = scene.upstream.refs()["refs/heads/main"]
    scene.upstream.commit("main", {"README.md": b"newer\n"})
    await scene.turn()
    assert await text(history, f"{old}/README.md") == "main\n"
    hidden = scene.upstream.commit("secret", {"s": b"secret\n"}, parent=None)
    above = scene.upstream.commit("above", {"s": b"secret\n"}, parent=old)
    await scene.fetch()
    tag = scene.upstream.refs()["refs/tags/release"]
    blob = scene.upstream.git("rev-parse", f"{old}:README.md").strip()
    for oid in (hidden, above, old[:12], "1" * 40, blob, tag, "-" * 40):
        with pytest.raises(MissingError):
            await history.find([oid, "s"])


@pytest.mark.parametrize(
    "url",
    [
        "nope/f",
        "refs/heads/release/f",
        "mirrord/incoming/heads/main/f",
        "main",
        "",
        "main^/f",
        "main~1/f",
        "@/f",
        "main:x/f",
    ],
)
async def test_what_is_no_served_ref_is_missing(history: History, url: str) -> None:
    """Only branches, tags, HEAD and full ids are names; git's other ways to name a commit are not."""
    with pytest.raises(MissingError):
        await history.find(url.split("/"))


async def test_a_path_of_thousands_of_segments_asks_little(scene: CacheScene, history: History) -> None:
    """No path makes git look for more than some dozens of names."""
    asked: list[bytes] = []
    real = scene.git.run

    async def counted(args: list[str], **options: object) -> object:
        asked.append(bytes(options.get("stdin", b"")))  # type: ignore[call-overload]  # bytes it is
        return await real(args, **options)

    scene.git.run = counted  # type: ignore[method-assign, assignment]  # a test looks on
    with pytest.raises(MissingError):
        await history.find(["nope"] * 4000)
    assert max(stdin.count(b"^{commit}\n") for stdin in asked) <= 128


@pytest.mark.parametrize(
    ("path", "mode", "kind"),
    [("link", LINK, "blob"), ("module", SUBMODULE, "commit"), ("run", "100755", "blob")],
)
async def test_kinds_are_told_and_not_followed(history: History, path: str, mode: str, kind: str) -> None:
    """A link is its text, a submodule a commit of another repository."""
    entry = (await history.find(["odd", path])).entry
    assert (entry.mode, entry.kind) == (mode, kind)
    assert entry.size == {"link": 9, "run": 2, "module": 0}[path]
    if path == "link":
        assert await history.blob(entry.oid, 100) == b"../secret"


async def test_a_folder_is_told(scene: CacheScene, history: History) -> None:
    """Its id and kind, no size."""
    commit, oid = (scene.upstream.git("rev-parse", f"refs/heads/main{what}").strip() for what in ("", ":a/b"))
    assert await history.find(["main", "a", "b"]) == TreePath(commit, "a/b", TreeEntry("040000", "tree", oid, 0))


@pytest.mark.parametrize(
    "path",
    [
        "nope",
        "a/nope",
        "README.md/x",
        "..",
        "a/../README.md",
        "./README.md",
        "",
        "a//b",
        "a\nb",
        "readme.md",
        "nope tree/x",
    ],
)
async def test_a_path_that_is_not_there_is_missing(history: History, path: str) -> None:
    """No file, or no name that a tree can hold: missing, whatever it looks like to a file system."""
    with pytest.raises(MissingError):
        await history.find(["main", *path.split("/")])
    with pytest.raises(MissingError):
        await history.find(["main", path])


async def test_a_large_file_is_no_folder(scene: CacheScene, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path through a large file does not make us read it."""
    monkeypatch.setattr("mirrord.wire.git.history._LARGEST_FOLDER", 1000)
    scene.upstream.commit("main", {"big": bytes(100_000)})
    await scene.turn()
    with pytest.raises(MissingError):
        await history.find(["main", "big", "x"])


async def test_a_blob_is_read_up_to_its_limit(scene: CacheScene, history: History) -> None:
    """So many bytes and no more; and only by an object id."""
    entry = (await history.find(["main", "README.md"])).entry
    assert await history.blob(entry.oid, entry.size) == b"main\n"
    with pytest.raises(TooLargeError):
        await history.blob(entry.oid, entry.size - 1)
    with pytest.raises(MissingError):
        await history.blob("HEAD:README.md", 100)


async def test_a_file_costs_two_processes(scene: CacheScene, history: History) -> None:
    """Names from outside travel on standard input: the arguments are the same for every path."""
    scene.git.ran.clear()
    await text(history, f"main/{DEEP}")
    assert [ran[:2] for ran in scene.git.ran] == [
        ("cat-file", "--batch-command"),
        ("cat-file", "blob"),
    ]
