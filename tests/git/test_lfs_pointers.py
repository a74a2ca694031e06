"""Which LFS objects a history points to, and which refs need which of them: judged by git-lfs and by git itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirrord.testing.gitrepos import Upstream
from mirrord.testing.running import run
from mirrord.testing.servers import require
from mirrord.wire.git.command import Git
from mirrord.wire.git.lfs import pointers
from mirrord.wire.git.lfs.needed import holding, reaching
from mirrord.wire.git.lfs.objects import Pointer
from mirrord.wire.git.lfs.pointers import in_use, read, search
from mirrord.wire.host import HostBook
from tests.support.gitcontent import lfs_pointer

ATTRIBUTES = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"
OID = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
VERSION = b"version https://git-lfs.github.com/spec/v1\n"
PLAIN = VERSION + b"oid sha256:" + OID.encode() + b"\nsize 12345\n"


@dataclass(slots=True)
class Place:
    """A repository that a test fills, and git."""

    git: Git
    repository: Upstream

    @property
    def folder(self) -> Path:
        return self.repository.path

    def blob(self, spec: str) -> str:
        return self.repository.git("rev-parse", spec).strip()

    async def oids(self, tips: list[str], without: list[str] | None = None) -> set[str]:
        return {found.oid for found in await search(self.git, self.folder, tips, without or [])}


@pytest.fixture
async def made(tmp_path: Path) -> Place:
    folder = tmp_path / "app.git"
    assert (await run("git", "init", "--quiet", "--bare", "-b", "main", folder)).status == 0
    return Place(Git(tmp_path / "home", HostBook()), Upstream(folder))


def oid(data: bytes) -> str:
    return lfs_pointer(data).split(b"sha256:")[1][:64].decode()


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (PLAIN, True),
        (PLAIN.removesuffix(b"\n"), True),
        (PLAIN.replace(b"git-lfs", b"hawser"), True),
        (PLAIN.replace(b"oid", b"ext-0-foo sha256:" + b"0" * 64 + b"\noid"), True),
        (PLAIN + b"more", False),
        (b" " + PLAIN, False),
        (PLAIN.replace(b"sha256", b"sha512"), False),
        (PLAIN.replace(b"12345", b"-1"), False),
        (PLAIN.replace(b"12345", b"9" * 19), False),
        (PLAIN.replace(OID.encode(), OID.upper().encode()), False),
        (PLAIN.replace(b"oid", b"ext-0-" + b"x" * 1000 + b"\noid"), False),
        (b"", False),
    ],
)
def test_what_a_pointer_is(data: bytes, found: bool) -> None:
    """By the specification, to the letter, as git-lfs takes it; what is longer than a pointer can be is none."""
    assert read(data, "b") == (Pointer(OID, 12345, "b") if found else None)


async def test_a_history_is_searched_like_git_lfs_does(made: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pointer counts, wherever in the history it was, on merged branches and in tags of trees too."""
    require("git-lfs")
    monkeypatch.setattr(pointers, "_AT_ONCE", 3)
    repository, commit = made.repository, made.repository.commit
    first = commit("main", {"a.bin": lfs_pointer(b"a" * 100), ".gitattributes": ATTRIBUTES, "x": b"x"})
    commit("main", {"a.bin": lfs_pointer(b"b" * 100), "d/e/c.bin": lfs_pointer(b"c" * 100)})
    for number in range(10):
        commit("main", {"a.bin": b"small %d " % number * 20, "x": b"%d" % number})
    commit("side", {"s.bin": lfs_pointer(b"s" * 100)}, parent=first)
    repository.tag("v1", "side", annotated=True)
    repository.delete("refs/heads/side")
    tips = list(repository.refs().values())
    listed = await run("git", "-C", made.folder, "lfs", "ls-files", "--all", "--long")
    assert listed.status == 0, listed.output
    expected = {line.split()[0] for line in listed.output.splitlines()}
    assert await made.oids(tips) == expected == {oid(text * 100) for text in (b"a", b"b", b"c", b"s")}
    (found,) = await search(made.git, made.folder, tips, [first, repository.refs()["refs/heads/main"]])
    assert found == Pointer(oid(b"s" * 100), 100, made.blob("v1:s.bin"))
    assert await made.oids([made.blob("v1^{tree}"), made.blob("v1:x")]) == {oid(b"a" * 100), oid(b"s" * 100)}
    assert await made.oids([first], ["0" * 39 + "1"]) == {oid(b"a" * 100)}  # what is gone excludes nothing


async def test_what_is_new_costs_one_process(made: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing small was added, nothing is looked into."""
    first = made.repository.commit("main", {"big": b"x" * 5000})
    second = made.repository.commit("main", {"big": b"y" * 5000})
    asked: list[str] = []
    real = Git.run

    async def counted(self: Git, args: list[str], **more: object) -> object:
        asked.append(args[0])
        return await real(self, args, **more)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(Git, "run", counted)
    assert await made.oids([second], [first]) == set()
    assert asked == ["rev-list"]


CASES: dict[str, tuple[Callable[[Upstream], object], bool]] = {
    "attribute": (lambda one: one.commit("a", {".gitattributes": b"# all\n*.psd  filter=lfs -text\n"}), True),
    "comment": (lambda one: one.commit("a", {".gitattributes": b"# *.psd filter=lfs\n"}), False),
    "pattern": (lambda one: one.commit("a", {".gitattributes": b"filter=lfs text\n\n"}), False),
    "other": (lambda one: one.commit("a", {".gitattributes": b"*.psd filter=lfs2\n"}), False),
    "none": (lambda one: one.commit("a", {"a": b"a"}), False),
    "folder": (lambda one: one.commit("a", {".gitattributes/x": b"*.psd filter=lfs\n"}), False),
    "below": (lambda one: one.commit("a", {"assets/big/.gitattributes": b"*.psd filter=lfs\n"}), True),
    "name": (lambda one: one.commit("a", {"é/.gitattributes": b"*.psd filter=lfs\n"}), True),
    "like": (lambda one: one.commit("a", {"x/.gitattributes.old": b"* filter=lfs\n"}), False),
    "ends so": (lambda one: one.commit("a", {"x/my.gitattributes": b"* filter=lfs\n"}), False),
    "long ago": (
        lambda one: [one.commit("a", {".gitattributes": text}) for text in (ATTRIBUTES, b"*.bin text\n", b"")],
        True,
    ),
}


@pytest.mark.parametrize(("fill", "expected"), CASES.values(), ids=CASES)
async def test_only_histories_that_say_so_use_lfs(
    made: Place, fill: Callable[[Upstream], object], expected: bool
) -> None:
    """LFS is used where a `.gitattributes` anywhere says so, now or once, and not in a pattern or a comment."""
    fill(made.repository)
    tips = list(made.repository.refs().values())
    assert await in_use(made.git, made.folder, tips) == expected
    assert not await in_use(made.git, made.folder, tips, tips)


async def test_which_refs_need_what(made: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is needed by those whose tree has it, and reached by all that ever had it; judged by `git log` itself."""
    repository, commit = made.repository, made.repository.commit
    root = commit("before", {"x": b"x", ".gitattributes": ATTRIBUTES}, parent=None)
    had = commit("had", {"é/a.bin": PLAIN}, parent=root)
    commit("has", {"x": b"2"}, parent=had)
    commit("moved", {"b.bin": PLAIN, "é/a.bin": b"else"}, parent=had)
    gone = commit("gone", {"é/a.bin": b"else"}, parent=had)
    commit("after", {"x": b"3"}, parent=gone)
    commit("other", {"x": b"4"}, parent=root)
    commit("again", {"c.bin": PLAIN}, parent=None)
    repository.tag("v1", "after", annotated=True)
    tree = repository.git("rev-parse", "has^{tree}").strip()
    repository.set("refs/tags/tree", tree)
    repository.set("refs/tags/file", made.blob("has:x"))
    merged = repository.git(
        *("-c", "user.name=A", "-c", "user.email=a@b"),
        *("commit-tree", made.blob("other^{tree}"), "-p", made.blob("other"), "-p", gone, "-m", "m"),
    ).strip()
    repository.set("refs/heads/merged", merged)
    refs = {name.rpartition("/")[2]: oid for name, oid in repository.refs().items()}
    blob = made.blob("has:é/a.bin")
    for many in (10_000, 1):
        monkeypatch.setattr("mirrord.wire.git.lfs.needed._MANY", many)
        held = await holding(made.git, made.folder, refs.values(), {blob, "1" * 40})
        assert {name for name, tip in refs.items() if tip in held} == {"had", "has", "moved", "again", "tree"}
        reached = await reaching(made.git, made.folder, refs.values(), {blob, "1" * 40})
        expected = {"had", "has", "moved", "again", "tree", "gone", "after", "v1", "merged"}
        assert {name for name, tip in refs.items() if tip in reached} == expected
    for name in refs.keys() - {"tree", "file"}:
        listed = repository.git("rev-list", "--objects", "--no-object-names", refs[name]).split()
        assert (blob in listed) == (name in expected), name
    assert await holding(made.git, made.folder, refs.values(), []) == frozenset()
    assert await reaching(made.git, made.folder, refs.values(), ["1" * 40]) == frozenset()
    assert await reaching(made.git, made.folder, [], [blob]) == frozenset()
