"""One look at upstream and one at each target; the cache is brought up to date when upstream changed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime

from mirrord.errors import BrokenError, MirrordError, MissingError, ThrottledError, UnreachableError, UnsupportedError
from mirrord.model.memory import Memory
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.git.kept.cache import MirrorCache, git_of
from mirrord.syncers.git.kept.known import KnownRefs
from mirrord.syncers.git.names import places, source_address, spec_of, target_address
from mirrord.syncers.git.plan.accident import guard
from mirrord.syncers.git.plan.survey import GitSurvey, choose
from mirrord.transfer.fanout import together
from mirrord.wire.git.address import Address
from mirrord.wire.git.lsrefs import ls_refs
from mirrord.wire.git.refs import Refs, alike, valid_ref
from mirrord.wire.offload import offload

PATIENCE = 60.0  # seconds for one look at a target; a dead one must not hold up the others
_SHA1 = 40


async def survey(mirror: Mirror, services: Services, memory: Memory, now: datetime) -> GitSurvey:
    """Find out what upstream and the targets have; nothing that is served or at a target changes.

    Costs one request at upstream and one at each target while nothing changes, and starts no process then.

    Raises:
        MissingError: upstream is gone; what was mirrored stays.
        MirrordError: upstream cannot be read.
    """
    cache = MirrorCache(mirror, services)
    upstream, known, count = Refs({}), KnownRefs(), 0
    targets, unasked, throttled = dict[str, Refs | None](), dict[str, str](), set[str]()

    async def read() -> None:
        nonlocal upstream, known, count
        upstream, known, count = await _up_to_date(mirror, services, cache)

    async def look(target: Target) -> None:
        try:
            targets[target.name] = await _held(mirror, target, services)
        except MirrordError as error:
            unasked[target.name] = str(error)
            if isinstance(error, ThrottledError):
                throttled.add(target.name)

    async with cache.lock:
        await together(read(), *(look(target) for target in mirror.targets if target.name != LOCAL))
    found = GitSurvey(
        upstream=upstream,
        choice=await offload(upstream.size, choose, spec_of(mirror).refs, upstream, known.held),
        served=known.served,
        targets=targets,
        held_back=known.held,
        unasked=unasked,
        throttled=throttled,
        blind=not mirror.allow and not await cache.baseline.knows(known.served),
        known=frozenset(name for name, _ in memory),
        at=now,
        read=count,
    )
    found = await cache.related(found)
    found = replace(found, accident=await offload(upstream.size, guard, mirror, found))
    return await _with_lfs(mirror, found, cache)


async def _with_lfs(mirror: Mirror, found: GitSurvey, cache: MirrorCache) -> GitSurvey:
    """Add what each target may lack of LFS objects; a history that a guard refuses is not searched."""
    if not spec_of(mirror).lfs or found.accident:
        return found
    empty = [name for name, held in found.targets.items() if held is None or not held.refs]
    try:
        async with cache.lock:
            return replace(found, lfs=await cache.lfs.owed(found.wanted, places(mirror)[1], empty))
    except MirrordError as error:
        return replace(found, unsearched=error)


async def _up_to_date(mirror: Mirror, services: Services, cache: MirrorCache) -> tuple[Refs, KnownRefs, int]:
    """Return what upstream has, what a cache has that was brought up to that, and about how many bytes came."""
    source, count = source_address(mirror), 0
    known = await cache.known.read()
    refs = await _ask(source, services, first=known.served is None)
    if await _behind(known, refs):
        count = await cache.fetch(source, refs)
        known = await cache.known.read()
    if await _behind(known, refs):
        refs = await _ask(source, services)  # it moved between the look and the fetch
    if await _behind(known, refs):
        raise BrokenError(f"{source} changes while it is fetched; the next run tries again")
    return refs, await offload(refs.size, cache.known.recognised, known, refs), count


async def _behind(known: KnownRefs, upstream: Refs) -> bool:
    """Compare with what git fetches: a name that it does not accept stays away, and the plan says so."""

    def differs() -> bool:
        if alike(known.incoming, upstream.refs):
            return False
        return known.incoming != {name: oid for name, oid in upstream.refs.items() if valid_ref(name)}

    return await offload(upstream.size, differs)


async def _ask(source: Address, services: Services, *, first: bool = False) -> Refs:
    try:
        refs = await ls_refs(git_of(services), services.http, source)
    except MissingError as error:
        if first:
            why = "there is no such repository, or it may not be read with these credentials"
            raise MissingError(f"{error}; {why}", error.status) from error
        message = f"upstream is gone, or may not be seen: {error}; what was mirrored stays as it is"
        raise MissingError(message, error.status) from error
    if len(next(iter(refs.refs.values()), "")) not in (0, _SHA1):  # a repository has one kind of ids
        raise UnsupportedError(f"{source} is a SHA-256 repository; mirrord mirrors SHA-1 repositories only")
    return refs


async def _held(mirror: Mirror, target: Target, services: Services) -> Refs | None:
    try:
        async with asyncio.timeout(PATIENCE):
            return await ls_refs(git_of(services), services.http, target_address(mirror, target))
    except MissingError:
        return None
    except TimeoutError as error:
        raise UnreachableError(f"no answer within {PATIENCE:.0f} s") from error


async def refs_held(
    mirror: Mirror, target: Target, services: Services, names: Collection[str]
) -> Mapping[str, str | None]:
    """Return what refs stand for at a target. Raises MirrordError: it cannot be asked."""
    if target.name == LOCAL:
        cache = MirrorCache(mirror, services)
        async with cache.lock:
            held = (await cache.known.read()).served
    else:
        held = await _held(mirror, target, services)
    return {name: held.refs.get(name) if held else None for name in names}
