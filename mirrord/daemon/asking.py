"""Where people ask for images: what is refused or there already is answered at once, and the rest waits."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from mirrord import pipeline
from mirrord.asking.asked import AskedImage, AskRefusal, AskState
from mirrord.asking.judged import AskEnd, failed, judge, planned, refused
from mirrord.asking.places import asked_places
from mirrord.asking.rates import AskRates
from mirrord.asking.request import OpenRequest
from mirrord.config.asking import AskingRules
from mirrord.daemon.ask_runs import OFF, AskRuns, narrowed_to, widen
from mirrord.daemon.asked_elsewhere import AskedElsewhere
from mirrord.daemon.runtime import Runtime, now
from mirrord.model.request import AskEnded, AskRecord, ImageAsked
from mirrord.record.ask_rates import take_asks

_LOOKS: Final = 8  # plans at a time
_LOOK: Final = 30.0  # seconds for a plan; a slow registry is left to the run
_PROMPT: Final = 5.0  # seconds after which who asks is told that it is queued, whoever is slow
_EVERY: Final = 0.5  # seconds between two looks at bytes, for whoever follows
_LATER: Final = 30.0  # seconds after which to ask again


class AskDesk:
    """The `ImageAsker` over what is open."""

    def __init__(self, runtime: Runtime, listen: str = "") -> None:
        """Use what is open; `listen` as for `Settings.address`."""
        self._runtime, self._listen = runtime, listen
        self._rates, self._looks = AskRates(), asyncio.Semaphore(_LOOKS)
        self._runs, self._stopped = AskRuns(runtime), asyncio.Event()
        self._queue, self._others = self._runs.queue, AskedElsewhere(runtime, self._runs)

    # What `ImageAsker` promises

    async def ask(self, image: str, platforms: Sequence[str], who: Sequence[str]) -> AskedImage:
        """See `ImageAsker.ask`."""
        tell = self._runtime.events.emit
        tell(ImageAsked(not who))
        judged = self._judged(image, platforms)
        if isinstance(judged, AskedImage):  # which costs no look at the record
            request: OpenRequest | AskedImage = judged
        else:
            await self._others.before_asking()
            request = self._queue.equal(*judged) or await self._begin(*judged, who)
        if isinstance(request, AskedImage):
            tell(AskEnded(request.state, request.reason, 0.0, request.image, who[0] if who else ""))
            return request
        with suppress(TimeoutError):
            async with asyncio.timeout(_PROMPT):
                await request.looked.wait()
        if not request.recorded and not request.record.ended:  # also of one that `close` has left
            request.recorded = True  # who is told an id finds it
            await self._runtime.store.note_asked(request.record)
        return self._seen(request)

    async def find(self, number: str) -> AskedImage | None:
        """See `ImageAsker.find`."""
        if request := self._queue.find(number):
            return self._seen(request)
        record = await self._runtime.store.request(number)
        return self._shown(record) if record else None

    async def follow(self, number: str) -> AsyncIterator[AskedImage]:
        """See `ImageAsker.follow`; it ends early when mirrord does."""
        last: AskedImage | None = None
        found = None if self._queue.find(number) else await self.find(number)
        if found and not found.over:  # another replica was asked just now
            await self._others.before_asking()
        if (request := self._queue.find(number)) is None:
            if found and (found := await self.find(number)):
                yield found
            return
        while not self._stopped.is_set():
            moved, seen = request.moved, self._seen(request)
            if seen != last:
                last = seen
                yield seen
            if seen.over:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY if request.running else None):
                    await moved.wait()

    async def wait(self, number: str) -> AskedImage | None:
        """See `ImageAsker.wait`."""
        last: AskedImage | None = None
        async for one in self.follow(number):
            last = one
        return last

    async def ask_all(self, images: Sequence[str], platforms: Sequence[str]) -> tuple[AskedImage, ...]:
        """Ask for images as the operator, and return how each ended, or until when it waits for a host."""

        async def one(image: str) -> AskedImage:
            while self._full() and self._queue.moving():
                await self._runs.moved.wait()
            asked = await self.ask(image, platforms, ())
            if asked.over:
                return asked
            async for state in self.follow(asked.id):
                asked = state
                if asked.until:
                    break
            return asked

        found = await asyncio.gather(*map(one, images))
        if not self._queue:  # nothing is left half done where the process ends now
            await self._runs.settled()
        return tuple(found)

    def counts(self) -> Mapping[str, int]:
        """Return how many have not ended, by state; see `AskQueue.counts`."""
        return self._queue.counts()

    # What the daemon does

    async def resume(self) -> None:
        """Go on with what an earlier process left, and follow other replicas. Raises StorageError."""
        await self._others.begin()

    async def lead(self) -> None:
        """Copy what waits from now on, or leave that to the replica that leads."""
        await self._others.lead()

    async def close(self) -> None:
        """Let nobody wait any longer; what is queued stays in the record."""
        self._stopped.set()
        await self._others.close()
        await self._runs.close()

    # How an image goes its way

    def _judged(self, image: str, platforms: Sequence[str]) -> tuple[str, tuple[str, ...]] | AskedImage:
        """Return image and platforms in canonical form, or why that is refused whoever asks."""
        read = self._runtime.snapshot.configuration
        rules = read.asking
        if rules is None:
            return refused(image, AskRefusal.OFF, OFF)
        if self._runtime.runner.stopping:
            return refused(image, AskRefusal.STOPPING, "must wait: mirrord is shutting down; ask again later", _LATER)
        judged = judge(image, platforms, rules, read.names, read.denied)
        return judged if isinstance(judged, AskedImage) else (str(judged[0]), judged[1])

    def _full(self) -> bool:
        rules = self._runtime.snapshot.configuration.asking
        return rules is not None and len(self._queue) >= rules.waiting

    async def _begin(self, image: str, wanted: tuple[str, ...], who: Sequence[str]) -> OpenRequest | AskedImage:
        rules = self._runtime.snapshot.configuration.asking
        if rules is None:  # since a reload just now
            return refused(image, AskRefusal.OFF, OFF)
        if not self._full() and who and (wait := await self._wait(who, rules.an_hour)):  # nobody counts for a full one
            limit = f"must wait: no more than {rules.an_hour} images an hour may be asked for; ask again later"
            return refused(image, AskRefusal.RATE, limit, wait)
        if request := self._queue.equal(image, wanted):  # asked for while that was counted
            return request
        if self._full():
            full = f"must wait: {len(self._queue)} images wait already; ask again later"
            return refused(image, AskRefusal.FULL, full, _LATER)
        number = secrets.token_urlsafe(12)
        first = who[0] if who else ""
        record = AskRecord(number, image, wanted, first, AskState.QUEUED, "", "", copied=False, asked=now())
        request = self._queue.add(OpenRequest(record))
        self._runs.task(self._look(request, rules))
        return request

    async def _wait(self, who: Sequence[str], an_hour: int) -> float:
        """Count an image for who asks, or return after how many seconds to ask: of all replicas, where there are."""
        if fleet := self._runtime.fleet:
            return await take_asks(fleet.database, who, an_hour)
        return self._rates.take(who, an_hour, asyncio.get_running_loop().time())

    async def _look(self, request: OpenRequest, rules: AskingRules) -> None:
        """Answer at once where nothing has to be copied; queue the image otherwise."""
        end: AskEnd | None = None

        def taken() -> bool:  # by another replica, which knows better how far it is
            return request.recorded and not self._runs.works

        try:
            async with self._looks:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        end = await self._planned(request, rules)
            if end and end.passes:  # the run finds out until when
                end = None
            if end is None and self._queue.find(request.record.id) and not taken():
                await self._runtime.store.note_asked(request.record)
                request.recorded = True
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of a bug
            end = failed(error)
        if end is not None and not taken():
            await self._runs.end(request, end)
        request.looked.set()
        self._runs.work()

    async def _planned(self, request: OpenRequest, rules: AskingRules) -> AskEnd | None:
        store, current, mirror = self._runtime.store, self._runtime.snapshot, rules.mirror
        await widen([request], self._runtime, rules)
        image, platforms = request.record.image, request.record.platforms
        async with current.lease():
            syncer = current.syncer(mirror)
            narrowed = narrowed_to(mirror, syncer, [image], platforms)
            return planned(await pipeline.plan_mirror(narrowed, syncer, current.services, store, now()))

    # What is shown of it

    def _seen(self, request: OpenRequest) -> AskedImage:
        shown, progress = self._shown(request.record), self._runs.progress
        if shown.over:
            return shown
        if request.running:
            return replace(shown, sent=progress.sent, total=progress.total)
        return replace(shown, ahead=self._queue.ahead(request))

    def _shown(self, record: AskRecord) -> AskedImage:
        state = AskState(record.state)
        number = "" if state is AskState.REFUSED else record.id
        whole = AskedImage(number, record.image, record.platforms, state, record.reason, record.text)
        times = replace(whole, copied=record.copied, asked=record.asked, ended=record.ended, until=record.until)
        current = self._runtime.snapshot
        return replace(times, places=asked_places(current.configuration, current.syncers, record.image, self._listen))
