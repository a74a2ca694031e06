"""Fetches what only a target has and a run will overwrite or delete there, so that a backup of it can be kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from mirrord.errors import BusyError, ContentError, DeadlineError, GuardError, MirrordError, TooLargeError
from mirrord.model.plan import Action
from mirrord.model.run import Outcome, Receipt
from mirrord.syncers.git.kept.cache import MirrorCache
from mirrord.syncers.git.kept.notes import Lost
from mirrord.syncers.git.plan.lost_objects import LostObject
from mirrord.wire.git.address import Address
from mirrord.wire.git.cache.bare import sizes
from mirrord.wire.git.changes import Change
from mirrord.wire.git.lfs.carry import Errors, download
from mirrord.wire.git.lfs.objects import Pointer, lacking
from mirrord.wire.git.lfs.pointers import in_use, search
from mirrord.wire.git.lfs.server import LfsServer
from mirrord.wire.git.refs import blocking
from mirrord.wire.http.client import Http

MOST: Final = 1000  # refs of one target
LARGEST: Final = 2**30  # bytes that one target may send
SECONDS: Final = 600.0  # that one target may take
_LONGEST: Final = 400  # characters that are noted of a loss
_EACH: Final = (BusyError, ContentError)  # may be the fault of one object among many


@dataclass(frozen=True, slots=True)
class Secured:
    """What a run will overwrite or delete, and what of it could not be kept."""

    lost: tuple[LostObject, ...] = ()  # all of it, as far as it is to be kept
    unsaved: Mapping[str, MirrordError] = field(default_factory=dict)  # object → why it could not be had
    # target → which LFS objects of what was fetched there could not be had
    without: Mapping[str, str] = field(default_factory=dict)
    allow: bool = False  # with `--allow`, what cannot be kept is overwritten and lost
    command: str = ""  # what to run for that

    @property
    def backups(self) -> Mapping[Lost, str]:
        """What is to be kept, with what becomes of it."""
        return {(one.ref, one.oid): one.outcome() for one in self.lost if one.oid not in self.unsaved}

    def held_back(self, changes: Sequence[Change]) -> Mapping[str, MirrordError]:
        """Return the refs that must not be touched, with the reason: their objects are nowhere else.

        Where such a ref is in the way of another one, that one cannot come either.
        """
        if self.allow or not self.unsaved:
            return {}
        step = f"fetch it from there yourself, or let it go with `{self.command}`"
        errors: dict[str, MirrordError] = {}
        for one in changes:
            if one.old is not None and one.old in self.unsaved:
                why = f"{one.old[:7]} is nowhere else, and could not be kept: {self.unsaved[one.old]}"
                errors[one.ref] = GuardError(f"{one.ref}: {why}; {step}")
        for one in changes if errors else ():
            way = blocking(errors, (one.ref,)) if one.new and one.ref not in errors else ()
            if way:
                text = f"{one.ref} has to wait until {min(way)} has gone, which could not be kept"
                errors[one.ref] = GuardError(text)
        return errors

    def corrected(self, receipt: Receipt, old: str | None) -> Receipt:
        """Return a receipt that reports a loss, where the step's own reason promises a backup."""
        error, target = self.unsaved.get(old or ""), receipt.step.target
        if error is None and target in self.without:
            first = next(one for one in self.lost if target in one.at and one.absent and one.oid not in self.unsaved)
            same = (first.ref, first.oid) == (receipt.step.item, old)
            return replace(receipt, remark=f"{target}: {self.without[target]}") if same else receipt
        if error is None or old is None or receipt.outcome is not Outcome.DONE:
            return receipt
        verb = "deleted" if receipt.step.action is Action.DELETE else "overwritten"
        detail = f"{receipt.step.item}: {old[:7]} is {verb}, and is lost: it could not be kept: {error}"
        return replace(receipt, detail=detail)

    def outcomes(self, done: Collection[tuple[str, str]]) -> tuple[Mapping[Lost, str], Mapping[Lost, str]]:
        """Say what became of refs at targets: of which there are backups, and of which there are none.

        `done` names target and ref of all steps that were taken.
        """
        kept, gone = dict[Lost, str](), dict[Lost, str]()
        for one in self.lost:
            there = [name for name in one.at if (name, one.ref) in done]
            if one.oid not in self.unsaved and not one.here:
                kept[one.ref, one.oid] = one.outcome(there)
            elif one.oid in self.unsaved and there:
                gone[one.ref, one.oid] = f"{one.outcome(there)}, and not kept: {self.unsaved[one.oid]}"[:_LONGEST]
        return kept, gone


async def rescue(
    cache: MirrorCache, lost: Sequence[LostObject], places: Mapping[str, Address]
) -> Mapping[str, MirrordError]:
    """Fetch the objects of `lost` that are not here, each from the targets that have it (name → address).

    Costs nothing when all are here; takes the cache's lock. Nothing leads to what came: the caller makes the backups.
    Returns object → why it could not be had. Raises MirrordError: the cache cannot be used.
    """
    asked: dict[str, dict[str, None]] = {}
    for one in lost:
        for name in one.at if one.absent else ():
            asked.setdefault(name, {})[one.oid] = None
    if not asked:
        return {}
    errors: dict[str, MirrordError] = {}
    async with cache.lock:
        await cache.repository.prepare()
        few = {name: tuple(oids)[:MOST] for name, oids in asked.items()}
        takes = (_take(cache, places[name], oids, SECONDS, LARGEST) for name, oids in few.items())
        failures = await asyncio.gather(*takes)
        if len(failures) > 1 and any(failures):
            await cache.repository.prepare()  # sweeps what was cut off while others still fetched
        for (name, oids), error in zip(few.items(), failures, strict=True):
            many = f"{len(asked[name])} refs there have what is nowhere else; {MOST} are kept at most"
            errors |= dict.fromkeys(asked[name].keys() - set(oids), TooLargeError(many))
            if error is not None and len(oids) > 1 and isinstance(error, _EACH):
                errors |= await _each(cache, places[name], oids)
            elif error is not None:
                errors |= dict.fromkeys(oids, error)
        lacking = await cache.repository.lacking(frozenset().union(*asked.values()))
    return {oid: errors.get(oid) or MirrordError("it was fetched, but not all that it refers to") for oid in lacking}


async def rescue_objects(
    cache: MirrorCache, http: Http, lost: Sequence[LostObject], unsaved: Collection[str], places: Mapping[str, Address]
) -> Mapping[str, str]:
    """Fetch the LFS objects of what `rescue` fetched, from the same targets, into the cache. Raises MirrordError.

    Returns target → what could not be had; backups are kept without it, since the target's LFS server keeps it for now.
    """
    found: dict[str, set[str]] = {}
    for one in lost:
        for name in one.at if one.absent and one.oid not in unsaved else ():
            found.setdefault(name, set()).add(one.oid)
    known = frozenset((await cache.repository.refs()).values()) if found else frozenset()
    problems: dict[str, str] = {}
    for name, oids in found.items():
        try:
            pointers = await search(cache.git, cache.folder, oids, known)
            used = bool(pointers) and await in_use(cache.git, cache.folder, oids)
        except ContentError as error:  # what somebody pushed there stops no other target
            problems[name] = f"LFS objects of what was kept could not be looked for: {error}"
            continue
        if used:
            errors = await _objects(cache, LfsServer(cache.git, http, places[name]), pointers)
            if errors:
                many = "an LFS object" if len(errors) == 1 else f"{len(errors)} LFS objects"
                problems[name] = f"{many} of what was kept could not be fetched: {next(iter(errors.values()))}"
    return problems


async def _objects(cache: MirrorCache, server: LfsServer, pointers: Collection[Pointer]) -> Errors:
    wanted = await asyncio.to_thread(lacking, cache.folder, pointers)
    why: MirrordError = TooLargeError(f"they have more than {LARGEST} bytes")
    if sum(pointer.size for pointer in wanted) <= LARGEST:
        try:
            async with asyncio.timeout(SECONDS):
                return await download(server, cache.folder, wanted, lambda *_: None)
        except TimeoutError:
            why = DeadlineError(f"{server.address.host}: not done within {SECONDS:.0f} s")
    return {pointer.oid: why for pointer in wanted}


async def _each(cache: MirrorCache, place: Address, oids: Sequence[str]) -> Mapping[str, MirrordError]:
    """Fetch one after the other what could not be had together, as far as time and room go."""
    errors: dict[str, MirrordError] = {}
    end, began = time.monotonic() + SECONDS, 0
    for number, oid in enumerate(oids):
        await cache.repository.prepare()  # sweeps what was cut off
        size = (await asyncio.to_thread(sizes, cache.folder)).bytes
        began = size if number == 0 else began
        error = await _take(cache, place, [oid], end - time.monotonic(), max(1, LARGEST + began - size))
        if error is not None:
            errors[oid] = error
    return errors


async def _take(
    cache: MirrorCache, place: Address, oids: Collection[str], seconds: float, largest: int
) -> MirrordError | None:
    """Fetch from one target, once more when it may have been bad luck; return why it failed, or None."""
    end, error = time.monotonic() + seconds, MirrordError()
    for _ in range(2):
        if (left := end - time.monotonic()) <= 0:
            return DeadlineError(f"{place.host}: not done within {SECONDS:.0f} s")
        try:
            await cache.repository.take(place, oids, deadline=left, largest=largest)
        except MirrordError as caught:
            error = caught
            if not error.retry:
                break
        else:
            return None
    return error
