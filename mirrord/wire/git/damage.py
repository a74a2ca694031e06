"""Tells whether a repository is whole: every object, which is the only way to find a bit that flipped in a pack."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from mirrord.errors import ContentError, MirrordError, StorageError
from mirrord.wire.git.command import Git, Output

# What old histories hold and nobody can put right any more. Whatever else git finds wrong in an object is refused when
# it is fetched (CVE-2014-9390, CVE-2018-11235: names and modules that do harm in a checkout).
HISTORIC: Final = (
    *("badDate", "badDateOverflow", "badEmail", "badFilemode", "badName", "badTimezone", "duplicateEntries"),
    *("emptyName", "fullPathname", "missingEmail", "missingNameBeforeEmail", "missingSpaceBeforeDate"),
    *("missingSpaceBeforeEmail", "missingTaggerEntry", "multipleAuthors", "treeNotSorted", "zeroPaddedDate"),
    *("zeroPaddedFilemode", "nullSha1", "gitmodulesMissing", "gitmodulesParse"),
)
_IGNORED: Final = {f"fsck.{name}": "ignore" for name in HISTORIC}
# Exit status of git-fsck: a sum of 1 bad object, 2 missing object, 4 bad pack, 8 bad ref (and 16 commit-graph, 32
# multi-pack-index, which hold nothing of their own and go with the next repack).
_OBJECT, _MISSING, _PACK, _REF, _BEYOND = 1, 2, 4, 8, 64
_FATAL: Final = 128  # so damaged that it could not go on
# `error in commit 1234: badDate: …` tells of content, which is as upstream wrote it.
_BROKEN: Final = re.compile(r"^(?:error|fatal): .*", re.MULTILINE)


def doubtful(error: MirrordError) -> bool:
    """Whether a failure may come from damaged objects of ours: git's words do not tell ours from those of upstream."""
    return isinstance(error, ContentError | StorageError) or type(error) is MirrordError  # `failures` has no row for it


async def damage(git: Git, folder: Path) -> str:
    """Look at every object; return what is damaged or missing, in git's words, or "" when all is well.

    Takes its time: 14 s for 43 MB.

    Raises:
        MirrordError: it could not be looked at.
    """
    args = ["fsck", "--full", "--no-dangling", "--no-reflogs", "--no-progress"]
    output = await git.run(args, folder=folder, ok=(*range(_BEYOND), _FATAL), config=_IGNORED)
    return _words(output) if _damaged(output) else ""


def _damaged(output: Output) -> bool:
    if output.status & (_MISSING | _PACK | _REF) or output.status == _FATAL:
        return True
    return bool(output.status & _OBJECT and _BROKEN.search(output.err))


def _words(output: Output) -> str:
    found = _BROKEN.search(output.err)
    first = found[0] if found else output.out.decode("utf-8", "replace").partition("\n")[0]
    return " ".join(first.split())[:300] or f"git fsck ended with status {output.status}"
