"""Takes something down: the file first, then what is on this machine, then the targets, mirror by mirror.

A crash leaves the entry in the file, and nothing is mirrored or served any more. The same command again removes what is
left: the ledger says where that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from mirrord.config.denied import load_denied
from mirrord.config.denied_file import add_entry, lift_entry
from mirrord.daemon.meaning import check_known, left_by, named, removed_by, same, still_there
from mirrord.daemon.runtime import Runtime, now
from mirrord.errors import MirrordError, UsageError
from mirrord.model.run import Run
from mirrord.model.takedown import DeniedThing, LeftName, TakenDown
from mirrord.names.book import NameBook
from mirrord.names.denied import Denied, DeniedEntry, check_reason, parted
from mirrord.record.ledger import RunLedger
from mirrord.syncer.serving import OpenedThrough
from mirrord.syncer.takedown import Meant, Moves, TakedownWish
from mirrord.syncer.values import LOCAL

_Name = TypeVar("_Name")

_SHOWN: Final = 20  # names that may still be at targets, of one entry in a list
_NO_FILE: Final = (
    "settings.denied names no file; write settings: {denied: /var/lib/mirrord/denied.yaml}, make that file for the user"
    " of mirrord, and run `mirrord reload`"
)
_KEPT: Final = "it is not served; what the state directory has of it stays for a lift: remove it there by hand"
_NAME_ONLY: Final = "no archive of it is known, so it is denied by its name only; run this again once there is one"
_BY_HAND: Final = "mirrord does not remove what mirrors of kind {kind} wrote there; remove it by hand"


class Takedowns:
    """What is taken down by a process, whose front may be open."""

    def __init__(self, runtime: Runtime, opened: Mapping[str, OpenedThrough]) -> None:
        """Use what is open."""
        self._runtime, self._opened = runtime, opened

    async def take_down(self, what: str, reason: str, item: str = "", *, adopt: bool = False) -> TakenDown:
        """See `Takedown`.

        Raises:
            UsageError: it means nothing, or no reason is given for what is not denied yet.
            ConfigError: the file cannot be read.
            StorageError: it cannot be written, so nothing was removed.
        """
        file, moves = await self.reread(), await self._moves()
        meant = await self._meant(what, item, moves)
        found = meant.entry
        entry = await self._deny(file, found, reason)
        own = [one for one in self._denied.entries if same(one, found)]
        digests = sorted({*found.digests, *(digest for one in own for digest in one.digests)})
        found = replace(found, reason=entry.reason, digests=tuple(digests))
        wish = TakedownWish(found, adopt, meant.near)
        purged, left = await self._purge(wish)
        runs, again = await self._remove(wish, left)
        purged += again
        again, still = await self._purge(wish)  # what runs needed that were under way
        purged += again
        left = [*dict.fromkeys((*left, *still)), *meant.left]
        removed, more = await asyncio.to_thread(lambda: (_each(removed_by, runs), _each(left_by, runs)))
        left += more
        shown = tuple(map(str, digests))
        place = f"{file}:{entry.line}"
        return TakenDown(found.what, entry.reason, place, shown, purged, removed, tuple(left), meant.remark)

    async def lift(self, what: str, item: str = "") -> str:
        """See `Lift`. Raises as `take_down`."""
        file, found = await self.reread(), self._named(what, item)
        matching = [one for one in self._denied.entries if same(one, found)]
        if not matching:
            wider = self._entry(found)
            hint = (
                f"{wider.what} denies it, {file}:{wider.line}" if wider else "`mirrord takedown` lists what is denied"
            )
            raise UsageError(f"{found.what} has no entry of its own; {hint}")
        for entry in matching:  # a line stays a line, so the numbers of the others stay, too
            await self._change(partial(_lifted, file, entry))
        return ", ".join(f"{file}:{entry.line}" for entry in matching)

    async def listed(self) -> tuple[DeniedThing, ...]:
        """See `GetDenied`."""
        if not self._denied:
            return ()
        file, moves = self._file(), await self._moves()
        still = await asyncio.to_thread(still_there, self._runtime.snapshot, self._denied, moves)
        return tuple(
            DeniedThing(
                f"{file}:{one.line}", one.what, one.reason, one.at, len(one.digests), _some(still.get(one.line, ()))
            )
            for one in self._denied.entries
        )

    @property
    def _denied(self) -> Denied:
        return self._runtime.snapshot.configuration.denied

    async def reread(self) -> Path:
        """Use what the file says now: people edit it, too. Returns where it is."""
        file = self._file()
        await self._change(partial(load_denied, file))
        return file

    def _file(self) -> Path:
        path = self._runtime.snapshot.configuration.settings.denied
        if path is None:
            raise UsageError(_NO_FILE)
        return Path(path)

    async def _moves(self) -> Mapping[str, Moves]:
        """Return the newest move of each name, by mirror."""
        return {name: await self._newest(name) for name in self._runtime.snapshot.names}

    async def _newest(self, name: str) -> Moves:
        current = self._runtime.snapshot
        mirror = current.mirror(name)
        places = current.syncer(mirror).places(mirror)[1]
        return await RunLedger(self._runtime.store, name, now(), places, now).newest()

    def _named(self, what: str, item: str) -> DeniedEntry:
        return named(self._runtime.snapshot, self._denied, what, item)

    async def _meant(self, what: str, item: str, moves: Mapping[str, Moves]) -> Meant:
        """Return what a person means, with the digests that are known of it."""
        found, current = self._named(what, item), self._runtime.snapshot
        if found.item and what in current.names:
            how = current.syncer(current.mirror(what)).takes_down
            assert how
            digests_of = how().item
            assert digests_of
            async with current.lease():
                digests = await digests_of(current.mirror(what), item, current.services, moves[what])
            return Meant(replace(found, digests=tuple(sorted(digests))), "" if digests else _NAME_ONLY)
        if found.mirror or found.image.endswith("*"):
            return Meant(found)
        finds = (one.takes_down().find for one in current.syncers.values() if one.takes_down)
        find = next(filter(None, finds), None)
        if find is None:
            return Meant(found)
        async with current.lease():
            meant = await find(what, current.services, moves)
        if not meant.entry.digests and not self._entry(meant.entry) and not await self._wanted(meant.entry, moves):
            check_known(current, what, meant.entry.image)
        return meant

    async def _wanted(self, found: DeniedEntry, moves: Mapping[str, Moves]) -> bool:
        """Whether a mirror has it in its configuration."""
        current = self._runtime.snapshot

        def look() -> bool:
            for name in current.names:
                how = current.syncer(current.mirror(name)).takes_down
                concerned = how().concerned if how else None
                if concerned and concerned(TakedownWish(found), current.mirror(name), moves[name]):
                    return True
            return False

        return await asyncio.to_thread(look)

    def _entry(self, found: DeniedEntry) -> DeniedEntry | None:
        """Return the entry that denies it, perhaps with more."""
        if found.mirror:
            return self._denied.item(found.mirror, found.item)
        if found.image.endswith("*"):
            return next((one for one in self._denied.entries if one.image == found.image), None)
        return self._denied.image(*parted(found.image)) if found.image else self._denied.manifest("", found.digests[0])

    async def _deny(self, file: Path, found: DeniedEntry, reason: str) -> DeniedEntry:
        """Write into the file what is not in it yet; return the entry that counts."""
        known = self._entry(found)
        if known is None and not reason:
            raise UsageError(f"{found.what} is not denied yet: say why with --reason; clients see it")
        own = {digest for one in self._denied.entries if same(one, found) for digest in one.digests}
        lacking = tuple(one for one in found.digests if one not in own)  # what others deny they may lift
        noted = {digest for one in self._denied.entries if same(one, found) for digest in one.within}
        within = tuple(one for one in found.within if one not in noted)
        if known is None or lacking or within:
            text = check_reason(reason) if reason else known.reason if known else ""
            named = () if found.image or found.mirror else found.digests[:1]
            digests = tuple(dict.fromkeys((*named, *lacking)))
            fresh = replace(found, reason=text, digests=digests, within=within, at=f"{now():%Y-%m-%dT%H:%MZ}")
            await self._change(lambda names: add_entry(file, fresh, names))
        entry = self._entry(found)
        assert entry is not None
        return entry

    async def _change(self, change: Callable[[NameBook], Denied]) -> None:
        """Change the file, and use what it says from now on; a reload that is under way must not undo that."""
        async with self._runtime.changing:
            current = self._runtime.snapshot
            current.deny(await asyncio.to_thread(change, current.configuration.names))

    async def _purge(self, wish: TakedownWish) -> tuple[int, list[LeftName]]:
        """Remove it on this machine; return how much that was, and what could not be removed."""
        current, denied = self._runtime.snapshot, Denied([wish.entry])
        brought = None if wish.adopt else await self._runtime.store.brought(LOCAL)
        purged, left = 0, list[LeftName]()
        async with current.lease():
            for kind, syncer in current.syncers.items():
                try:
                    if syncer.takes_down:
                        done = await syncer.takes_down().purge(denied, current.services, brought)
                        purged += done.count
                        left += done.left
                except MirrordError as error:
                    left.append(LeftName("", LOCAL, kind, f"{error}; it is not served all the same"))
                try:
                    purged += await self._purge_front(kind, denied)
                except MirrordError as error:
                    left.append(LeftName("", "front", kind, f"{error}; it is not served all the same"))
        return purged, left

    async def _purge_front(self, kind: str, denied: Denied) -> int:
        if kind in self._opened:
            return await self._opened[kind].purge(denied)
        current = self._runtime.snapshot
        through = current.syncers[kind].through
        if through is None:
            return 0
        async with through.open(lambda: current.services) as front:
            return await front.purge(denied)

    async def _remove(self, wish: TakedownWish, left: list[LeftName]) -> tuple[Sequence[Run], int]:
        """Remove it at the targets of all mirrors that may have it; add to `left` what mirrord cannot remove.

        Return the runs, and how much went from this machine that other runs had just brought.
        """
        purged = 0
        current, runner, runs = self._runtime.snapshot, self._runtime.runner, list[Run]()
        for name in current.names:
            mirror = current.mirror(name)
            how = current.syncer(mirror).takes_down
            takes_down = how() if how else None
            if takes_down is None or takes_down.removing is None or takes_down.concerned is None:
                if wish.entry.whole == name:
                    async with runner.leases.hold(name):  # what its present run brings is purged afterwards
                        pass
                    places = current.syncer(mirror).shown_places(mirror)[1]
                    whys = {LOCAL: _KEPT, "": _BY_HAND.format(kind=mirror.kind)}
                    mine = {LOCAL} if takes_down else set[str]()
                    left += (
                        LeftName(name, one, at, whys.get(one, whys[""]))
                        for one, at in places.items()
                        if one not in mine
                    )
                continue
            beside = await runner.leases.busy(name)  # a run that began before may bring it yet
            if beside:
                async with runner.leases.hold(name):
                    purged += (await self._purge(wish))[0]
            if beside or await asyncio.to_thread(takes_down.concerned, wish, mirror, await self._newest(name)):
                removing = takes_down.removing(wish)
                change = lambda one, _, removing=removing: (one, removing)  # noqa: E731 - bound to this mirror
                runs.append(await runner.sync(name, "takedown", change=change))
        return runs, purged


def _lifted(file: Path, entry: DeniedEntry, names: NameBook) -> Denied:
    return lift_entry(file, entry, names, now())


def _some(names: Sequence[str]) -> tuple[str, ...]:
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return (*names[:_SHOWN], *more)


def _each(of: Callable[[Run], Iterator[_Name]], runs: Sequence[Run]) -> tuple[_Name, ...]:
    return tuple(one for run in runs for one in of(run))
