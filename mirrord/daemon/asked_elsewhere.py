"""What other replicas, or an earlier process, know of images that people ask for: the queue of each is that of all.

Anybody may be asked, and records what is to be copied. The replica that leads copies it, and records how far it is.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Final

from mirrord.asking.asked import AskState
from mirrord.asking.request import OpenRequest
from mirrord.daemon.ask_runs import AskRuns
from mirrord.daemon.loop import cancelled, lasting
from mirrord.daemon.runtime import Runtime, now
from mirrord.errors import StorageError
from mirrord.model.request import AskRecord

_LOOK: Final = 1.0  # seconds between two looks at the record


class AskedElsewhere:
    """Keeps the queue of this process as the record has it."""

    def __init__(self, runtime: Runtime, runs: AskRuns) -> None:
        """Know of nothing yet."""
        self._runtime, self._runs, self._queue = runtime, runs, runs.queue
        self._following: asyncio.Task[None] | None = None
        self._open = set[str]()  # what the last look found
        self._looking = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None  # the next look, for all who ask until it begins

    async def begin(self) -> None:
        """Take what is in the record; in a fleet go on with that, and copy nothing until this replica leads."""
        if self._runtime.fleet:
            self._runs.works = self._runtime.leads
            self._following = asyncio.create_task(lasting(self._follow))
        await self._look()

    async def close(self) -> None:
        """Follow nobody any more."""
        for task in filter(None, (self._following, self._next)):
            with suppress(StorageError):
                await cancelled(task)

    async def before_asking(self) -> None:
        """See what others were asked for just now: of equal questions one is copied. Raises StorageError.

        All who ask during a look share the next one.
        """
        if self._following:
            if self._next is None:
                self._next = asyncio.create_task(self._soon())
                self._next.add_done_callback(lambda done: done.cancelled() or done.exception())  # who waits raises it
            await asyncio.shield(self._next)

    async def _soon(self) -> None:
        async with self._looking:
            self._next = None
            await self._see()

    async def lead(self) -> None:
        """Copy what waits if this replica leads, and leave it to others if not."""
        self._runs.works = self._runtime.leads
        if not self._runs.works:  # `_follow` goes on, and who stops does not wait for a record that is away
            return
        for one in self._queue:
            if one.running and not one.here:  # by whoever led before
                one.wait()
        with suppress(StorageError):
            await self._look()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            if self._queue or self._runtime.snapshot.configuration.asking:
                with suppress(StorageError):
                    await self._look()

    async def _look(self) -> None:
        async with self._looking:
            await self._see()

    async def _see(self) -> None:
        """See what is in the record; one look at a time, so that none shows what an earlier one saw."""
        known = {one.record.id: one for one in self._queue if one.recorded}
        found = {one.id: one for one in await self._runtime.store.open_requests()}
        for number, record in found.items():
            if (one := self._queue.find(number)) is None:
                await self._add(record)
            elif one.recorded and one.record != record and not (self._runs.works or one.here):
                one.take(record)
        for number in known.keys() - found.keys():
            await self._end(known[number])
        self._open = {*found}
        self._runs.work()

    async def _add(self, record: AskRecord) -> None:
        again = await self._runtime.store.request(record.id)  # it may have ended since, here
        if again is None or again.ended or record.id in self._runs.owed:
            return
        request = self._queue.add(OpenRequest(again, recorded=True))
        request.looked.set()
        if self._runs.works and request.running:
            request.wait()

    async def _end(self, request: OpenRequest) -> None:
        """Take how one ended that is not open in the record any more, though a run of it may go on here."""
        if request.ending:
            return
        record = await self._runtime.store.request(request.record.id)
        if record is None and request.record.id in self._open:  # very many were asked for since
            record = replace(request.record, state=AskState.FAILED, ended=now())
        if record and record.ended and not request.ending:
            self._runs.leave(request, record)
