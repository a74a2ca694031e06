"""What hosts say when they refuse a ref, in their own words: one next step for each, the right one."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirrord import errors
from mirrord.errors import DeniedError, MirrordError, RefusedError, UnsupportedError
from mirrord.model.run import Outcome, Result, Run
from mirrord.syncers.git.transfer.destinations import GitDestination
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.forges.known import FORGES
from mirrord.wire.git.failures import classify, per_ref
from tests.support.gitworld import GitWorld, open_git_world, receipts

NAME = "app.git"
MAIN, SIDE = "refs/heads/main", "refs/heads/side"
OID = "1f5afc80ced65b26c4e860b4394d76e44c7cb445"
HOOK = "pre-receive hook declined"
ONE_FILE, TOO_BIG = "over the host's limit for one file", "the host has a limit for sizes"
FORCED, PROTECTED, KEPT = "forbids forced pushes", "it is protected there", "forbids to delete it"
MAIL, AUTHOR, RULE = "keeps private", "checks who wrote", "a rule of the host forbids it"
REASONS = [
    ("deny updating a hidden ref", "take them out with `refs:`"),
    ("deletion of the current branch prohibited", "another one must be the default branch first"),
    ("deletion prohibited", KEPT),
    ("non-fast-forward", FORCED),
    ("hook declined", RULE),
    ("shallow update not allowed", "the copy here is not whole"),
    ("protected branch hook declined", PROTECTED),
    (f"{HOOK}: error: GH001: Large files detected.; File big is 123 MB; this exceeds the file size limit", ONE_FILE),
    (f"{HOOK}: File: big.bin 123.45 MB, exceeds 100.00 MB.; Use command below to see the filename", ONE_FILE),
    (f"{HOOK}: GitLab: You are attempting to check in one or more blobs which exceed the 100MiB limit:", ONE_FILE),
    (f"{HOOK}: This repository(including wiki) size 1143.71 MB, exceeds 1024.00 MB.; HelpLink: x", TOO_BIG),
    (f"{HOOK}: GitLab: Your push to this repository would cause it to exceed the allocated storage of 10 GB", TOO_BIG),
    (f"{HOOK}: error: GH006: Protected branch update failed for refs/heads/main.", PROTECTED),
    (f"{HOOK}: error: GH006: Protected branch update failed; Cannot force-push to this branch", FORCED),
    (f"{HOOK}: error: GH013: Repository rule violations found for refs/heads/main.", PROTECTED),
    (f"{HOOK}: error: GH013: Repository rule violations found; Push cannot contain secrets", "secrets"),
    (f"{HOOK}: error: GH007: Your push would publish a private email address.", MAIL),
    (f"{HOOK}: error: GE007: Your push would publish a private email address.", MAIL),
    (f"{HOOK}: GitLab: Committer's email 'a@b' is not verified", AUTHOR),
    (f"{HOOK}: GitLab: You are not allowed to force push code to a protected branch on this project.", FORCED),
    (f"{HOOK}: GitLab: You are not allowed to push code to protected branches on this project.", PROTECTED),
    (f"{HOOK}: GitLab: You can only delete protected branches using the web interface.", KEPT),
    (f"{HOOK}: GitLab: The default branch of a project cannot be deleted.", "another one must be the default branch"),
    (f"{HOOK}: Gitea: Not allowed to force-push to protected branch main", FORCED),
    (f"{HOOK}: Gitea: branch main is protected from deletion", KEPT),
    (f"{HOOK}: Gitea: Not allowed to push to protected branch main", PROTECTED),
    (f"{HOOK}: 不允许强制推送", FORCED),
    (f"{HOOK}: our own rule 17", RULE),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "step"), REASONS, ids=[reason[-40:] for reason, _ in REASONS])
def test_each_reason_has_its_step(reason: str, step: str) -> None:
    """The reason is repeated and followed by what to do; of forced pushes only a refusal of those speaks."""
    told = str(per_ref(MAIN, reason))
    assert told.startswith(f"{MAIN}: {reason} (")
    assert step in told.removeprefix(f"{MAIN}: {reason}")
    assert ("forced pushes" in told.removeprefix(f"{MAIN}: {reason}")) == (step == FORCED)


@pytest.mark.parametrize(("reason", "step"), REASONS, ids=[reason[-40:] for reason, _ in REASONS])
def test_one_table(reason: str, step: str) -> None:
    """When the whole push fails with these words it is the same step."""
    lines = "".join(f"remote: {part}\n" for part in reason.split("; "))
    assert step in str(classify(1, f"{lines} ! [remote rejected] main -> main ({reason.partition(':')[0]})\n", "h"))


def test_our_disk_is_not_theirs() -> None:
    """A host's full disk, told in its words, is no failure of ours."""
    assert type(per_ref(MAIN, f"{HOOK}: fatal: write error: No space left on device")) is not errors.StorageError


def test_a_scope_is_the_tokens_fault() -> None:
    """What the token lacks is `denied`, and the scope is named."""
    said = (
        "refusing to allow an OAuth App to create or update workflow `.github/workflows/a.yml` without `workflow` scope"
    )
    error = per_ref(MAIN, said)
    assert isinstance(error, DeniedError)
    assert "give the token the scope `workflow`" in str(error)


@pytest.mark.parametrize(
    "found",
    [
        "hasDotgit: contains '.git'",
        "hasDotdot: contains '..'",
        "gitmodulesUrl: disallowed submodule url: -u./payload",
        "gitmodulesName: disallowed submodule name: ../../x",
        "gitmodulesSymlink: .gitmodules is a symbolic link",
        "gitmodulesUpdate: disallowed submodule update setting: !touch x",
    ],
)
def test_dangerous_content_is_called_so(found: str) -> None:
    """It is refused, not damaged: by us when it is fetched, by a host when it is pushed, in the words of git-fsck."""
    said = f"error: object {OID}: {found}\nfatal: fsck error in packed object\nfatal: index-pack failed\n"
    fetched = classify(128, said, "h.example")
    told = f"refused: dangerous content: object {OID}: {found} (upstream has to take it out of its history; "
    assert isinstance(fetched, UnsupportedError)
    assert str(fetched).startswith(f"h.example: {told}")
    pushed = per_ref(MAIN, f"unpacker error: object {OID}: {found}")
    assert isinstance(pushed, UnsupportedError)
    assert str(pushed).startswith(
        f"{MAIN}: refused: dangerous content: unpacker error: object {OID}: {found} (upstream"
    )


def test_a_damaged_upstream_is_upstreams() -> None:
    """When upload-pack says that its own repository is damaged, nobody else is suspected."""
    end = "remote: aborting due to possible repository corruption on the remote side.\nfatal: early EOF\n"
    assert "the host's own copy is damaged" in str(classify(128, f"remote: fatal: unable to read {OID}\n{end}", "h"))


@dataclass(slots=True)
class Scene:
    """An upstream, a host with hooks, and a mirror from one to the other."""

    world: GitWorld
    there: GitHost
    upstream: Upstream
    url: str

    async def run(self) -> Run:
        return await self.world.run(self.world.mirror(self.url, {"there": self.there.url(NAME)}))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_git_world(tmp_path) as world:
        source, there = await world.host("source"), await world.host("there")
        upstream = Upstream(source.create(NAME))
        upstream.commit("main", {"README.md": b"one\n"})
        upstream.commit("side", {"README.md": b"two\n"})
        there.create(NAME)
        yield Scene(world, there, upstream, source.url(NAME))


@pytest.mark.parametrize(
    ("words", "step"),
    [
        ("GitLab: You are not allowed to force push code to a protected branch on this project.", FORCED),
        ("File: big.bin 123.45 MB, exceeds 100.00 MB.", ONE_FILE),
        ("error: GH007: Your push would publish a private email address.", MAIL),
    ],
)
async def test_a_hook_with_these_words(scene: Scene, words: str, step: str) -> None:
    """A real hook refuses one ref so: that one is refused with its words and one next step, the other goes through."""
    scene.there.hook(NAME, "update", f'#!/bin/sh\ntest "$1" = {SIDE} || exit 0\necho "{words}" >&2\nexit 1\n')
    run = await scene.run()
    assert run.result is Result.PARTIAL
    found = receipts(run, "there")
    assert (found[MAIN].outcome, found[SIDE].outcome) == (Outcome.DONE, Outcome.REFUSED)
    assert found[SIDE].detail.startswith(f"{SIDE}: hook declined: {words.removeprefix('error: ')} (")
    assert step in found[SIDE].detail
    assert len(re.findall(r" \(", found[SIDE].detail)) == 1


async def test_a_host_that_checks_objects(scene: Scene) -> None:
    """A host with `receive.fsckObjects` refuses an old, malformed tree: its words, what it is, and what helps."""
    upstream = scene.upstream
    blob = upstream.git("hash-object", "-w", "--stdin", stdin=b"old\n").strip()
    padded = b"0100644 file\0" + bytes.fromhex(blob)
    tree = upstream.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=padded).strip()
    person = b"Ada <ada@example.com> 1700000000 +0000"
    text = b"tree %s\nauthor %s\ncommitter %s\n\nold\n" % (tree.encode(), person, person)
    upstream.set(SIDE, upstream.git("hash-object", "-w", "-t", "commit", "--stdin", stdin=text).strip())
    subprocess.run(["git", "-C", scene.there.path(NAME), "config", "receive.fsckObjects", "true"], check=True)  # noqa: ASYNC221 - a moment
    run = await scene.run()
    refused = receipts(run, "there")[SIDE]
    assert refused.outcome is Outcome.REFUSED
    assert f"object {tree}: zeroPaddedFilemode: " in refused.detail
    assert "receive.fsck.NAME=warn" in refused.detail


def test_the_kind_of_host_decides(tmp_path: Path) -> None:
    """Where the kind of host is known its own step stands in place of the general one: never two for one refusal."""
    for name, reason, step in (
        ("github", f"{HOOK}: error: GH006: Protected branch update failed", "bypass the branch's rules"),
        ("gitee", f"{HOOK}: File: big.bin 123.45 MB, exceeds 100.00 MB.", "over Gitee's limit for one file"),
        ("gitlab", f"{HOOK}: GitLab: You are not allowed to force push code to a protected branch", "under Protected"),
    ):
        error: MirrordError = per_ref(MAIN, reason)
        to = GitDestination(None, FORGES[name], None, None, tmp_path)  # type: ignore[arg-type]  # asks nobody
        told = to.explained(error)
        assert isinstance(told, RefusedError)
        assert str(told).startswith(f"{MAIN}: {reason} (")
        assert step in str(told)
        assert str(told).count(" (") == 1
