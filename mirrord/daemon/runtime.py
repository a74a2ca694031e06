"""Everything that is needed to run mirrors, opened together and closed in the right order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from mirrord.blobs import reserve
from mirrord.config.load import Configuration
from mirrord.daemon.runner import Runner
from mirrord.daemon.services import build_services, open_http
from mirrord.daemon.snapshot import Snapshot
from mirrord.errors import StorageError
from mirrord.events import Events
from mirrord.record.store import Store, file_url, open_store
from mirrord.record.takeover import take_over
from mirrord.syncer.port import Syncer


def now() -> datetime:
    """Read the clock of the machine (UTC)."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Runtime:
    """What is open.

    Attributes:
        snapshot: the configuration in use; `adopt` replaces it.
        store: the record.
        events: what happens.
        runner: runs mirrors.
        check: raises `StorageError` when the state directory is not the one that we hold any more. Blocks.
        notices: what was found at opening that a person should know.
        losses: those of them that say what was lost: a command says them, too.
    """

    snapshot: Snapshot
    store: Store
    events: Events
    runner: Runner
    check: Callable[[], None]
    notices: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()

    async def adopt(self, configuration: Configuration) -> None:
        """Use another configuration from now on; runs under way end with the one they began with."""
        old = self.snapshot
        services = replace(old.services, http=open_http(configuration.book, self.events))
        self.snapshot = Snapshot(configuration, old.syncers, services)
        await old.retire()


@asynccontextmanager
async def open_runtime(
    configuration: Configuration,
    syncers: Mapping[str, Syncer],
    state: Path,
    events: Events,
    *,
    check: Callable[[], None] = lambda: None,
) -> AsyncIterator[Runtime]:
    """Open all that is needed over `state`, which the caller has locked (`StateLock`); `check` says if it still has.

    Raises:
        StorageError: the state cannot be used.
    """
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(build_services(configuration, state, events))
        stack.callback(reserve.give_up, state)  # a state that nobody uses takes no more room than it needs
        store = await open_store(file_url(state / "mirrord.db"), now(), partial(reserve.give_up, state))
        stack.push_async_callback(store.close)
        await take_over(state, store)
        full = await asyncio.to_thread(_reserved, state)
        runtime: Runtime
        snapshot = Snapshot(configuration, syncers, replace(services, facts=store))
        runner = Runner(lambda: runtime.snapshot, store, events, now, check=check)
        moved = (store.lost,) if store.lost else ()
        notices = (*configuration.notices, *moved, *full, *await _remarks(configuration, syncers))
        runtime = Runtime(snapshot, store, events, runner, check, notices, moved)
        try:
            yield runtime
        finally:
            await runner.stop(0.0)  # nothing may still run on what is closed next; Ctrl-C of a command comes this way
            await runtime.snapshot.retire()


def _reserved(state: Path) -> tuple[str, ...]:
    """Hold the record's reserve; a disk that is too full for it stops nothing that needs no room."""
    try:
        reserve.keep(state)
    except StorageError as error:
        return (str(error),)
    return ()


async def _remarks(configuration: Configuration, syncers: Mapping[str, Syncer]) -> tuple[str, ...]:
    """Ask the syncers in use about the programs that they need."""
    mirrors = Counter(mirror.kind for mirror in configuration.mirrors)
    in_use = [(syncer.remarks, mirrors[kind]) for kind, syncer in syncers.items() if mirrors[kind] and syncer.remarks]
    return tuple([remark for remarks, count in in_use for remark in await remarks(count)])
