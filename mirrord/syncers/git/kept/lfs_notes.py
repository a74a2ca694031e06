"""What is known of a mirror's LFS objects between runs: which history was searched, and who may lack what of it.

Refs alone do not tell whether a copy is whole: objects come and go beside them. So a note says of each target (and of
the cache, under `local`) which objects are not known to be there. These are work to do at every run until they are.
The note lies in the cache's own folder; without it all is looked at once more, which costs questions and no transfers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirrord.syncer.values import LOCAL
from mirrord.syncers.git.kept.notes import Notes
from mirrord.wire.git.command import Git
from mirrord.wire.git.lfs.objects import Pointer, lacking, ordered, valid
from mirrord.wire.git.lfs.pointers import in_use, search
from mirrord.wire.git.refs import Refs
from mirrord.wire.number import whole
from mirrord.wire.offload import offload

_NOTE: Final = "mirrord-lfs"
_OWED: Final = "owed "

Owed = Mapping[str, frozenset[Pointer]]
"""By target: pointers to objects that are not known to be there."""


@dataclass(frozen=True, slots=True)
class LfsNotes:
    """The LFS objects of one cache; its caller holds the cache's lock."""

    git: Git
    folder: Path

    async def owed(self, refs: Refs, places: Mapping[str, str], empty: Collection[str] = ()) -> Owed:
        """Return what each target may lack of the objects in the history of `refs`; remembers it.

        Costs no process while nothing changes. All of `refs` is in the cache; a target that moved to another of the
        `places` is a new one; targets that are `empty` have nothing, whatever they once had.

        Raises:
            UnsupportedError: the history is too large to be searched.
            MirrordError: the cache cannot be read, or the note not be written.
        """
        if not refs.refs:
            return {}
        note = await asyncio.to_thread(Notes(self.folder).read, _NOTE)
        known = await asyncio.to_thread(_known, note, {name: at for name, at in places.items() if name not in empty})
        fingerprint = await offload(refs.size, lambda: refs.fingerprint)
        if note.get("print") == fingerprint and known.keys() == places.keys():
            return await self._here(known)
        tips, before = refs.objects, frozenset(note.get("tips", "").split())
        new = await search(self.git, self.folder, tips - before, before) if tips - before else frozenset()
        uses, seen = bool(note.get("uses")), bool(note.get("seen") or new)
        if seen and not uses:
            uses = await in_use(self.git, self.folder, tips, before if note.get("seen") else ())
            known = {} if uses else known  # pointers that did not count until now
        found = {name: one | new if uses else frozenset[Pointer]() for name, one in known.items()}
        if uses and (known.keys() != places.keys() or (any(known.values()) and before - tips)):
            everything = await search(self.git, self.folder, tips) if before else new
            found = {name: found.get(name, everything) & everything for name in places}
        owed = await self._here({name: found.get(name, frozenset()) for name in places})
        facts = {"print": fingerprint, "tips": "\n".join(sorted(tips)), "seen": "yes" if seen else ""}
        facts |= await asyncio.to_thread(_written, owed, places)
        await Notes(self.folder).write(_NOTE, {**facts, "uses": "yes" if uses else ""})
        return owed

    async def settle(self, owed: Owed, places: Mapping[str, str], doubted: Collection[str] = ()) -> None:
        """Remember what each target may lack now; `doubted` targets are checked in full again. Raises StorageError."""
        notes = Notes(self.folder)
        note = await asyncio.to_thread(notes.read, _NOTE)
        kept = {key: value for key, value in note.items() if not key.startswith(_OWED)}
        sure = {name: one for name, one in owed.items() if name not in doubted}
        await notes.write(_NOTE, {**kept, **await asyncio.to_thread(_written, sure, places)})

    async def carried(self, refs: Refs, places: Mapping[str, str]) -> Owed:
        """Return what each target should have of the history of `refs`, as far as it is known what it may lack.

        Costs no process where a repository has no LFS objects. Raises as `owed`.
        """
        note = await asyncio.to_thread(Notes(self.folder).read, _NOTE)
        known = await asyncio.to_thread(_known, note, places)
        if not note.get("uses") or not known:
            return {}
        everything = await search(self.git, self.folder, refs.objects)
        return {name: everything - lacks for name, lacks in known.items()}

    async def doubt(self, targets: Collection[str]) -> None:
        """Let the next run check these targets in full. Raises StorageError."""
        notes = Notes(self.folder)
        note = await asyncio.to_thread(notes.read, _NOTE)
        gone = {f"{_OWED}{name}" for name in targets}
        await notes.write(_NOTE, {key: value for key, value in note.items() if key not in gone})

    async def _here(self, owed: Owed) -> Owed:
        """Leave out what the cache turns out to have."""
        if not owed.get(LOCAL):
            return owed
        return {**owed, LOCAL: await asyncio.to_thread(lacking, self.folder, owed[LOCAL])}


def _known(note: Mapping[str, str], places: Mapping[str, str]) -> Owed:
    """Return what the note says of those targets that are where it says."""
    found = {name: _read(note.get(f"{_OWED}{name}", ""), place) for name, place in places.items()}
    return {name: pointers for name, pointers in found.items() if pointers is not None}


def _written(owed: Owed, places: Mapping[str, str]) -> Mapping[str, str]:
    lines = {name: [f"{one.oid} {one.size} {one.blob}" for one in ordered(pointers)] for name, pointers in owed.items()}
    return {f"{_OWED}{name}": "\n".join([places[name], *found]) for name, found in lines.items()}


def _read(text: str, place: str) -> frozenset[Pointer] | None:
    """Read what a target at `place` may lack; None when nothing is known of it."""
    where, *lines = text.split("\n")
    if where != place:
        return None
    found = []
    for line in lines:
        oid, _, rest = line.partition(" ")
        size, blob = whole(rest.partition(" ")[0]), rest.partition(" ")[2]
        if not valid(oid) or size is None:
            return None
        found.append(Pointer(oid, size, blob))
    return frozenset(found)
