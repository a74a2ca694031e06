"""Compares the targets of a Git mirror with what was mirrored: refs, the objects that are here, and those of LFS.

A Git host tells what its refs stand for, and no more: its objects show only when somebody clones. Its LFS server says
which objects it has, in batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from mirrord.errors import ContentError, MirrordError, MissingError
from mirrord.model.memory import LastSeen, Memory
from mirrord.model.verification import Level, VerifyFinding
from mirrord.syncer.inspection import Inspection
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.git.kept.cache import MirrorCache
from mirrord.syncers.git.names import places, spec_of, target_address
from mirrord.syncers.git.plan.survey import GitSurvey
from mirrord.syncers.git.upstream.survey import refs_held
from mirrord.transfer.fanout import deliberate, together
from mirrord.wire.git.cache.damage import damage
from mirrord.wire.git.cache.maintenance import check
from mirrord.wire.git.lfs.objects import Pointer, lacking, ordered
from mirrord.wire.git.lfs.server import MOST, LfsAnswer, LfsServer


async def expected(mirror: Mirror, services: Services, memory: Memory) -> Memory:
    """Return the refs that targets should have: the record says at which they are, and not what all of them are.

    Nothing where the copy that is here is not what runs accepted last: another replica has that one.
    """
    cache = MirrorCache(mirror, services)
    async with cache.lock:
        served = (await cache.known.read()).served
    served = served if await cache.baseline.knows(served) else None
    at = {target: seen for (target, _), seen in memory.items()}
    refs = served.refs if served else {}
    return Memory(
        {(name, ref): LastSeen(oid, seen.at, seen.place) for name, seen in at.items() for ref, oid in refs.items()}
    )


async def look(mirror: Mirror, services: Services, inspection: Inspection) -> None:
    """Compare every target with what was mirrored; see `Verifies.look`."""
    await together(*(_at_target(mirror, target, services, inspection) for target in mirror.targets))
    if inspection.level is not Level.NAMES and spec_of(mirror).lfs:
        await _look_at_lfs(mirror, services, inspection)


async def _look_at_lfs(mirror: Mirror, services: Services, inspection: Inspection) -> None:
    """Look for the LFS objects that were brought to each target; what is wrong is said of its first ref."""
    cache, refs = MirrorCache(mirror, services), {one.name: inspection.items(one.name) for one in mirror.targets}
    firsts = {name: next(iter(some)) for name, some in refs.items() if some}
    try:
        async with cache.lock:
            served = (await cache.known.read()).served
            carried = await cache.lfs.carried(served, places(mirror)[1]) if served and firsts else {}
    except MirrordError as error:
        for name, ref in firsts.items():
            inspection.untold(name, ref, error)
        return

    async def at_target(target: Target) -> None:
        name = target.name
        pointers = {one.oid: one for one in ordered(carried[name])}
        try:
            if name == LOCAL:
                lost = [one.oid for one in await asyncio.to_thread(lacking, cache.folder, [*pointers.values()])]
            else:
                server = LfsServer(cache.git, services.http, target_address(mirror, target))
                lost = [oid async for oid in _lost(server, list(pointers.values()))]
            for oid in sorted(lost):
                text = f"the LFS object {oid[:12]} is not there, or has another size"
                inspection.differs(name, firsts[name], "blob", text, f"sha256:{oid}")
        except Exception as error:  # noqa: BLE001 - a bug that one target brings out is a finding there
            inspection.untold(name, firsts[name], deliberate(error))

    await together(*(at_target(one) for one in mirror.targets if one.name in firsts and carried.get(one.name)))


async def _lost(server: LfsServer, pointers: Sequence[Pointer]) -> AsyncIterator[str]:
    """Ask for all objects, batch by batch, and yield those that a server does not have.

    Raises:
        MirrordError: it cannot be asked, or does not say.
    """
    for start in range(0, len(pointers), MOST):
        some = pointers[start : start + MOST]
        answers = await server.batch("download", some)
        for pointer in some:
            answer = answers.get(pointer.oid, LfsAnswer())
            if answer.error is not None and not isinstance(answer.error, MissingError):
                raise answer.error
            if "download" not in answer.actions:
                yield pointer.oid


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
            await cache.lfs.doubt({one.target for one in findings if one.code == "blob"})
            with suppress(ContentError):  # it is marked now, and fetched again
                await check(cache.git, cache.repository)
        found: GitSurvey = await syncer.survey(mirror, services, memory, now)
        return found

    return replace(syncer, survey=survey_again)
