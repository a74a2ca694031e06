"""What a file of a Git working tree was at an earlier revision."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Final

from mirrord.errors import UsageError
from mirrord.program import Invocation, ProgramEnd, run

_REVISION: Final = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_./@{}^~+-]{0,249}")  # an option begins with a dash
_PASSED: Final = ("PATH", "HOME", "XDG_CONFIG_HOME", "GIT_DIR", "GIT_WORK_TREE")
_ALWAYS: Final = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
_DEADLINE: Final = 60.0  # seconds for one git
_SHOWN: Final = 300  # bytes of git's error message


class _Git:
    """Runs git in a folder, with the configuration of who calls."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environ = {name: os.environ[name] for name in _PASSED if name in os.environ} | _ALWAYS
        self._errors = bytearray()

    async def run(self, *words: str, limit: int = 4096) -> ProgramEnd:
        """Run it to its end; UsageError says that it cannot be started."""
        self._errors.clear()
        argv = ("git", "--literal-pathspecs", *words)
        invocation = Invocation(argv, self._environ, folder=self._folder, on_error=self._keep)
        try:
            return await run(invocation, limit=limit, deadline=_DEADLINE)
        except OSError as error:
            raise UsageError(f"--since: git cannot be started ({error.strerror}); install git") from error

    def _keep(self, piece: bytes) -> None:
        self._errors += piece[: _SHOWN - len(self._errors)]

    def why(self) -> str:
        """Return the last error message of git as a clause, or ""."""
        text = " ".join(self._errors.decode("utf-8", "replace").split())
        return f" (git: {text})" if text else ""


def check_revision(revision: str) -> None:
    """Refuse what git could take for something else than the name of a commit.

    Raises:
        UsageError: it has other characters than names of commits, or begins with a dash.
    """
    if not _REVISION.fullmatch(revision):
        raise UsageError(f"--since {revision[:80]!a}: not the name of a commit; write one such as origin/main")


async def text_before(file: Path, revision: str, limit: int) -> bytes | None:
    """Return a file as it was at the last commit that HEAD and a revision have in common; None when it was not there.

    Args:
        file: any file in a Git working tree.
        revision: a commit, branch or tag.
        limit: most bytes.

    Raises:
        UsageError: no such commit, no common one, no Git repository, or the file was longer; says what to do.
    """
    check_revision(revision)
    place = await asyncio.to_thread(file.resolve)
    git = _Git(place.parent)
    found = await git.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found.status != 0:
        fetch = "fetch it first, in GitHub's checkout with fetch-depth: 0"
        raise UsageError(f"--since {revision}: no such commit in the repository of {file}{git.why()}; {fetch}")
    base = await git.run("merge-base", _word(found), "HEAD")
    if base.status != 0:
        fetch = "fetch more of the history, in GitHub's checkout with fetch-depth: 0"
        raise UsageError(f"--since {revision}: has no commit in common with HEAD{git.why()}; {fetch}")
    listed = _done(git, await git.run("ls-tree", "-z", _word(base), "--", place.name))
    if not listed:
        return None
    kind, name = listed.partition(b"\t")[0].split()[1:]
    if kind != b"blob":
        return None
    return _done(git, await git.run("cat-file", "blob", name.decode(), limit=limit))


def _word(end: ProgramEnd) -> str:
    return end.out.decode("ascii", "replace").strip()


def _done(git: _Git, end: ProgramEnd) -> bytes:
    if end.status != 0 or end.ended_for:
        reason = f" ({end.ended_for.value})" if end.ended_for else git.why()
        raise UsageError(f"--since: git failed{reason}; check the repository with `git fsck`")
    return end.out
