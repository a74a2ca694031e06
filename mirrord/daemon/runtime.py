"""Everything that is needed to run mirrors, opened together and closed in the right order."""

from __future__ import annotations

import asyncio
import fnmatch
import shutil
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from mirrord.blobs import reserve
from mirrord.blobs.collector import Collector
from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.reserve import room
from mirrord.config.load import Configuration
from mirrord.daemon.local import collector_of, open_local, sharing
from mirrord.daemon.lock import RECORD, close_to_others
from mirrord.daemon.replica import open_fleet
from mirrord.daemon.runner import Runner
from mirrord.daemon.taking_over import take_over
from mirrord.errors import StorageError, TakenDownError, UsageError
from mirrord.events import Events
from mirrord.files import storage_errors
from mirrord.model.remote import RunCutOff
from mirrord.model.request import ASKED
from mirrord.names.denied import Denied
from mirrord.record.cut_off import RUNNING, left_behind, record_cut_off
from mirrord.record.fleet import Fleet
from mirrord.record.leases import OwnLeases
from mirrord.record.store import Store, open_store
from mirrord.syncer.addresses import addresses_of
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Addresses, Mirror, Services
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import FRONT_LIMITS
from mirrord.wire.http.pace import Party
from mirrord.wire.http.shares import HostShares
from mirrord.wire.keyring import Keyrings


class Snapshot:
    """A configuration, the syncers and the services; its connections close when it is retired and nobody uses it."""

    def __init__(self, configuration: Configuration, syncers: Mapping[str, Syncer], services: Services) -> None:
        self.configuration = configuration
        self.syncers = syncers
        by_kind: defaultdict[str, list[Mirror]] = defaultdict(list)
        for mirror in configuration.mirrors:
            by_kind[mirror.kind].append(mirror)
        services = replace(services, mirrors=dict(by_kind), fronts=configuration.fronts, names=configuration.names)
        self.services = replace(
            services, denied=configuration.denied or None, objection=configuration.settings.about.about.objection
        )
        self._mirrors = {mirror.name: mirror for mirror in configuration.mirrors}
        self._users = 0
        self._retired = False

    def deny(self, denied: Denied) -> None:
        """Deny other things from now on; runs under way end with what was denied when they began."""
        self.configuration = replace(self.configuration, denied=denied)
        self.services = replace(self.services, denied=denied or None)

    def denied(self) -> Mapping[str, str]:
        """Return why mirrors were taken down, by their names."""
        return {name: why for name in self._mirrors if (why := self.denying(name))}

    def denying(self, name: str) -> str:
        """Return why one mirror was taken down, or ""."""
        entry = self.configuration.denied.mirror(name)
        return entry.reason if entry else ""

    def allowed(self) -> Sequence[str]:
        """Return the mirrors that were not taken down; TakenDownError where all of them were."""
        found = [name for name in self.names if not self.denying(name)]
        if self.names and not found:
            raise TakenDownError("all mirrors are taken down, so nothing is mirrored; `mirrord takedown` lists why")
        return found

    def to_run(self, names: Sequence[str] = ()) -> Sequence[str]:
        """Return these mirrors, or all that were not taken down; UsageError for that of what people ask for."""
        if self.configuration.asking and ASKED in names:
            raise UsageError(f"{ASKED}: has what somebody asked for, each once; run `mirrord sync IMAGE` for an image")
        return names or [name for name in self.allowed() if name != ASKED or not self.configuration.asking]

    @property
    def names(self) -> Sequence[str]:
        """All mirrors, in the order in which they were written."""
        return list(self._mirrors)

    @property
    def kinds(self) -> Mapping[str, str]:
        """The kind of each mirror."""
        return {name: mirror.kind for name, mirror in self._mirrors.items()}

    def mirror(self, name: str) -> Mirror:
        """Return a mirror; UsageError suggests one where there is none of that name."""
        if (found := self._mirrors.get(name)) is not None:
            return found
        near = get_close_matches(name, self.names, 1)
        hint = f"; did you mean {near[0]}?" if near else "; `mirrord status` lists them"
        raise UsageError(f"no mirror is called {name[:80]!r}{hint}")

    def chosen(self, names: Sequence[str]) -> Sequence[str]:
        """Return these mirrors, each once, or all; nothing may start before `mirror` found every name."""
        return [self.mirror(name).name for name in dict.fromkeys(names)] or self.names

    def matching(self, patterns: Sequence[str]) -> Sequence[str]:
        """Return the mirrors that these names and globs mean, each once; UsageError for one that means none."""
        found: list[str] = []
        for pattern in patterns:
            if not any(sign in pattern for sign in "*?["):
                found.append(self.mirror(pattern).name)
            elif some := fnmatch.filter(self.names, pattern):
                found += some
            else:
                raise UsageError(f"no mirror matches {pattern[:80]!r}; `mirrord status` lists them")
        return list(dict.fromkeys(found))

    def addresses(self, listen: str = "") -> Mapping[str, Addresses]:
        """Return the addresses of each mirror by its name; `listen` as for `Settings.address`."""
        url = self.configuration.settings.address(listen)
        return addresses_of(self.configuration.mirrors, self.syncers, url)

    def syncer(self, mirror: Mirror) -> Syncer:
        """Return the syncer of a mirror."""
        return self.syncers[mirror.kind]

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[None]:
        """Use the snapshot; it stays whole until the block ends."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            await self._release()

    async def retire(self) -> None:
        """Say that no new run will use it."""
        self._retired = True
        await self._release()

    async def _release(self) -> None:
        if self._retired and not self._users:
            await self.services.http.aclose()
            if self.services.upstreams:  # clients read through it, whom a reload must not cut off
                await self.services.upstreams.retire()


@asynccontextmanager
async def build_services(
    configuration: Configuration, state: Path, events: Events, *, of_record: bool = False
) -> AsyncIterator[Services]:
    """Build the services over `state`, which the caller has locked, when all that was left half done is swept.

    With `of_record` without `local`, which may be a bucket.
    """
    async with AsyncExitStack() as stack:
        root = await asyncio.to_thread(_prepare, state)
        spools = SpoolPool(root / "spool", configuration.settings.spool.budget, events, room=partial(room, root))
        stack.push_async_callback(spools.aclose)
        await asyncio.to_thread(spools.cache.sweep)
        local = None, None, None
        blobs, repositories, uses = local if of_record else await open_local(configuration, root, events)
        shared = None if of_record else await sharing(configuration, root, events)
        http, upstreams = open_both(configuration, events)
        stack.push_async_callback(http.aclose)
        stack.push_async_callback(upstreams.aclose)
        if uses:
            stack.push_async_callback(uses.aclose)
        yield Services(
            http, spools, events, root / "scratch", blobs, repositories, root, uses, shared, upstreams=upstreams
        )


def open_http(book: HostBook, events: Events) -> Http:
    """Make the way out, with docker's own configuration behind the operator's."""
    return Http(replace(book, keyring=Keyrings(book.policies)), events)


def open_both(configuration: Configuration, events: Events) -> tuple[Http, Http]:
    """Make the ways of runs and of fronts, which share each host; fronts use our credentials only where they opt in."""
    asked = [host for rules in configuration.fronts.values() for host in rules.upstreams.items()]
    book, settings = replace(configuration.book, keyring=Keyrings(configuration.book.policies)), configuration.settings
    shares = HostShares([host for host, _ in asked], requests=settings.requests, bandwidth=settings.bandwidth)
    strangers = book.for_strangers({host for host, ours in asked if ours})
    upstreams = Http(strangers, events, FRONT_LIMITS, shares=shares, party=Party.FRONT)
    return Http(book, events, shares=shares), upstreams


def _prepare(state: Path) -> Path:
    root = state.absolute()  # other programs work on it too, and in folders of their own
    scratch = root / "scratch"
    with storage_errors(scratch, f"; give it to the user of mirrord: chown -R --reference={root}/. {root}/."):
        if scratch.is_symlink() or scratch.is_file():
            scratch.unlink()
        elif scratch.exists():
            shutil.rmtree(scratch)
    with storage_errors(root):
        for folder in (scratch, root / "spool"):
            folder.mkdir(mode=0o700, exist_ok=True)
        for entry in root.iterdir():  # what an earlier version, or another program, made in its own way
            if not entry.is_symlink():
                close_to_others(entry)
    return root


def now() -> datetime:
    """Read the clock of the machine (UTC)."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Runtime:
    """What is open."""

    snapshot: Snapshot  # the configuration in use; `adopt` replaces it
    store: Store
    events: Events
    runner: Runner
    check: Callable[[], None]  # raises StorageError when the state directory is not ours any more; blocks
    notices: tuple[tuple[str, str], ...] = ()  # level and text of what was found at opening
    collector: Collector | None = None  # of what `local` has
    losses: tuple[str, ...] = ()  # those of them that say what was lost: a command says them, too
    ease: Callable[[], None] = lambda: None  # gives small files the reserve where the disk is full; blocks
    fleet: Fleet | None = None  # this process among the replicas that share the record
    cut_off: tuple[RunCutOff, ...] = ()  # what to tell of runs that an earlier process was killed in
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while the configuration is read or changed

    @property
    def leads(self) -> bool:
        """Whether it does what one of all replicas does."""
        return self.fleet is None or self.fleet.leads

    async def adopt(self, configuration: Configuration) -> None:
        """Use another configuration from now on; runs under way end with the one they began with."""
        old = self.snapshot
        http, upstreams = open_both(configuration, self.events)
        self.snapshot = Snapshot(configuration, old.syncers, replace(old.services, http=http, upstreams=upstreams))
        await old.retire()


@asynccontextmanager
async def open_runtime(
    configuration: Configuration,
    syncers: Mapping[str, Syncer],
    state: Path,
    events: Events,
    *,
    check: Callable[[], None] = lambda: None,
    away: Callable[[], str] = str,
    of_record: bool = False,
) -> AsyncIterator[Runtime]:
    """Open all that is needed over `state`, which the caller has locked (`StateLock`); `check` says if it still has.

    `away` is as in `Services`, `of_record` as `Command.of_record`.
    """
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(build_services(configuration, state, events, of_record=of_record))
        services = replace(services, away=away)
        record = state / RECORD
        stack.callback(reserve.leave, state, record)  # a state that nobody uses takes little room
        left = await asyncio.to_thread(left_behind, state, record)
        store = await open_store(configuration.record or record, now(), partial(reserve.give_up, state))
        stack.push_async_callback(store.close)
        losses = (*((store.lost,) if store.lost else ()), *await take_over(state, store))
        notices = [("warning", text) for text in (*configuration.notices, *losses)]
        try:
            await asyncio.to_thread(reserve.keep, state)
        except StorageError as error:  # a disk that is too full for it stops nothing that needs no room
            notices.append(("warning", str(error)))
        mirrors = Counter(mirror.kind for mirror in configuration.mirrors)
        for kind, syncer in syncers.items():
            if mirrors[kind] and syncer.remarks:  # of one in use, about the programs that it needs
                notices += await syncer.remarks(mirrors[kind])
        runtime: Runtime
        snapshot = Snapshot(configuration, syncers, replace(services, facts=store))
        joined = open_fleet(state, configuration.record, events, None if of_record else lambda: runtime, now)
        fleet = await stack.enter_async_context(joined)
        store.replica = fleet.me.name if fleet else ""
        leases = fleet or OwnLeases(state / RUNNING)
        runner = Runner(lambda: runtime.snapshot, store, events, now, check=check, leases=leases)
        cut_off = await record_cut_off(store, (*left, *(fleet.left if fleet else ())), snapshot.kinds, state)
        collector = collector_of(services, shared=configuration.bucket is not None)
        about = tuple(notices), collector, losses
        ease = partial(reserve.ease, state)
        runtime = Runtime(snapshot, store, events, runner, check, *about, ease=ease, fleet=fleet, cut_off=cut_off)
        try:
            yield runtime
        finally:
            if not runner.stopping:  # Ctrl-C of a command comes this way: nothing may use what is closed next
                await runner.stop(0.0)
            await runtime.snapshot.retire()
