"""The port of leases on mirrors: one run of a mirror at a time, in one process or in many. No database here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mirrord.errors import FencedError
from mirrord.keyedlock import KeyedLock
from mirrord.record.cut_off import CutOff, marked


@dataclass(frozen=True, slots=True)
class RunLease:
    """The right to run a mirror, and to change what its runs read.

    Attributes:
        mirror: its name.
        fence: grows with each lease on the mirror that a replica takes; 0 on one machine.
        doubtful: whether an earlier holder may have written names since it lost its lease, so that what the record
            says of targets is not to be trusted.
    """

    mirror: str
    fence: int = 0
    doubtful: bool = False


@dataclass(slots=True)
class HeldLease:
    """A lease that blocks of this process hold, their tasks, why they were cancelled, and whether it was lost.

    `cut_off` is a run that an earlier holder was killed in, of which nobody has heard yet.
    """

    lease: RunLease
    users: set[asyncio.Task[Any]] = field(default_factory=set)
    why: FencedError | None = None
    lost: bool = False
    cut_off: CutOff | None = None

    def stop(self, why: FencedError) -> None:
        """Cancel its blocks, once; `why` is what they raise."""
        if self.why is None:
            self.why = why
            for task in self.users:
                task.cancel()


@dataclass(frozen=True, slots=True)
class Fence:
    """What a run asks before it writes; one for each run that has a `lease` with a number."""

    leases: RunLeases
    lease: RunLease

    async def __call__(self) -> None:
        """See `RunLeases.check`."""
        await self.leases.check(self.lease)


class RunLeases(Protocol):
    """The leases on all mirrors."""

    def hold(self, mirror: str, *, shared: bool = False, trigger: str = "") -> AbstractAsyncContextManager[RunLease]:
        """Wait for the lease on a mirror, in this process in order of arrival, and hold it until the block ends.

        With `shared` others of this process may have it at the same time that share it,
        too. A block whose lease somebody else took is cancelled. `trigger` is that of the run for which it is held, if
        it is for one: where this process is killed meanwhile, that run is recorded as cut off. A name that begins
        with `~` is no mirror's: of something else that one does at a time; nobody is told of such a lease.

        Raises:
            FencedError: by the block, when the lease was lost; at most one batch of names was written since.
            StorageError: the leases cannot be reached.
        """

    async def check(self, lease: RunLease) -> None:
        """Raise FencedError if the lease is held no more, StorageError where nobody can say that."""

    async def busy(self, mirror: str) -> bool:
        """Return whether somebody has the lease on a mirror, or waits for it in this process."""

    def __contains__(self, mirror: object) -> bool:
        """Whether somebody in this process has it, or waits for it."""


class OwnLeases:
    """The leases where this process is the only one (`StateLock`); implements `RunLeases`."""

    def __init__(self, folder: Path | None = None) -> None:
        """Begin without any; `folder` is where runs are marked, if they are."""
        self._locks, self._folder = KeyedLock(), folder

    @asynccontextmanager
    async def hold(self, mirror: str, *, shared: bool = False, trigger: str = "") -> AsyncIterator[RunLease]:
        """See `RunLeases.hold`; it is never lost."""
        async with (
            self._locks.share(mirror) if shared else self._locks.hold(mirror),
            marked(self._folder, mirror, trigger) if self._folder and trigger else nullcontext(),
        ):
            yield RunLease(mirror)

    async def check(self, lease: RunLease) -> None:
        """Do nothing: nobody can have taken it."""

    async def busy(self, mirror: str) -> bool:
        """See `RunLeases.busy`."""
        return mirror in self._locks

    def __contains__(self, mirror: object) -> bool:
        """See `RunLeases.__contains__`."""
        return mirror in self._locks
