"""Compares the targets of a Git mirror with what was mirrored: refs, and the objects that are here.

A Git host tells what its refs stand for, and no more: its objects show only when somebody clones.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from mirrord.errors import ContentError
from mirrord.model.memory import LastSeen, Memory
from mirrord.model.verification import Level, VerifyFinding
from mirrord.syncer.inspection import Inspection
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.git.kept.cache import MirrorCache
from mirrord.syncers.git.plan.survey import GitSurvey
from mirrord.syncers.git.upstream.survey import refs_held
from mirrord.transfer.fanout import deliberate, together
from mirrord.wire.git.cache.damage import damage
from mirrord.wire.git.cache.maintenance import check


async def expected(mirror: Mirror, services: Services, memory: Memory) -> Memory:
    """Return the refs that targets should have: the record says at which they are, and not what all of them are."""
    cache = MirrorCache(mirror, services)
    async with cache.lock:
        served = (await cache.known.read()).served
    at = {target: seen for (target, _), seen in memory.items()}
    refs = served.refs if served else {}
    return Memory(
        {(name, ref): LastSeen(oid, seen.at, seen.place) for name, seen in at.items() for ref, oid in refs.items()}
    )


async def look(mirror: Mirror, services: Services, inspection: Inspection) -> None:
    """Compare every target with what was mirrored; see `Verifies.look`."""
    await together(*(_at_target(mirror, target, services, inspection) for target in mirror.targets))


async def _at_target(mirror: Mirror, target: Target, services: Services, inspection: Inspection) -> None:
    """Look at one target; whatever fails there is a finding."""
    name, items = target.name, inspection.items(target.name)
    if name != LOCAL:
        inspection.no_further(name, Level.NAMES)
    try:
        if name == LOCAL:
            cache = MirrorCache(mirror, services)
            async with cache.lock:
                held = {**await cache.repository.refs()} if items else {}
        else:
            held = {ref: oid for ref, oid in (await refs_held(mirror, target, services, items)).items() if oid}
        for ref, seen in items.items():
            inspection.looked(name, ref)
            if ref not in held:
                inspection.differs(name, ref, "missing", f"{ref} is not there", seen.digest)
            elif held[ref] != seen.digest:
                moved = f"{ref} is {held[ref]} there, and was {seen.digest} when it was mirrored"
                inspection.differs(name, ref, "moved", moved, seen.digest)
        deeper = name == LOCAL and items and inspection.level is not Level.NAMES
        if deeper and (found := await damage(cache.git, cache.folder)):
            inspection.differs(name, next(iter(items)), "blob", f"objects are damaged or missing: {found}")
    except Exception as error:  # noqa: BLE001 - a bug that one target brings out is a finding there
        for ref in items or [""]:
            inspection.untold(name, ref, deliberate(error))


def repairing(syncer: Syncer, findings: Sequence[VerifyFinding]) -> Syncer:
    """Return the syncer for a run that repairs; see `Verifies.repairing`. Missing and moved refs any run pushes."""
    if not any(one.code == "blob" for one in findings):
        return syncer

    async def survey_again(mirror: Mirror, services: Services, memory: Memory, now: datetime) -> GitSurvey:
        cache = MirrorCache(mirror, services)
        async with cache.lock:
            with suppress(ContentError):  # it is marked now, and fetched again
                await check(cache.git, cache.repository)
        found: GitSurvey = await syncer.survey(mirror, services, memory, now)
        return found

    return replace(syncer, survey=survey_again)
