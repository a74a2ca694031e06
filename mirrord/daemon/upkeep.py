"""Looks after the state on disk: can the record be written, is its reserve whole, how much room is left."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mirrord.blobs import reserve
from mirrord.daemon.runtime import Runtime
from mirrord.errors import MirrordError
from mirrord.report.metrics import Metrics

EVERY = 15.0
"""Seconds between two looks."""


class Upkeep:
    """What is wrong with the state, as of the last look.

    Attributes:
        trouble: one sentence, or "".
    """

    def __init__(self, runtime: Runtime, state: Path, metrics: Metrics) -> None:
        """Look after the `state` of `runtime`, and tell `metrics` how much room it has."""
        self._runtime, self._state, self._metrics = runtime, state, metrics
        self._looking = asyncio.Lock()
        self.trouble = ""

    async def look(self) -> None:
        """Look once. What could not be recorded is recorded now, if it can be."""
        async with self._looking:
            try:
                async with asyncio.timeout(EVERY * 2):
                    await asyncio.to_thread(self._runtime.check)
                    await self._runtime.store.check()
                    self._runtime.snapshot.services.spools.trim()
                    await asyncio.to_thread(reserve.keep, self._state)
                    self._metrics.free.set(await asyncio.to_thread(reserve.free, self._state))
                self.trouble = ""
            except TimeoutError:
                self.trouble = f"{self._state}: the disk does not answer"
            except (MirrordError, OSError) as error:
                self.trouble = str(error)

    async def forever(self) -> None:
        """Look again and again."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY)
