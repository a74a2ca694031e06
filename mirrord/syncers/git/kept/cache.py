"""What is kept of one mirror between runs: its repository, and notes beside it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from weakref import WeakKeyDictionary

from mirrord.errors import MirrordError, StorageError, UsageError
from mirrord.files import storage_errors
from mirrord.keyedlock import KeyedLock
from mirrord.plan.select import meant
from mirrord.syncer.values import LOCAL, Backup, Mirror, Services
from mirrord.syncers.git.kept.baseline import Baseline
from mirrord.syncers.git.kept.known import KnownRefsNote, Recent
from mirrord.syncers.git.kept.lfs_notes import LfsNotes
from mirrord.syncers.git.kept.notes import BackupNotes, Lost, Notes
from mirrord.syncers.git.names import FOLDER, MARK, repository_name
from mirrord.syncers.git.plan.survey import GitSurvey, questions, strangers
from mirrord.wire.git.address import Address
from mirrord.wire.git.cache.maintenance import CHECKED, check, maintain
from mirrord.wire.git.cache.repository import STAMP, BackupRef, GitCache
from mirrord.wire.git.command import Git
from mirrord.wire.git.refs import Refs
from mirrord.wire.http.client import Http
from mirrord.wire.offload import offload


class GitRuntime:
    """What all Git mirrors of one process share; it lasts as long as the services do, whatever is reloaded."""

    def __init__(self, _services: Services) -> None:
        """Share nothing yet."""
        self.locks = KeyedLock()  # for each cache and each destination
        self.recent = Recent()  # what was read of notes last
        self.gits = WeakKeyDictionary[Http, Git]()  # by the rules of one configuration, the same for all runs with it


def git_of(services: Services) -> Git:
    """Return what starts git for runs with these services."""
    gits = services.once(GitRuntime).gits
    found = gits.get(services.http)
    if found is None:
        found = gits[services.http] = Git(services.scratch / "git-home", services.http.book)
    return found


_VIEWS: Final = "mirrord-views"  # where older versions pushed over ssh from, as a crash left it


class MirrorCache:
    """The cache of one mirror and its note. Every change of refs goes through here."""

    def __init__(self, mirror: Mirror, services: Services) -> None:
        """Look at nothing yet. Raises StorageError: there is no state directory."""
        if services.keep is None:
            raise StorageError("a Git mirror needs a state directory for its cache; give --state")
        self.folder = services.keep / FOLDER / f"{mirror.name}.git"
        self.git = git_of(services)
        self.repository = GitCache(self.git, self.folder)
        self.lfs = LfsNotes(self.git, self.folder)
        self._local = repository_name(mirror) if any(target.name == LOCAL for target in mirror.targets) else None
        runtime = services.once(GitRuntime)
        self.locks = runtime.locks
        self.known = KnownRefsNote(self.repository, runtime.recent)
        self.backup_notes = BackupNotes(Notes(self.folder))
        self.baseline = Baseline(mirror, services)

    @property
    def lock(self) -> AbstractAsyncContextManager[None]:
        """Held while refs are changed."""
        return self.locks.hold(self.folder)

    @property
    def pushing(self) -> AbstractAsyncContextManager[None]:
        """Held while refs are pushed from here."""
        return self.locks.hold((self.folder, "pushing"))

    async def fetch(self, source: Address, seen: Refs) -> int:
        """Bring upstream's refs, which were `seen`, into the cache, and return about how many bytes came."""
        await self.repository.prepare()
        await self.known.forget()
        return await self.repository.fetch(source, seen)

    async def related(self, found: GitSurvey) -> GitSurvey:
        """Add what is known here of what was found; starts no process when nothing is asked. Raises MirrordError."""
        asked, unknown = await offload(found.upstream.size, lambda: (questions(found), strangers(found)))
        there = bool(unknown) and await asyncio.to_thread(self.folder.exists)
        if there:
            unknown = await self.repository.lacking(unknown)
        relations = await self.repository.relations(asked) if asked else found.relations
        return replace(found, relations=relations, lacking=unknown)

    async def adopt(self, wanted: Refs, backups: Mapping[Lost, str], stamp: str) -> None:
        """Serve what is wanted from now on, after `backups` are made: ref and object → what becomes of that ref."""
        await self.repository.prepare()
        await self.known.forget()
        await self.backup_notes.add(stamp, backups)
        await self.repository.adopt(wanted.refs, wanted.head, backups, stamp)
        await self.known.read()

    async def backups(self) -> Sequence[Backup]:
        """List what can be brought back, the newest first, after what was brought back and overrides upstream.

        What was overwritten or deleted without a backup is among them, without a name.
        """
        known = await self.known.read()
        if known.served is None:
            return ()
        held = [Backup(ref, ref, oid, "brought back; overrides upstream") for ref, oid in sorted(known.held.items())]
        return [*held, *await self.backup_notes.listed(await self.repository.backups())]

    async def restore(self, names: Sequence[str]) -> None:
        """Let backups override upstream's refs, from the next run on: all of them, or none.

        Args:
            names: of backups, or globs of them.

        Raises:
            UsageError: there is none of a name, or two are of one ref.
        """
        backups = await self.repository.backups() if await asyncio.to_thread(self.folder.exists) else ()
        every = {one.name: one for one in backups}
        chosen: dict[str, BackupRef] = {}
        for name in meant(names, every, "is no backup of this mirror; `mirrord restore NAME` lists them"):
            first = chosen.setdefault(every[name].ref, every[name])
            if first.name != name:
                raise UsageError(f"{first.name} and {name} are backups of one ref; restore one of them")
        await self.known.forget()
        await self.repository.hold({ref: one.oid for ref, one in chosen.items()})

    async def release(self, refs: Sequence[str]) -> None:
        """Let upstream decide about refs again, from the next run on: about all of them, or none.

        Args:
            refs: full names, or globs of them.

        Raises:
            UsageError: one was not brought back.
        """
        held = (await self.known.read()).held
        released = meant(refs, held, "was not brought back; `mirrord restore NAME` lists what was")
        await self.known.forget()
        await self.repository.release(released)

    async def care(self, now: datetime, backups: float, *, suspect: bool) -> None:
        """Serve it under its name when `local` is a target, forget old backups, pack, and check once a month.

        Costs no process while nothing is due. Backups are kept for so many seconds; `suspect`: something that was
        pushed looked damaged.

        Raises:
            ContentError: objects are damaged; the next run builds a new cache.
            MirrordError: git or the disk said no.
        """
        if not await asyncio.to_thread(self._tidied, now):
            return
        edge = now - timedelta(seconds=backups)
        known = await self.known.read()
        expired = bool(known.oldest) and known.oldest < edge.strftime(STAMP)
        if expired:
            await self.known.forget()
            await self.repository.expire(edge)
            await self.backup_notes.forget(edge.strftime(STAMP))
        try:
            if suspect:
                await check(self.git, self.repository)
            if await maintain(self.git, self.repository, now) or expired:
                await self.known.read()
        except MirrordError:
            await self.known.forget()
            raise

    def _tidied(self, now: datetime) -> bool:
        """Put the cache's folder in order, and return whether there is one.

        The name under which the front serves it is left there, and when it was new: every object was looked at by then.
        What a crash cuts short is put right by the next run.
        """
        if not self.folder.exists():
            return False
        shutil.rmtree(self.folder / _VIEWS, ignore_errors=True)
        mark, checked = self.folder / MARK, self.folder / CHECKED
        with storage_errors(str(mark)):
            if self._local is None:
                mark.unlink(missing_ok=True)
            elif not mark.is_file() or mark.read_text() != self._local:
                mark.write_text(self._local)
            if not checked.exists():
                checked.write_text(f"{now:%Y-%m}")
        return True
