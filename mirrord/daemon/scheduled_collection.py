"""Collects `local` by itself: on a disk after runs, in a bucket now and then and at the replica that leads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final

from mirrord.blobs.uses import UNSEEN
from mirrord.daemon.collecting import GarbageCollection
from mirrord.daemon.runtime import Runtime
from mirrord.errors import MirrordError
from mirrord.plan.retention import READING
from mirrord.report.logs import Logs

EVERY: Final = 600.0
"""Seconds between two collections after runs, and until one is tried again that a bucket failed."""
FIRST: Final = READING + UNSEEN + 60
"""Seconds after its start at which a daemon may collect a bucket: it knows by then what clients are reading."""
SHARED: Final = 6 * 3600.0
"""Seconds between two collections of a bucket, of which each lists all of it."""


class ScheduledCollection:
    """Collections that nobody asked for.

    Attributes:
        collecting: does it; None where nothing can be collected.
    """

    def __init__(self, runtime: Runtime, collecting: GarbageCollection | None, logs: Logs) -> None:
        self._runtime, self.collecting, self._logs = runtime, collecting, logs
        self._ran = asyncio.Event()
        self._said = frozenset[str]()

    def ran(self) -> None:
        """Take note that a run may have left something to collect."""
        self._ran.set()

    @property
    def works(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """What runs until it is cancelled."""
        return self.work, self.write_uses

    async def work(self) -> None:
        """Collect again and again."""
        if self.collecting and self.collecting.shared:
            await self._in_a_bucket()
        while True:
            await self._ran.wait()
            self._ran.clear()
            if self.collecting and self.collecting.wanted:
                await self._collect(self.collecting)
                await asyncio.sleep(EVERY)

    async def write_uses(self) -> None:
        """Note again and again what clients used; never returns."""
        failing = False
        while (uses := self._runtime.snapshot.services.uses) is not None:
            try:
                await uses.write()
                failing = False
            except MirrordError as error:
                if not failing:
                    self._logs.write("warning", "uses.failed", message=str(error))
                failing = True
            await asyncio.sleep(uses.every)

    async def _in_a_bucket(self) -> None:
        """Collect now and then while this replica leads: nobody else hears of all runs. Never returns."""
        assert self.collecting
        await asyncio.sleep(FIRST)
        while True:
            done = self._runtime.leads and await self._collect(self.collecting)
            await asyncio.sleep(SHARED if done else EVERY)

    async def _collect(self, collecting: GarbageCollection) -> bool:
        """Collect once, and say what came of it; return whether all names were looked at."""
        try:
            found = await collecting.collect()
        except (MirrordError, OSError) as error:
            self._say([str(error)])
            return False
        self._say(found.troubles)
        if found.gone or found.blobs:
            self._logs.write("info", "gc.done", names=len(found.gone), blobs=found.blobs, bytes=found.freed)
        return True

    def _say(self, troubles: Collection[str]) -> None:
        """Say what is wrong, once as long as it is."""
        for trouble in troubles:
            if trouble not in self._said:
                self._logs.write("warning", "gc.failed", message=trouble)
        self._said = frozenset(troubles)
