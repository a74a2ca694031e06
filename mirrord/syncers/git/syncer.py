"""Assembles the Git syncer from its rooms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mirrord.model.memory import Memory
from mirrord.model.plan import Plan
from mirrord.syncer.port import Syncer, Verifies
from mirrord.syncer.restoring import Restores
from mirrord.syncer.values import Backup, Mirror, Services
from mirrord.syncers.git import front
from mirrord.syncers.git.kept.cache import MirrorCache
from mirrord.syncers.git.names import address, hosts, ignored_keys, places
from mirrord.syncers.git.plan.steps import EVERYTHING, plan
from mirrord.syncers.git.plan.uses import link, uses
from mirrord.syncers.git.spec import GitSpec, GitTarget
from mirrord.syncers.git.transfer.session import GitSession
from mirrord.syncers.git.upstream.survey import refs_held, survey
from mirrord.wire.git.version import remarks, version

if TYPE_CHECKING:
    from mirrord.model.verification import VerifyFinding
    from mirrord.syncer.inspection import Inspection


@asynccontextmanager
async def _open(mirror: Mirror, plan: Plan, services: Services) -> AsyncIterator[GitSession]:
    session = GitSession(mirror, plan.decisions, services)
    yield session
    await session.finish()


async def _backups(mirror: Mirror, services: Services) -> Sequence[Backup]:
    """List what runs overwrote or deleted, the newest first, after what was brought back."""
    cache = MirrorCache(mirror, services)
    async with cache.lock:
        return await cache.backups()


async def _restore(mirror: Mirror, services: Services, names: Sequence[str], *, release: bool) -> None:
    """Let backups override upstream from the next run on, or with `release` no longer."""
    cache = MirrorCache(mirror, services)
    async with cache.lock:
        await (cache.release(names) if release else cache.restore(names))


def _called(mirror: Mirror) -> Callable[[str], tuple[str, Mapping[str, str]]]:
    """Name the repository, for all its refs together: the record has no line for each ref. See `Syncer.called`."""
    origin, at = places(mirror)
    return lambda item: (origin, at if item == EVERYTHING else {})


async def _items(mirror: Mirror, services: Services) -> Mapping[str, str] | None:
    """Return the refs that the mirror serves; the record has only some of them. See `Syncer.items`."""
    known = await MirrorCache(mirror, services).known.peek()
    return known.served.refs if known and known.served else None


async def _expected(mirror: Mirror, services: Services, memory: Memory) -> Memory:
    """Return the refs that targets should have; see `Verifies.expected`."""
    from mirrord.syncers.git.upstream.compared import expected  # noqa: PLC0415 - only a verification needs it

    return await expected(mirror, services, memory)


async def _look(mirror: Mirror, services: Services, inspection: Inspection) -> None:
    """Compare the targets with what was mirrored; see `Verifies.look`."""
    from mirrord.syncers.git.upstream.compared import look  # noqa: PLC0415 - as above

    await look(mirror, services, inspection)


def _repairing(syncer: Syncer, findings: Sequence[VerifyFinding]) -> Syncer:
    """Return the syncer for a run that repairs; see `Verifies.repairing`."""
    from mirrord.syncers.git.upstream.compared import repairing  # noqa: PLC0415 - as above

    return repairing(syncer, findings)


async def _remarks(mirrors: int) -> Sequence[tuple[str, str]]:
    """Report a git that is missing, too old, or older than its security fixes."""
    return remarks(await asyncio.to_thread(version), mirrors)


SYNCER = Syncer(
    "git",
    lambda: (GitSpec, GitTarget),
    places,
    survey,
    plan,
    _open,
    restores=Restores(_backups, _restore),
    remarks=_remarks,
    called=_called,
    ignored_keys=ignored_keys,
    sample={"from": "https://git.example/team/code.git"},
    hosts=hosts,
    front=front,
    address=address,
    held=refs_held,
    verifies=Verifies(_look, _repairing, _expected),
    uses=uses,
    link=link,
    items=_items,
    example="refs/heads/main",
)
