"""One look at upstream and one at each target; the cache is brought up to date when upstream changed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from mirrord.errors import BrokenError, MirrordError, MissingError, UnreachableError, UnsupportedError
from mirrord.model.memory import Memory
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.git.kept.cache import MirrorCache
from mirrord.syncers.git.kept.known import KnownRefs
from mirrord.syncers.git.kept.runtime import git_of
from mirrord.syncers.git.names import places, source_address, spec_of, target_address
from mirrord.syncers.git.plan.guard import guard
from mirrord.syncers.git.plan.survey import GitSurvey, choose
from mirrord.transfer.fanout import together
from mirrord.wire.git.address import Address
from mirrord.wire.git.lsrefs import ls_refs
from mirrord.wire.git.refs import Refs, alike, valid_ref
from mirrord.wire.offload import offload

PATIENCE = 60.0  # seconds for one look at a target; a dead one must not hold up the others
_SHA1 = 40


@dataclass(frozen=True, slots=True)
class _Look:
    held: Refs | None = None
    error: str = ""


async def survey(mirror: Mirror, services: Services, memory: Memory, now: datetime) -> GitSurvey:
    """Find out what upstream and the targets have; nothing that is served or at a target changes.

    Costs one request at upstream and one at each target while nothing changes, and starts no process then.

    Raises:
        MissingError: upstream is gone; what was mirrored stays.
        MirrordError: upstream cannot be read.
    """
    cache = MirrorCache(mirror, services)
    looks: dict[str, _Look] = {}
    source = _Source(mirror, services, cache)

    async def look(target: Target) -> None:
        looks[target.name] = await _look(mirror, target, services)

    async with cache.lock:
        await together(source.read(), *(look(target) for target in mirror.targets if target.name != LOCAL))
    upstream, restored = source.refs, source.known.held
    found = GitSurvey(
        upstream=upstream,
        choice=await offload(upstream.size, choose, spec_of(mirror).refs, upstream, restored),
        served=source.known.served,
        targets={name: one.held for name, one in looks.items() if not one.error},
        held_back=restored,
        unasked={name: one.error for name, one in looks.items() if one.error},
        first=source.known.served is None or not source.known.served.refs,
        known=frozenset(name for name, _ in memory),
        at=now,
        read=source.bytes,
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


@dataclass(slots=True)
class _Source:
    """Upstream, and a cache that has what upstream says.

    Attributes:
        refs: what upstream has.
        known: what the cache has.
        bytes: about how much had to be fetched for that.
    """

    mirror: Mirror
    services: Services
    cache: MirrorCache
    refs: Refs = field(default_factory=lambda: Refs({}))
    known: KnownRefs = field(default_factory=KnownRefs)
    bytes: int = 0

    async def read(self) -> None:
        """Ask, and fetch what the cache lacks."""
        source = source_address(self.mirror)
        self.refs = await _ask(source, self.services)
        self.known = await self.cache.known.read()
        if self._behind():
            self.bytes = await self.cache.fetch(source, self.refs)
            self.known = await self.cache.known.read()
        if self._behind():
            self.refs = await _ask(source, self.services)  # it moved between the look and the fetch
        if self._behind():
            raise BrokenError(f"{source} changes while it is fetched; the next run tries again")
        self.known = self.cache.known.recognised(self.known, self.refs.refs)

    def _behind(self) -> bool:
        """Compare with what git fetches: a name that it does not accept stays away, and the plan says so."""
        if alike(self.known.incoming, self.refs.refs):
            return False
        return self.known.incoming != {name: oid for name, oid in self.refs.refs.items() if valid_ref(name)}


async def _ask(source: Address, services: Services) -> Refs:
    try:
        refs = await ls_refs(git_of(services), services.http, source)
    except MissingError as error:
        message = f"blocked: upstream is gone, or may not be seen: {error}; what was mirrored stays as it is"
        raise MissingError(message, error.status) from error
    if len(next(iter(refs.refs.values()), "")) not in (0, _SHA1):  # a repository has one kind of ids
        raise UnsupportedError(f"{source} is a SHA-256 repository; it cannot be mirrored to SHA-1 repositories")
    return refs


async def _look(mirror: Mirror, target: Target, services: Services) -> _Look:
    address = target_address(mirror, target)
    try:
        async with asyncio.timeout(PATIENCE):
            return _Look(await ls_refs(git_of(services), services.http, address))
    except MissingError:
        return _Look()
    except TimeoutError:
        return _Look(error=f"no answer within {PATIENCE:.0f} s")
    except MirrordError as error:
        return _Look(error=str(error))


async def refs_held(
    mirror: Mirror, target: Target, services: Services, names: Collection[str]
) -> Mapping[str, str | None]:
    """Return what refs stand for at a target.

    Raises:
        MirrordError: it cannot be asked.
    """
    if target.name == LOCAL:
        cache = MirrorCache(mirror, services)
        async with cache.lock:
            held = (await cache.known.read()).served
    else:
        look = await _look(mirror, target, services)
        if look.error:
            raise UnreachableError(look.error)
        held = look.held
    return {name: held.refs.get(name) if held else None for name in names}
