"""The git of this machine: its version, and what a person should know about it. The only door to GitPython (ADR 17)."""

from __future__ import annotations

import os
from typing import Final

OLDEST: Final = (2, 37)
"""The first git that keeps to the addresses that were judged (`http.curloptResolve`)."""
FLOOR: Final = ((2, 43, 7), (2, 44, 4), (2, 45, 4), (2, 46, 4), (2, 47, 3), (2, 48, 2), (2, 49, 1), (2, 50, 1))
"""Versions that closed CVE-2025-48384, -48385 and -48386, by line of releases; distributions patch older ones."""


def version() -> tuple[int, ...]:
    """Return the version of the git that is installed; () when there is none. Blocks."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # a machine without git gets our error, not an ImportError
    import git  # noqa: PLC0415 - 80 ms and 6 MB are too dear for those who mirror no Git

    try:
        return git.cmd.Git().version_info
    except (git.exc.GitCommandError, git.exc.GitCommandNotFound, OSError):
        return ()


def outdated(found: tuple[int, ...]) -> bool:
    """Whether a git of that version lacks fixes of 2025, as git released it; its distribution may have patched it."""
    line = next((floor for floor in FLOOR if floor[:2] == found[:2]), None)
    return found < line if line else found < FLOOR[-1]


def remarks(found: tuple[int, ...], mirrors: int) -> tuple[tuple[str, str], ...]:
    """Return level and text of what the log says about this git (() for none) for so many Git mirrors."""
    name = "git " + ".".join(map(str, found))
    if not found:
        many = "1 mirror needs" if mirrors == 1 else f"{mirrors} mirrors need"
        return (("warning", f"git is not installed, and {many} it; install it (2.39 or newer)"),)
    if found < OLDEST:
        text = f"{name} is too old to be held to the addresses that were checked; install 2.39 or newer"
        return (("warning", text),)
    if outdated(found):
        reason = "needs the patches of your distribution for CVE-2025-48384, -48385 and -48386"
        text = f"{name} {reason}; {'.'.join(map(str, FLOOR[-1]))} has them"
        return (("info", text),)  # whether it has them cannot be seen here
    return ()
