"""Copies images that people ask for: one run after the other of the mirror `asked`, each of all that waits by then."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from mirrord import pipeline
from mirrord.asking.asked import AskedImage, AskRefusal, AskState
from mirrord.asking.batch import AskBatch
from mirrord.asking.judged import AskEnd, failed, judge, planned, ran, refused, with_earlier
from mirrord.asking.places import asked_places
from mirrord.asking.rates import AskRates
from mirrord.asking.request import OpenRequest
from mirrord.config.asking import AskingRules
from mirrord.daemon.runtime import Runtime, now
from mirrord.errors import BusyError, MirrordError, UsageError
from mirrord.events import Event
from mirrord.model.request import ASKED, AskRecord
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Mirror
from mirrord.wire.secret import redact

OFF: Final = "nobody may ask for images here; write asking: {to: [local], allow: [docker.io/library/*]}"
"""What is answered without `asking:`."""
TOGETHER: Final = 50
"""Images of one run."""
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
        self._open: dict[str, OpenRequest] = {}  # by id, in the order in which they were asked for
        self._tasks: set[asyncio.Task[None]] = set()
        self._working, self._stopped = False, asyncio.Event()
        runtime.events.listen(self._hear)

    # What `ImageAsker` promises

    async def ask(self, image: str, platforms: Sequence[str], who: Sequence[str]) -> AskedImage:
        """See `ImageAsker.ask`."""
        read = self._runtime.snapshot.configuration
        rules = read.asking
        if rules is None:
            return refused(image, AskRefusal.OFF, OFF)
        if self._runtime.runner.stopping:
            return refused(image, AskRefusal.STOPPING, "mirrord is shutting down; ask again later", _LATER)
        judged = judge(image, platforms, rules, read.names, read.denied)
        if isinstance(judged, AskedImage):
            return judged
        source, wanted = judged
        if (request := self._equal(str(source), wanted)) is None:
            found = self._begin(str(source), wanted, rules, who)
            if isinstance(found, AskedImage):
                return found
            request = found
        with suppress(TimeoutError):
            async with asyncio.timeout(_PROMPT):
                await request.looked.wait()
        if not request.recorded and not request.record.ended:  # also of one that `close` has left
            request.recorded = True  # who is told an id finds it
            await self._runtime.store.note_asked(request.record)
        return self._seen(request)

    async def find(self, number: str) -> AskedImage | None:
        """See `ImageAsker.find`."""
        if request := self._open.get(number):
            return self._seen(request)
        record = await self._runtime.store.request(number)
        return self._shown(record) if record else None

    async def follow(self, number: str) -> AsyncIterator[AskedImage]:
        """See `ImageAsker.follow`; it ends early when mirrord does."""
        request, last = self._open.get(number), None
        if request is None:
            if (found := await self.find(number)) is not None:
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
                async with asyncio.timeout(_EVERY if request.batch else None):
                    await moved.wait()

    async def wait(self, number: str) -> AskedImage | None:
        """See `ImageAsker.wait`."""
        last: AskedImage | None = None
        async for one in self.follow(number):
            last = one
        return last

    async def ask_all(self, images: Sequence[str], platforms: Sequence[str]) -> tuple[AskedImage, ...]:
        """Ask for images as the operator, and return how each ended."""

        async def one(image: str) -> AskedImage:
            asked = await self.ask(image, platforms, ())
            return asked if asked.over else await self.wait(asked.id) or asked

        found = await asyncio.gather(*map(one, images))
        if not self._open:  # nothing is left half done where the process ends now
            await asyncio.gather(*self._tasks, return_exceptions=True)
        return tuple(found)

    # What the daemon does

    async def resume(self) -> None:
        """Go on with what an earlier process left. Raises StorageError."""
        for record in await self._runtime.store.open_requests():
            request = self._open.setdefault(record.id, OpenRequest(record, recorded=True))
            request.looked.set()
        self._work()

    async def close(self) -> None:
        """Let nobody wait any longer; what is queued stays in the record."""
        self._stopped.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for request in self._open.values():
            request.looked.set()
            request.move()

    # How an image goes its way

    def _equal(self, image: str, wanted: tuple[str, ...]) -> OpenRequest | None:
        """Return the request under way that copies all that is wanted."""
        for one in self._open.values():
            has = one.record.platforms
            if one.record.image == image and (not has or (wanted and {*wanted} <= {*has})):
                return one
        return None

    def _begin(
        self, image: str, wanted: tuple[str, ...], rules: AskingRules, who: Sequence[str]
    ) -> OpenRequest | AskedImage:
        if len(self._open) >= rules.waiting:  # which counts for nobody
            return refused(image, AskRefusal.FULL, f"{len(self._open)} images wait; ask again later", _LATER)
        if who and (wait := self._rates.take(who, rules.an_hour, asyncio.get_running_loop().time())):
            limit = f"more than {rules.an_hour} images in an hour were asked for; ask again later"
            return refused(image, AskRefusal.RATE, limit, wait)
        number = secrets.token_urlsafe(12)
        first = who[0] if who else ""
        record = AskRecord(number, image, wanted, first, AskState.QUEUED, "", "", copied=False, asked=now())
        request = self._open[number] = OpenRequest(record)
        self._task(self._look(request, rules))
        return request

    async def _look(self, request: OpenRequest, rules: AskingRules) -> None:
        """Answer at once where nothing has to be copied; queue the image otherwise."""
        end: AskEnd | None = None
        try:
            async with self._looks:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        end = await self._planned(request, rules)
            if end is None and request.record.id in self._open:
                await self._runtime.store.note_asked(request.record)
                request.recorded = True
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of a bug
            end = failed(error)
        if end is not None:
            await self._end(request, end)
        request.looked.set()
        self._work()

    async def _planned(self, request: OpenRequest, rules: AskingRules) -> AskEnd | None:
        store, current, mirror = self._runtime.store, self._runtime.snapshot, rules.mirror
        await self._widen([request], rules)
        image, platforms = request.record.image, request.record.platforms
        async with current.lease():
            syncer = current.syncer(mirror)
            narrowed = _narrowed(mirror, syncer, [image], platforms)
            return planned(await pipeline.plan_mirror(narrowed, syncer, current.services, store, now()))

    async def _widen(self, requests: Sequence[OpenRequest], rules: AskingRules) -> None:
        """Add the platforms that were copied before. Raises StorageError."""
        known = await self._runtime.store.memory(ASKED)
        for one in requests:
            seen = [known.get((target.name, one.record.image)) for target in rules.mirror.targets]
            platforms = with_earlier(one.record.platforms, rules.platforms, filter(None, seen))
            one.record = replace(one.record, platforms=platforms)

    def _work(self) -> None:
        """Begin to work on what waits, unless somebody does."""
        if not self._working and self._waiting():
            self._working = True
            self._task(self._run_all())

    def _waiting(self) -> Sequence[OpenRequest]:
        return [one for one in self._open.values() if one.looked.is_set() and one.batch is None]

    async def _run_all(self) -> None:
        try:
            while (waiting := self._waiting()) and not self._runtime.runner.stopping:
                if rules := self._runtime.snapshot.configuration.asking:
                    with suppress(MirrordError):  # the run reports it
                        await self._widen(waiting, rules)  # what the run before has copied is recorded by now
                alike = [one for one in waiting if one.record.platforms == waiting[0].record.platforms]
                if not await self._run(alike[:TOGETHER]):
                    return
        finally:
            self._working = False

    async def _run(self, requests: Sequence[OpenRequest]) -> bool:
        """Copy some images in one run; return False if mirrord is shutting down, and they stay queued."""
        batch, images = AskBatch(), [one.record.image for one in requests]
        for request in requests:
            request.batch = batch
            request.move()

        def narrowed(mirror: Mirror, syncer: Syncer) -> tuple[Mirror, Syncer]:
            return _narrowed(mirror, syncer, images, requests[0].record.platforms), syncer

        ends: Mapping[str, AskEnd]
        try:
            run = await self._runtime.runner.sync(ASKED, "asked", change=narrowed)
            ends = {image: ran(run, image) for image in images}
        except BusyError:
            for request in requests:
                request.batch = None
            return False
        except UsageError:  # a reload took the mirror away
            ends = dict.fromkeys(images, AskEnd(AskState.REFUSED, AskRefusal.OFF, OFF))
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of a bug, and the next image be copied
            ends = dict.fromkeys(images, failed(error))
        for request in requests:
            await self._end(request, ends[request.record.image])
        return True

    async def _end(self, request: OpenRequest, end: AskEnd) -> None:
        """Note how one ended; what the record does not take is lost with this process alone."""
        if request.ending:
            return
        request.ending = True
        # Who was refused at once has no use for it later.
        state = AskState.FAILED if request.recorded and end.state is AskState.REFUSED else end.state
        ended = replace(request.record, state=state, reason=end.reason, text=redact(end.text), copied=end.copied)
        ended = replace(ended, ended=now())
        if state is not AskState.REFUSED:
            with suppress(MirrordError):
                await self._runtime.store.note_asked(ended)
        del self._open[ended.id]  # from now on the record has its end
        request.end(ended)

    def _hear(self, event: Event) -> None:
        """End an image whose last step is done, though others of its run are not."""
        batch = next((one.batch for one in self._open.values() if one.batch and not one.ending), None)
        if batch is None or (done := batch.hear(event)) is None:
            return
        for request in self._open.values():
            if request.batch is batch and request.record.image == done[0]:
                self._task(self._end(request, done[1]))

    # What is shown of it

    def _seen(self, request: OpenRequest) -> AskedImage:
        shown, batch = self._shown(request.record), request.batch
        if shown.over:
            return shown
        if batch:
            return replace(shown, state=AskState.RUNNING, sent=batch.sent, total=batch.total)
        waiting = [one for one in self._open.values() if one.batch is None]
        return replace(shown, ahead=waiting.index(request) if request in waiting else 0)

    def _shown(self, record: AskRecord) -> AskedImage:
        state = AskState(record.state)
        number = "" if state is AskState.REFUSED else record.id
        whole = AskedImage(number, record.image, record.platforms, state, record.reason, record.text)
        times = replace(whole, copied=record.copied, asked=record.asked, ended=record.ended)
        current = self._runtime.snapshot
        return replace(times, places=asked_places(current.configuration, current.syncers, record.image, self._listen))

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _narrowed(mirror: Mirror, syncer: Syncer, images: Sequence[str], platforms: Sequence[str]) -> Mirror:
    """Return the mirror with these images in place of none."""
    assert syncer.asked is not None  # else there is no such mirror
    return replace(mirror, spec=syncer.asked(images, platforms), named=True)
