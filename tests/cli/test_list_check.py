"""`mirrord list check`: problems by file and line, real registries for `--exists`, real Git for `--since`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from tests.support.auth import Auth
from tests.support.commands import Desk, Said

Typed = Callable[..., Said]


def git(folder: Path, *words: str) -> str:
    """Run git as nobody in particular."""
    identity = {f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", **identity}
    return subprocess.run(["git", *words], cwd=folder, env=environ, check=True, capture_output=True, text=True).stdout


def commit(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    git(folder, "add", name)
    git(folder, "commit", "-qm", name)


@pytest.fixture
def repository(desk: Desk) -> Path:
    """A working tree with a branch `main` at which `lists/a.txt` has two images, one of them wrong."""
    lists = desk.folder / "lists"
    lists.mkdir()
    git(desk.folder, "init", "-q", "-b", "main")
    commit(desk.folder, "lists/a.txt", "alpine\nold wrong\n")
    git(desk.folder, "switch", "-qc", "change")
    return lists


def test_problems_are_lines(typed: Typed, desk: Desk) -> None:
    """Each problem is FILE:LINE: what; what to write, in the order of files and lines, and nothing else is printed."""
    (desk.folder / "b.txt").write_text("nginx\nnginx:\ndocker.io/library/nginx\n")
    (desk.folder / "allows.txt").write_text("ghcr.io/a/b\nghcr.io/a/*\nghcr.io/*b\nghcr.io/**\n")
    said = typed("list", "check", "b.txt", "allows.txt")
    assert (said.status, said.err) == (1, "")
    lines = said.out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        *("b.txt:2", "b.txt:3", "allows.txt:1", "allows.txt:2", "allows.txt:3")
    ]
    assert lines[1] == "b.txt:3: docker.io/library/nginx is listed at line 1 already; remove one of them"
    assert lines[2] == "allows.txt:1: ghcr.io/a/b is allowed by ghcr.io/a/* at line 2; remove this line"


def test_nothing_wrong(typed: Typed, desk: Desk) -> None:
    """Without a problem the number of images is printed, and the exit code is 0."""
    (desk.folder / "mirror.txt").write_text("# all\nnginx:1\\.2[0-9]\nalpine\n")
    assert typed("list", "check", "mirror.txt") == Said(0, "2 images, no problem\n", "")


def test_options_about_hosts_need_a_question(typed: Typed, desk: Desk) -> None:
    """Without `--exists` no registry is asked, so an option about registries is an error and not ignored."""
    (desk.folder / "f.txt").write_text("alpine\n")
    for words in (("--ca", "corp.pem"), ("--allow-private",), ("--insecure", "reg.test"), ("--token-realm", "a=b")):
        said = typed("list", "check", *words, "f.txt")
        assert (said.status, said.out) == (64, "")
        assert said.err.endswith(f"{words[0]} needs --exists: without it no registry is asked\n")


def test_annotations_for_github(typed: Typed, desk: Desk) -> None:
    """A problem is one workflow command; what would end it or its properties is escaped."""
    (desk.folder / "a,b:100%.txt").write_bytes(b"ngi\rnx 100%25\n")
    said = typed("list", "check", "--format", "github", "a,b:100%.txt")
    assert (said.status, said.err) == (1, "")
    assert said.out == (
        "::error file=a%2Cb%3A100%25.txt,line=1::a blank stands between two words; write one image a line, "
        "and ` # ` before a comment\n"
    )
    (desk.folder / "mirror.txt").write_text("a.io/b:(%0A\n")
    out = typed("list", "check", "--format", "github", "mirror.txt").out
    assert out.count("\n") == 1
    assert "(%250A" in out


def test_a_name_of_a_file_begins_no_line(typed: Typed, desk: Desk) -> None:
    """What a pull request calls a file is no command for the pipeline that checks it."""
    for name, data in (("a\n::error::x.txt", b"a b\n"), ("b\n::error::x.txt", b"\xff")):
        (desk.folder / name).write_bytes(data)
        for words in (("check",), ("check", "--format", "github"), ("fmt",)):
            said = typed("list", *words, "--", name)
            assert len((said.out + said.err).splitlines()) == 1, said
    for word in ("check", "fmt"):
        said = typed("list", word, "--", "gone\n::error::x.txt")
        assert len((said.out + said.err).splitlines()) == 1, said


async def test_a_real_registry_is_asked(desk: Desk) -> None:
    """Tags and digests by HEAD, names by their tags, patterns by a tag that fits; what is not there is named."""
    require("docker-registry")
    image = build_image()
    async with DockerRegistry() as registry:
        await push(image, registry.url, "a/b", ["v1.2", "latest"])
        host = registry.host
        (desk.folder / "tags.txt").write_text(
            f"{host}/a/b:v1.2\n{host}/a/b\n{host}/a/b@{image.digest}\n{host}/a/b:v9\n{host}/a/c\n"
            f"{host}/a/b@sha256:{'00' * 32}\n{host}/a/c:v1\n"
        )
        (desk.folder / "mirror.txt").write_text(f"{host}/a/b:^v1\n{host}/a/b\n{host}/a/b:^v2\n")
        (desk.folder / "allows.txt").write_text(f"{host}/x/*\n{host}/a/b\n{host}/a/d\n")
        said = await desk.run("list", "check", "--exists", "tags.txt", "mirror.txt", "allows.txt")
    gone, fix = "is not at the registry", "correct the line, or remove it"
    assert (said.status, said.err) == (1, "")
    assert said.out.splitlines() == [
        f"tags.txt:4: {host}/a/b:v9 {gone}; {fix}",
        f"tags.txt:5: {host}/a/c {gone}; {fix}",
        f"tags.txt:6: {host}/a/b@sha256:{'00' * 32} {gone}; {fix}",
        f"tags.txt:7: {host}/a/c:v1 {gone}; {fix}",
        f"mirror.txt:3: {host}/a/b: '^v2' is found in none of its tags (2); {fix}",
        f"allows.txt:3: {host}/a/d {gone}; {fix}",
    ]


async def test_credentials_are_those_of_docker_login(desk: Desk) -> None:
    """A private image is found with docker's credentials; without them its line is a problem."""
    async with Registry(auth=Auth(basic=("robot", "s3cret-word"))) as registry:
        await push(build_image(), registry, "a/b", ["v1"])
        (desk.folder / "f.txt").write_text(f"{registry.host}/a/b:v1\n")
        denied = await desk.run("list", "check", "--exists", "f.txt")
        login = f'{{"auths": {{"{registry.host}": {{"username": "robot", "password": "s3cret-word"}}}}}}'
        found = await desk.run("list", "check", "--exists", "f.txt", DOCKER_AUTH_CONFIG=login)
    assert denied.status == 1
    assert denied.out.startswith(f"f.txt:1: {registry.host}")
    assert found == Said(0, "1 image, all there\n", "")


async def test_an_image_is_asked_for_once(desk: Desk) -> None:
    """The same image in two lists costs one request."""
    async with Registry() as registry:
        await push(build_image(), registry, "a/b", ["v1"])
        for name in ("f.txt", "g.txt"):
            (desk.folder / name).write_text(f"{registry.host}/a/b:v1\n")
        said = await desk.run("list", "check", "--exists", "f.txt", "g.txt")
        assert said == Said(0, "2 images, all there\n", "")
        assert registry.count("HEAD", "/manifests/") == 1


async def test_a_registry_that_cannot_be_reached(desk: Desk, dead: str) -> None:
    """When nothing else is wrong than that nobody answers, the exit code says so: a later try may work."""
    (desk.folder / "f.txt").write_text(f"{dead}/a/b:v1\n")
    said = await desk.run("list", "check", "--exists", "f.txt")
    assert said.status == 69
    assert said.out.startswith(f"f.txt:1: {dead}")


def test_only_added_lines_are_checked(typed: Typed, repository: Path) -> None:
    """What the branch did not add is not its fault, also when lines moved; a new file is checked as a whole."""
    commit(repository.parent, "lists/a.txt", "old wrong\n# x\nnew wrong\nalpine # moved\n")
    (repository / "b.txt").write_text("wrong too\n")
    said = typed("list", "check", "--since", "main", "lists/a.txt", "lists/b.txt")
    assert [line.partition(": ")[0] for line in said.out.splitlines()] == ["lists/a.txt:3", "lists/b.txt:1"]
    git(repository.parent, "switch", "-q", "main")
    commit(repository.parent, "lists/a.txt", "alpine\nnew wrong\n")
    git(repository.parent, "switch", "-q", "change")
    assert typed("list", "check", "--since", "main", "lists/a.txt").out.splitlines() == said.out.splitlines()[:1]


def test_a_file_that_did_not_change(typed: Typed, repository: Path) -> None:
    """Without an added line nothing is wrong, and no registry is asked."""
    assert typed("list", "check", "--exists", "--since", "main", "lists/a.txt") == Said(0, "0 images, all there\n", "")


@pytest.mark.parametrize("revision", ["--output=x", "-p", "", "main x", "main:lists/a.txt", "a\nb", "$(id)", "x" * 300])
def test_a_revision_that_is_none(typed: Typed, repository: Path, revision: str) -> None:
    """Nothing that git could take for an option, a path or two words reaches it."""
    said = typed("list", "check", f"--since={revision}", "lists/a.txt")
    assert (said.status, said.out) == (64, "")
    assert said.err.endswith(": not the name of a commit; write one such as origin/main\n")
    assert not (repository.parent / "x").exists()


def test_what_git_does_not_know(typed: Typed, desk: Desk, repository: Path, tmp_path: Path) -> None:
    """An unknown commit, an unrelated one, and a folder without Git end with what to do."""
    said = typed("list", "check", "--since", "origin/main", "lists/a.txt")
    assert said.status == 64
    assert "--since origin/main: no such commit in the repository of lists/a.txt; fetch it first" in said.err
    tree = git(repository.parent, "hash-object", "-t", "tree", "-w", os.devnull).strip()
    other = git(repository.parent, "commit-tree", "-m", "x", tree).strip()
    said = typed("list", "check", "--since", other, "lists/a.txt")
    assert said.status == 64
    assert "has no commit in common with HEAD; fetch more of the history" in said.err


def test_a_folder_without_git(typed: Typed, desk: Desk) -> None:
    """Outside of a Git working tree `--since` says what git said."""
    (desk.folder / "f.txt").write_text("alpine\n")
    said = typed("list", "check", "--since", "main", "f.txt")
    assert said.status == 64
    assert "no such commit in the repository of f.txt (git: fatal: not a git repository" in said.err


def test_names_of_files_are_only_names(typed: Typed, desk: Desk, repository: Path) -> None:
    """A file whose name git could read as a pattern or an option is compared with itself."""
    for name in ("lists/:(glob)*.txt", "lists/-p.txt"):
        commit(desk.folder, name, "old wrong\n")
    git(desk.folder, "branch", "-qf", "main")
    for name in ("lists/:(glob)*.txt", "lists/-p.txt"):
        (desk.folder / name).write_text("old wrong\nnew wrong\n")
        said = typed("list", "check", "--since", "main", "--", name)
        assert [line.partition(": ")[0] for line in said.out.splitlines()] == [f"{name}:2"]
