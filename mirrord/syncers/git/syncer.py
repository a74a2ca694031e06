"""Assembles the Git syncer from its rooms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from mirrord.model.memory import Memory
from mirrord.model.plan import Plan
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import Backup, Mirror, Services
from mirrord.syncers.git.front import PREFIXES, respond
from mirrord.syncers.git.kept import MirrorCache
from mirrord.syncers.git.names import places, unheeded
from mirrord.syncers.git.plan.steps import plan
from mirrord.syncers.git.plan.survey import GitSurvey
from mirrord.syncers.git.spec import GitSpec, GitTarget
from mirrord.syncers.git.transfer.session import GitSession
from mirrord.syncers.git.upstream.survey import survey
from mirrord.wire.git.version import remarks, version
from mirrord.wire.host import HostBook


class GitSyncer:
    """Fulfils `Syncer`, `Restores`, `Serves` and `Remarks`."""

    kind = "git"
    prefixes = PREFIXES
    spec = GitSpec
    target_spec = GitTarget

    def places(self, mirror: Mirror) -> tuple[str, Mapping[str, str]]:
        """Return origin and targets in canonical spelling."""
        return places(mirror)

    async def survey(self, mirror: Mirror, services: Services, memory: Memory, now: datetime) -> GitSurvey:
        """Look at upstream and at every target; bring the cache up to date."""
        return await survey(mirror, services, memory, now)

    def plan(self, mirror: Mirror, survey: GitSurvey, now: datetime) -> Plan:
        """Decide about every ref at every target, or about none when upstream looks like an accident."""
        return plan(mirror, survey, now)

    @asynccontextmanager
    async def open(self, mirror: Mirror, plan: Plan, services: Services) -> AsyncIterator[GitSession]:
        """Begin a run."""
        session = GitSession(mirror, plan.decisions, services)
        yield session
        await session.finish()

    async def respond(self, request: Request, services: Services) -> Response:
        """Serve clones and single files of the mirrors with `local` among their targets."""
        return await respond(request, services)

    async def backups(self, mirror: Mirror, services: Services) -> Sequence[Backup]:
        """List what runs overwrote or deleted, the newest first, after what was brought back."""
        kept = MirrorCache(mirror, services)
        async with kept.lock:
            return await kept.backups()

    async def restore(self, mirror: Mirror, services: Services, name: str, *, release: bool) -> None:
        """Let a backup override upstream from the next run on, or with `release` no longer."""
        kept = MirrorCache(mirror, services)
        async with kept.lock:
            await (kept.release(name) if release else kept.restore(name))

    async def remarks(self, mirrors: int) -> Sequence[str]:
        """Tell when git is missing, too old, or older than its security fixes."""
        return remarks(await asyncio.to_thread(version), mirrors)

    def unheeded(self, mirror: Mirror, book: HostBook) -> Sequence[str]:
        """Tell which keys under `hosts:` git and ssh cannot heed."""
        return unheeded(mirror, book)


SYNCER = GitSyncer()
