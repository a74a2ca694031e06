"""What is kept of one mirror between runs: its cache, and a note that answers for it while nothing changes.

The note lies in the cache's own folder, so that it cannot outlive it. It is taken away before any ref changes and
written when all have changed: after a kill -9 there is no note, and git is asked. A run that has nothing to do reads
the note, and starts no process.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from mirrord.blobs.notes import Notes
from mirrord.errors import MirrordError, StorageError, UsageError
from mirrord.files import storage_errors
from mirrord.keyedlock import KeyedLock
from mirrord.syncer.values import LOCAL, Backup, Mirror, Services
from mirrord.syncers.git.kept.fates import Fates, Lost
from mirrord.syncers.git.kept.large import LargeFiles
from mirrord.syncers.git.names import FOLDER, MARK, repository_name
from mirrord.syncers.git.plan.survey import GitSurvey, questions, strangers
from mirrord.wire.git.address import Address
from mirrord.wire.git.cache.bare import INCOMING
from mirrord.wire.git.cache.maintenance import CHECKED, check, maintain
from mirrord.wire.git.cache.repair import DAMAGED
from mirrord.wire.git.cache.repository import BACKUP, HELD, STAMP, GitCache
from mirrord.wire.git.cache.view import VIEWS
from mirrord.wire.git.command import Git
from mirrord.wire.git.refs import HEADS, TAGS, Refs, alike
from mirrord.wire.http.client import Http

_NOTE: Final = "mirrord"
_WATCHED: Final = ("HEAD", "packed-refs", "refs/heads", "refs/tags", "refs/mirrord", DAMAGED)

_programs: WeakKeyDictionary[Http, Git] = WeakKeyDictionary()
_recent: dict[Path, tuple[tuple[str, str], KnownRefs]] = {}
"""By folder: what was read of the note last, and the state of repository and note then."""
lock_of: Final = KeyedLock().hold
"""Takes the one lock of this process for a cache or a destination."""


def git_of(services: Services) -> Git:
    """Return what starts git, one for all runs with the same services."""
    found = _programs.get(services.http)
    if found is None:
        found = _programs[services.http] = Git(services.scratch / "git-home", services.http.book)
    return found


@dataclass(frozen=True, slots=True)
class KnownRefs:
    """The refs of a cache.

    Attributes:
        incoming: upstream's branches and tags as last fetched.
        served: what was last accepted, and its default branch; None when there is no cache.
        held: restored refs by the name that they override.
        oldest: when the oldest backup was made (`%Y%m%dT%H%M%SZ`), "" when there is none.
    """

    incoming: Mapping[str, str] = field(default_factory=dict)
    served: Refs | None = None
    held: Mapping[str, str] = field(default_factory=dict)
    oldest: str = ""


def cache_folder(mirror: str, services: Services) -> Path:
    """Return where the cache of a mirror is, there or not.

    Raises:
        StorageError: there is no state directory.
    """
    if services.keep is None:
        raise StorageError("a Git mirror needs a state directory for its cache; give --state")
    return services.keep / FOLDER / f"{mirror}.git"


class MirrorCache:
    """The cache of one mirror and its note. Every change of refs goes through here."""

    def __init__(self, mirror: Mirror, services: Services) -> None:
        """Look at nothing yet.

        Raises:
            StorageError: there is no state directory.
        """
        self.folder = cache_folder(mirror.name, services)
        self.git = git_of(services)
        self.cache = GitCache(self.git, self.folder)
        self.large = LargeFiles(self.git, self.folder)
        self._local = repository_name(mirror) if any(target.name == LOCAL for target in mirror.targets) else None
        self._notes = Notes(self.folder)
        self._fates = Fates(self._notes)

    @property
    def lock(self) -> AbstractAsyncContextManager[None]:
        """The turn of whoever changes refs."""
        return lock_of(str(self.folder))

    async def known(self) -> KnownRefs:
        """Return the refs of the cache, from the note while it is good."""
        return await asyncio.to_thread(self._noted) or await self._read()

    def recognised(self, known: KnownRefs, refs: Mapping[str, str]) -> KnownRefs:
        """Put `refs` in the place of states that equal them, for the next run too: comparing them is free then."""
        served = known.served
        if served is None or served.refs is refs or not alike(served.refs, refs):
            return known
        incoming = refs if alike(known.incoming, refs) else known.incoming
        settled = replace(known, incoming=incoming, served=replace(served, refs=refs))
        stamps, recent = _recent.get(self.folder, (None, None))
        if stamps is not None and recent is known:
            _recent[self.folder] = (stamps, settled)
        return settled

    async def fetch(self, source: Address, seen: Refs) -> int:
        """Bring upstream's refs, which were `seen`, into the cache, and return about how many bytes came."""
        await self.cache.prepare()
        await self._forget()
        return await self.cache.fetch(source, seen)

    async def related(self, found: GitSurvey) -> GitSurvey:
        """Add to what was found what is known here of its objects; starts no process when there is nothing to ask.

        Raises:
            MirrordError: the cache cannot be read.
        """
        asked, unknown = await asyncio.to_thread(lambda: (questions(found), strangers(found)))
        there = bool(unknown) and await asyncio.to_thread(self.folder.exists)
        if there:
            unknown = await self.cache.lacking(unknown)
        relations = await self.cache.relations(asked) if asked else found.relations
        return replace(found, relations=relations, lacking=unknown)

    async def adopt(self, wanted: Refs, backups: Mapping[Lost, str], stamp: str) -> None:
        """Serve what is wanted from now on, after `backups` are made: ref and object → what becomes of that ref."""
        await self.cache.prepare()
        await self._forget()
        await self._fates.tell(stamp, backups)
        await self.cache.adopt(wanted.refs, wanted.head, backups, stamp)
        await self._read()

    async def settle(self, stamp: str, backups: Mapping[Lost, str], gone: Mapping[Lost, str]) -> None:
        """Note what became of refs at targets, where that was only meant when it was adopted, or is in no backup."""
        await self._fates.tell(stamp, backups, gone)

    async def backups(self) -> Sequence[Backup]:
        """List what can be brought back, the newest first, after what was brought back and overrides upstream.

        What was overwritten or deleted without a backup is among them, without a name.
        """
        known = await self.known()
        if known.served is None:
            return ()
        held = [Backup(ref, ref, oid, "brought back; overrides upstream") for ref, oid in sorted(known.held.items())]
        return [*held, *await self._fates.listed(await self.cache.backups())]

    async def restore(self, name: str) -> None:
        """Let a backup override upstream's ref, from the next run on.

        Raises:
            UsageError: there is none of that name.
        """
        kept = await self.cache.backups() if await asyncio.to_thread(self.folder.exists) else ()
        found = next((one for one in kept if one.name == name), None)
        if found is None:
            raise UsageError(f"{name[:200]} is no backup of this mirror; `mirrord restore` without it lists them")
        await self._forget()
        await self.cache.hold(found.ref, found.oid)

    async def release(self, ref: str) -> None:
        """Let upstream decide about a ref again, from the next run on.

        Raises:
            UsageError: it was not brought back.
        """
        if ref not in (await self.known()).held:
            raise UsageError(f"{ref[:200]} was not brought back; `mirrord restore` lists what was, as full names")
        await self._forget()
        await self.cache.release(ref)

    async def care(self, now: datetime, backups: float, *, suspect: bool) -> None:
        """Serve it under its name when `local` is a target, forget old backups, pack, and check once a month.

        Costs no process while nothing is due.

        Args:
            now: of the pass.
            backups: seconds for which they are kept.
            suspect: something that was pushed looked damaged.

        Raises:
            ContentError: objects are damaged; the next run begins the cache anew.
            MirrordError: git or the disk said no.
        """
        if not await asyncio.to_thread(self._tidied, now):
            return
        edge = now - timedelta(seconds=backups)
        known = await self.known()
        expired = bool(known.oldest) and known.oldest < edge.strftime(STAMP)
        if expired:
            await self._forget()
            await self.cache.expire(edge)
            await self._fates.forget(edge.strftime(STAMP))
        try:
            if suspect:
                await check(self.git, self.cache)
            if await maintain(self.git, self.cache, now) or expired:
                await self.known()
        except MirrordError:
            await self._forget()
            raise

    def _tidied(self, now: datetime) -> bool:
        """Put the cache's folder in order, and return whether there is one.

        The name under which the front serves it is left there, and when it was new: every object was looked at by then.
        What a crash cuts short is put right by the next run.
        """
        if not self.folder.exists():
            return False
        shutil.rmtree(self.folder / VIEWS, ignore_errors=True)
        mark, checked = self.folder / MARK, self.folder / CHECKED
        with storage_errors(str(mark)):
            if self._local is None:
                mark.unlink(missing_ok=True)
            elif not mark.is_file() or mark.read_text() != self._local:
                mark.write_text(self._local)
            if not checked.exists():
                checked.write_text(f"{now:%Y-%m}")
        return True

    async def _forget(self) -> None:
        _recent.pop(self.folder, None)
        if await asyncio.to_thread(self._notes.read, _NOTE):
            await self._notes.write(_NOTE, {})

    async def _read(self) -> KnownRefs:
        """Ask git, and note what it says."""
        if not await asyncio.to_thread(self.folder.exists):
            return KnownRefs()
        await self.cache.prepare()
        sealed = await asyncio.to_thread(self._seal)
        refs, head = await self.cache.refs(), await self.cache.head()
        served = Refs({name: oid for name, oid in refs.items() if name.startswith((HEADS, TAGS))}, head)
        stamps = (name.removeprefix(BACKUP).partition("/")[0] for name in refs if name.startswith(BACKUP))
        oldest = min(stamps, default="")
        known = KnownRefs(_below(refs, INCOMING), served, _below(refs, HELD), oldest)
        facts = {"seal": sealed, "head": head, "oldest": oldest, "served": _written(served.refs)}
        await self._notes.write(_NOTE, {**facts, "incoming": _written(known.incoming), "held": _written(known.held)})
        return known

    def _noted(self) -> KnownRefs | None:
        seal, noted, recent = self._seal(), _stamp(self.folder / f"{_NOTE}.json"), _recent.get(self.folder)
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
        _recent[self.folder] = ((seal, noted), known)
        return known

    def _seal(self) -> str:
        return " ".join(_stamp(self.folder / name) for name in _WATCHED)


def state_of(folder: Path) -> str:
    """Tell the state of the refs of a cache; what somebody did to them by hand is seen too, mostly. Blocks."""
    return " ".join(_stamp(folder / name) for name in (*_WATCHED, f"{_NOTE}.json"))


def _stamp(path: Path) -> str:
    """Tell the state of a file."""
    try:
        found = path.stat()
    except OSError:
        return "-"
    return f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def _below(refs: Mapping[str, str], namespace: str) -> Mapping[str, str]:
    found = ((f"refs/{name.removeprefix(namespace)}", oid) for name, oid in refs.items() if name.startswith(namespace))
    return {name: oid for name, oid in found if name.startswith((HEADS, TAGS))}


def _written(refs: Mapping[str, str]) -> str:
    return json.dumps(dict(refs))
