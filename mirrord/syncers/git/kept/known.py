"""The refs of a cache, and a note that answers for it while nothing changes.

The note lies in the cache's own folder, so that it cannot outlive it. It is taken away before any ref changes and
written when all have changed: after a kill -9 there is no note, and git is asked. A run that has nothing to do reads
the note, and starts no process.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from mirrord.syncers.git.kept.notes import Notes
from mirrord.wire.git.cache.bare import INCOMING
from mirrord.wire.git.cache.repair import DAMAGED
from mirrord.wire.git.cache.repository import BACKUP, HELD, GitCache
from mirrord.wire.git.refs import HEADS, TAGS, Refs, alike

_NOTE: Final = "mirrord"
_WATCHED: Final = ("HEAD", "packed-refs", "refs/heads", "refs/tags", "refs/mirrord", DAMAGED)


@dataclass(frozen=True, slots=True)
class KnownRefs:
    """The refs of a cache."""

    incoming: Mapping[str, str] = field(default_factory=dict)  # upstream's branches and tags as last fetched
    served: Refs | None = None  # what was last accepted, and its default branch; None when there is no cache
    held: Mapping[str, str] = field(default_factory=dict)  # restored refs by the name that they override
    oldest: str = ""  # when the oldest backup was made (`%Y%m%dT%H%M%SZ`), "" when there is none


Recent = dict[Path, tuple[tuple[str, str], KnownRefs]]
"""By folder: what was read of the note last, and the state of repository and note then."""


class KnownRefsNote:
    """The note of one cache; its caller holds the cache's lock."""

    def __init__(self, repository: GitCache, recent: Recent) -> None:
        """Look at nothing yet; `recent` is one for all caches of the process."""
        self._repository, self._folder, self._recent = repository, repository.folder, recent
        self._notes = Notes(repository.folder)

    async def read(self) -> KnownRefs:
        """Return the refs of the cache, from the note while it is good."""
        return await asyncio.to_thread(self._noted) or await self._ask()

    async def peek(self) -> KnownRefs | None:
        """Return the refs of the cache if the note is good; needs no lock, and starts no process."""
        return await asyncio.to_thread(self._noted)

    def recognised(self, known: KnownRefs, refs: Refs) -> KnownRefs:
        """Put `refs` in the place of states that equal them, for the next run too: comparing them is free then."""
        served = known.served
        if served is None or served.refs is refs.refs or not alike(served.refs, refs.refs):
            return known
        incoming = refs.refs if alike(known.incoming, refs.refs) else known.incoming
        served = refs if served.head == refs.head else replace(served, refs=refs.refs)
        settled = replace(known, incoming=incoming, served=served)
        stamps, recent = self._recent.get(self._folder, (None, None))
        if stamps is not None and recent is known:
            self._recent[self._folder] = (stamps, settled)
        return settled

    async def forget(self) -> None:
        """Take the note away: a ref is about to change."""
        self._recent.pop(self._folder, None)
        if await asyncio.to_thread(self._notes.read, _NOTE):
            await self._notes.write(_NOTE, {})

    async def _ask(self) -> KnownRefs:
        """Ask git, and note what it says."""
        if not await asyncio.to_thread(self._folder.exists):
            return KnownRefs()
        await self._repository.prepare()
        sealed = await asyncio.to_thread(self._seal)
        refs, head = await self._repository.refs(), await self._repository.head()
        known, facts = await asyncio.to_thread(_sorted_out, refs, head)
        await self._notes.write(_NOTE, {"seal": sealed, "head": head, "oldest": known.oldest, **facts})
        return known

    def _noted(self) -> KnownRefs | None:
        seal, noted, recent = self._seal(), _stamp(self._folder / f"{_NOTE}.json"), self._recent.get(self._folder)
        if recent is not None and recent[0] == (seal, noted):
            return recent[1]
        note = self._notes.read(_NOTE)
        try:
            if note["seal"] != seal:
                return None
            served = Refs(json.loads(note["served"]), note["head"] or None)
            known = KnownRefs(json.loads(note["incoming"]), served, json.loads(note["held"]), note["oldest"])
        except (KeyError, ValueError):
            return None
        self._recent[self._folder] = ((seal, noted), known)
        return known

    def _seal(self) -> str:
        return " ".join(_stamp(self._folder / name) for name in _WATCHED)


def state_of(folder: Path) -> str:
    """Return a word for the state of a cache's refs; most changes by hand change it too. Blocks."""
    return " ".join(_stamp(folder / name) for name in (*_WATCHED, f"{_NOTE}.json"))


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "-"
    return f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def _sorted_out(refs: Mapping[str, str], head: str) -> tuple[KnownRefs, Mapping[str, str]]:
    """Return what the refs of a cache are, and what is noted of that."""
    served = Refs({name: oid for name, oid in refs.items() if name.startswith((HEADS, TAGS))}, head)
    stamps = (name.removeprefix(BACKUP).partition("/")[0] for name in refs if name.startswith(BACKUP))
    known = KnownRefs(_below(refs, INCOMING), served, _below(refs, HELD), min(stamps, default=""))
    states = {"served": served.refs, "incoming": known.incoming, "held": known.held}
    return known, {name: json.dumps(dict(state)) for name, state in states.items()}


def _below(refs: Mapping[str, str], namespace: str) -> Mapping[str, str]:
    found = ((f"refs/{name.removeprefix(namespace)}", oid) for name, oid in refs.items() if name.startswith(namespace))
    return {name: oid for name, oid in found if name.startswith((HEADS, TAGS))}
