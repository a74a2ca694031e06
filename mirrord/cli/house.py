"""Does work where it belongs: in the daemon that holds the state, else here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

from mirrord import __version__
from mirrord.cli.console import note
from mirrord.cli.progress import shown
from mirrord.config.load import Configuration, load_folder
from mirrord.daemon.lock import StateLock
from mirrord.daemon.runtime import Runtime, open_runtime
from mirrord.errors import BusyError, UnreachableError
from mirrord.events import Events
from mirrord.model.plan import Plan
from mirrord.model.run import Run
from mirrord.report.status import Status, StatusInput, status
from mirrord.serve.remote import ControlClient
from mirrord.syncer.loader import load_syncers
from mirrord.syncer.values import Backup, Publication

_Answer = TypeVar("_Answer")


class Hand(Protocol):
    """What does the work."""

    async def sync(self, mirrors: Sequence[str], events: Events, *, allow: bool = False) -> Sequence[Run]:
        """Run these mirrors, or all; with `allow` in spite of their guards."""
        ...

    async def publish(self, mirror: str, publication: Publication, events: Events) -> Run:
        """Publish one build."""
        ...

    async def backups(self, mirror: str) -> Sequence[Backup]:
        """List what runs of one mirror overwrote or deleted."""
        ...

    async def restore(self, mirror: str, backup: str, events: Events, *, release: bool) -> Run:
        """Let a backup override upstream, or no longer, and run the mirror."""
        ...

    async def plan(self, mirrors: Sequence[str]) -> Sequence[Plan]:
        """Plan these mirrors, or all."""
        ...

    async def status(self) -> Status:
        """Say how everything stands."""
        ...


class _Here:
    """Works in this process, over a state that it has locked."""

    def __init__(self, shop: Runtime) -> None:
        self._shop = shop

    async def sync(
        self,
        mirrors: Sequence[str],
        events: Events,  # noqa: ARG002 - the workshop's own
        *,
        allow: bool = False,
    ) -> Sequence[Run]:
        return await self._each(mirrors, lambda name: self._shop.runner.sync(name, allow=allow))

    async def _each(self, mirrors: Sequence[str], do: Callable[[str], Awaitable[_Answer]]) -> Sequence[_Answer]:
        """Work on these mirrors, or all, some at once."""
        free = asyncio.Semaphore(self._shop.snapshot.configuration.settings.parallel)

        async def one(name: str) -> _Answer:
            async with free:
                return await do(name)

        return await asyncio.gather(*map(one, self._shop.snapshot.chosen(mirrors)))

    async def publish(self, mirror: str, publication: Publication, events: Events) -> Run:  # noqa: ARG002 - the workshop's own
        return await self._shop.runner.publish(mirror, publication)

    async def backups(self, mirror: str) -> Sequence[Backup]:
        return await self._shop.runner.backups(mirror)

    async def restore(self, mirror: str, backup: str, events: Events, *, release: bool) -> Run:  # noqa: ARG002 - the workshop's own
        return await self._shop.runner.restore(mirror, backup, release=release)

    async def plan(self, mirrors: Sequence[str]) -> Sequence[Plan]:
        return await self._each(mirrors, self._shop.runner.plan)

    async def status(self) -> Status:
        mirrors = self._shop.snapshot.configuration.mirrors
        return status(StatusInput(__version__, datetime.now(UTC), mirrors, await self._shop.store.standing()))


def configuration(folder: Path) -> Configuration:
    """Read the configuration with all installed syncers.

    Raises:
        ConfigError: it is wrong.
    """
    return load_folder(folder, load_syncers(), dict(os.environ))


def _read_early(folder: Callable[[], Path], state: Path) -> Configuration | None:
    """Read the configuration before there is a state directory: who has it wrong finds none left behind."""
    return None if state.exists() else configuration(folder())


@asynccontextmanager
async def _hand(folder: Callable[[], Path], state: Path, events: Events) -> AsyncIterator[Hand]:
    early = await asyncio.to_thread(_read_early, folder, state)
    with ExitStack() as stack:
        lock = StateLock(state)
        try:
            stack.enter_context(lock)
        except BusyError as busy:
            client = ControlClient(state)
            try:
                await client.status()
            except UnreachableError:
                if lock.serving:
                    raise BusyError(f"{state}: the daemon is starting, or ending; try again in a moment") from None
                raise busy from None
            yield client
            return
        read = await asyncio.to_thread(configuration, folder()) if early is None else early
        async with open_runtime(read, load_syncers(), state, events) as shop:
            for loss in shop.losses:
                note(loss)
            try:
                yield _Here(shop)
            finally:
                await shop.runner.stop(0)


async def standing(folder: Callable[[], Path], state: Path) -> Status:
    """Ask the daemon that holds `state` how everything stands, or read the record.

    Raises:
        ConfigError: there is no daemon, and the configuration is wrong.
        BusyError: another command holds the state.
    """
    async with _hand(folder, state, Events()) as hand:
        return await hand.status()


async def work(
    do: Callable[[Hand, Events], Awaitable[_Answer]], folder: Callable[[], Path], state: Path, *, quiet: bool
) -> _Answer:
    """Let the daemon that holds `state` do it, or do it here; show progress unless `quiet`.

    Raises:
        ConfigError: there is no daemon, and the configuration is wrong.
        BusyError: another command holds the state.
    """
    events = Events()
    async with _hand(folder, state, events) as hand:
        with shown(events, quiet=quiet):
            return await do(hand, events)
