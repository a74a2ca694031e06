"""What a client asks for, and whether branches and tags hold it: git itself gives any object to who knows its id.

Hiding refs hides names. In protocol v2 every object that exists is sent when it is wanted by its id, and in older ones
every object that is no commit (gitnamespaces(7), "Security"); so requests are looked at before git sees them. Parents
of a commit that a client calls shallow are sent when it wants its whole history, hence those count as wanted, too.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from mirrord.errors import TooLargeError
from mirrord.wire.git.cache.bare import Bare, batch_check
from mirrord.wire.git.command import Git
from mirrord.wire.git.pktline import lines
from mirrord.wire.git.refs import HEADS, TAGS, valid_oid

_FINITE: Final = re.compile(rb"deepen [0-9]{1,9}")  # the depth that stands for "all" has ten digits
_OBJECTS: Final = ("rev-list", "--objects", "--no-object-names")
_NAMED: Final = ("--branches", "--tags")


def wanted(body: bytes) -> frozenset[str]:
    """Return the ids that a request to `git-upload-pack` asks for, in any version of the protocol, as they came.

    What comes before its first flush names objects (gitprotocol-v2, gitprotocol-pack). Raises ContentError: that are no
    packet lines.
    """
    packets = list(lines(body))
    everything = any(line.startswith(b"deepen ") and not _FINITE.fullmatch(line) for line in packets)
    verbs = (b"want ", b"oid ", *((b"shallow ",) if everything else ()))  # `oid`: the size of an object (object-info)
    named = (line.partition(b" ")[2].partition(b" ")[0] for line in packets if line.startswith(verbs))
    return frozenset(oid.decode("ascii", "replace") for oid in named)


async def untold(git: Git, folder: Path, oids: Collection[str]) -> frozenset[str]:
    """Return the ids that are no tips of branches or tags (public). One process or none; raises MirrordError."""
    asked = frozenset(oids)
    return asked.difference((await Bare(git, folder).refs(HEADS, TAGS)).values()) if asked else asked


async def withheld(git: Git, folder: Path, oids: Collection[str]) -> str | None:
    """Return one of the ids that no branch or tag of a repository reaches, or None when all are reached.

    Commits and tags cost a walk over what is newer than they are; files and folders, which partial clones ask for, a
    bitmap, or where there is none a walk over the branches as they are, and at last over all.

    Raises:
        TooLargeError: there are too many objects to be looked at.
        MirrordError: the repository cannot be read.
    """
    suspects = frozenset(oids)
    if not suspects:
        return None
    odd = min((oid for oid in suspects if not valid_oid(oid)), default=None)
    if odd is not None:
        return odd
    stdin = "".join(f"{oid}\n" for oid in sorted(suspects)).encode()
    kinds = dict(zip(sorted(suspects), await batch_check(git, folder, sorted(suspects), "objecttype"), strict=True))
    absent = next((oid for oid, kind in kinds.items() if kind not in {"commit", "tag", "tree", "blob"}), None)
    if absent is not None:
        return absent
    try:
        args = [*_OBJECTS, "--use-bitmap-index", "--stdin", "--not", *_NAMED]
        found = await git.run(args, folder=folder, stdin=stdin)
    except TooLargeError:
        return min(suspects)  # a history of its own
    suspects &= frozenset(found.out.decode().split())
    bitmaps = (folder / "objects" / "pack").glob("*.bitmap")
    if not any(kinds[oid] in {"commit", "tag"} for oid in suspects) and not await asyncio.to_thread(any, bitmaps):
        # Without a bitmap git only leaves out the objects of commits that it has met.
        for args in (["--no-walk=unsorted", "--branches"], list(_NAMED)):
            if suspects:
                suspects -= set((await git.run([*_OBJECTS, *args], folder=folder)).out.decode().split())
    return min(suspects, default=None)
