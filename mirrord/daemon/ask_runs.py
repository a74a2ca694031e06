"""Copies what waits of the images that people ask for, in runs of the mirror `asked`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from mirrord import pipeline
from mirrord.asking.asked import AskedImage, AskRefusal, AskState
from mirrord.asking.judged import AskEnd, failed, judge, ran, with_earlier
from mirrord.asking.progress import AskProgress
from mirrord.asking.queue import AskQueue
from mirrord.asking.request import OpenRequest
from mirrord.config.asking import AskingRules
from mirrord.daemon.runtime import Runtime, now
from mirrord.errors import BusyError, FencedError, MirrordError, StorageError, UsageError
from mirrord.events import Event
from mirrord.model.request import ASKED, AskEnded, AskRecord
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Mirror
from mirrord.wire.secret import redact

OFF: Final = "nobody may ask for images here; write asking: {to: [local], allow: [docker.io/library/*]}"
"""What is answered without `asking:`."""
TOGETHER: Final = 50
"""Images of one run."""
PLACES: Final = 3
"""Runs at a time."""
PATIENCE: Final = timedelta(days=1)
"""The longest time for which an image waits for hosts that send it away."""
_AGAIN: Final = 1.0  # seconds after which a record that was away is asked again
_LAST: Final = 5.0  # seconds in which a stopping process records ends


class AskRuns:
    """Copies what waits in a queue, a few runs at a time, and ends it.

    Attributes:
        queue: what was asked for and has not ended.
        progress: of what is being copied.
        moved: set when one ends, or has to wait for a host, and made anew.
        works: whether what waits is copied here: of replicas the one that leads does that.
        owed: what ended, and the record could not take it.
    """

    def __init__(self, runtime: Runtime) -> None:
        """Begin with an empty queue."""
        self.queue, self.progress, self.moved = AskQueue(), AskProgress(), asyncio.Event()
        self.works, self.owed = True, set[str]()
        self._runtime, self._places = runtime, PLACES
        self._tasks, self._ends = set[asyncio.Task[None]](), set[asyncio.Task[None]]()
        self._alarm: asyncio.TimerHandle | None = None
        runtime.events.listen(self._hear)

    def task(self, work: Coroutine[Any, Any, None]) -> None:
        """Work on it until `close`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Wait until nothing is left half done."""
        await asyncio.gather(*self._tasks, *self._ends, return_exceptions=True)

    async def close(self) -> None:
        """Stop working; what is queued stays in the record."""
        if self._ends:
            await asyncio.wait(self._ends, timeout=_LAST)
        for task in (*self._tasks, *self._ends):
            task.cancel()
        await self.settled()
        for request in self.queue:
            request.looked.set()
            request.move()

    def work(self) -> None:
        """Let runs copy what waits, as far as there are places; and again when a host may be asked that wants later."""
        if not self.works:
            return
        while not self._runtime.runner.stopping and self._places and (turn := self.queue.turn(now(), TOGETHER)):
            self._places -= 1
            for request in turn:
                request.here = True
                request.run()
            self.task(self._run([*turn]))
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None
        if due := self.queue.due(at := now()):
            self._alarm = asyncio.get_running_loop().call_later((due - at).total_seconds(), self.work)

    async def _run(self, turn: list[OpenRequest]) -> None:
        """Copy some images in one run; what mirrord does not come to because it shuts down stays queued."""
        try:
            ends, until = await self._copied(turn)
            for request in turn:
                if end := ends.get(request.record.image):
                    await self._conclude(request, end, until)
        finally:
            for request in turn:
                request.here = False
            self.progress.forget(one.record.image for one in turn)
            self._places += 1
            self.work()

    async def _copied(self, turn: list[OpenRequest]) -> tuple[Mapping[str, AskEnd], datetime | None]:
        """Run, and return how the images ended, and until when hosts want to be left alone; `turn` may lose some."""
        ends: dict[str, AskEnd] = {}  # by image

        async def begin() -> None:
            turn[:] = await self._alike(await self._left(turn))
            if self._runtime.fleet:
                await self._note(*turn)

        def narrow(mirror: Mirror, syncer: Syncer) -> tuple[Mirror, Syncer]:
            ends.update({one.record.image: end for one in turn if (end := self._refusal(one.record.image))})
            images = [image for image in dict.fromkeys(one.record.image for one in turn) if image not in ends]
            if not images:
                raise UsageError(OFF)
            return narrowed_to(mirror, syncer, images, turn[0].record.platforms), syncer

        try:
            run = await self._runtime.runner.sync(ASKED, "asked", change=narrow, first=begin)
            return {one.record.image: ran(run, one.record.image) for one in turn} | ends, run.until
        except BusyError:
            end = AskEnd(AskState.FAILED, FencedError.code)
        except UsageError:  # a reload took the mirror away
            end = AskEnd(AskState.REFUSED, AskRefusal.OFF, OFF)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of a bug, and the next image be copied
            end = failed(error)
        return {one.record.image: end for one in turn} | ends, None

    async def _left(self, turn: Sequence[OpenRequest]) -> Sequence[OpenRequest]:
        """Return those that no other replica has ended, which led before and has copied until now."""
        if self._runtime.fleet:
            still = {one.id for one in await self._runtime.store.open_requests()}
            for one in turn:
                if one.record.id not in still and (found := await self._runtime.store.request(one.record.id)):
                    self.leave(one, found)
        return [one for one in turn if not one.ending]

    async def _alike(self, turn: Sequence[OpenRequest]) -> Sequence[OpenRequest]:
        """Add what was copied meanwhile; return those with the same platforms, and let others wait for the next run."""
        if rules := self._runtime.snapshot.configuration.asking:
            await widen(turn, self._runtime, rules)
        other = [one for one in turn if one.record.platforms != turn[0].record.platforms]
        for request in other:
            request.here = False
            request.wait()
        self.work()
        return [one for one in turn if one not in other]

    def _refusal(self, image: str) -> AskEnd | None:
        """Judge again an image whose turn has come: a reload, or a takedown, may have changed what is allowed."""
        read = self._runtime.snapshot.configuration
        if read.asking is None:
            return AskEnd(AskState.REFUSED, AskRefusal.OFF, OFF)
        judged = judge(image, (), read.asking, read.names, read.denied)
        return AskEnd(judged.state, judged.reason, judged.text) if isinstance(judged, AskedImage) else None

    async def _conclude(self, request: OpenRequest, end: AskEnd, until: datetime | None) -> None:
        """End one, or let it wait `until` a host may be asked again that limits the rate.

        Replicas wait for their record, too.
        """
        later = until or now() + timedelta(seconds=pipeline.SOONEST)
        passes = end.passes or (self._runtime.fleet and end.reason == StorageError.code)
        if request.ending:
            return
        if end.reason == FencedError.code:  # whoever leads next copies it
            request.wait()
        elif not passes or later > request.record.asked + PATIENCE:
            await self.end(request, end)
        else:
            request.wait(later, end.reason, redact(end.text))
            self.stir()
            await self._note(request)

    async def _note(self, *requests: OpenRequest) -> None:
        """Let others see how far they are; without a record they see it later."""
        with suppress(MirrordError):
            await self._runtime.store.note_asked(*(one.record for one in requests))

    async def end(self, request: OpenRequest, end: AskEnd) -> None:
        """Note how one ended, and tell it, unless another replica has ended it; `close` waits for that."""
        if request.ending:
            return
        request.ending = True
        # Who was refused at once has no use for it later.
        state = AskState.FAILED if request.recorded and end.state is AskState.REFUSED else end.state
        ended = replace(request.record, state=state, reason=end.reason, text=redact(end.text), copied=end.copied)
        ended = replace(ended, ended=now(), until=None)
        task = asyncio.create_task(self._end(request, ended))
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)
        await asyncio.shield(task)

    async def _end(self, request: OpenRequest, ended: AskRecord) -> None:
        found = ended
        try:
            if ended.state != AskState.REFUSED:
                found = await self._recorded(ended, insist=request.recorded)
        finally:
            self.leave(request, found)  # from now on the record has its end
        if found.ended == ended.ended:  # else it was told by whoever ended it
            result = ended.state if ended.state != AskState.DONE else "copied" if ended.copied else "present"
            seconds = (now() - ended.asked).total_seconds()
            self._runtime.events.emit(AskEnded(result, ended.reason, max(0.0, seconds), ended.image, ended.who))

    async def _recorded(self, ended: AskRecord, *, insist: bool) -> AskRecord:
        """Note an end, and return the one that the record has: among replicas that of the first who noted one.

        One machine goes on where that fails, and the record takes it later. Replicas `insist` while others know of it:
        when the record is back it may have another end.
        """
        store, fleet = self._runtime.store, self._runtime.fleet
        while True:
            try:
                await store.note_asked(ended)
                return (await store.request(ended.id) if fleet else None) or ended
            except MirrordError:
                if not fleet or not insist:
                    self.owed.add(ended.id)
                    return ended
            while True:
                await asyncio.sleep(_AGAIN)
                with suppress(MirrordError):
                    await store.check()
                    break

    def leave(self, request: OpenRequest, ended: AskRecord) -> None:
        """Take an end that the record has."""
        request.ending = True
        self.queue.remove(ended.id)
        request.take(ended)
        self.stir()

    def stir(self) -> None:
        """Wake who waits for a place in the queue."""
        self.moved.set()
        self.moved = asyncio.Event()

    def _hear(self, event: Event) -> None:
        """End an image whose last step is done, though others of its run are not."""
        if (done := self.progress.hear(event)) is None:
            return
        for request in self.queue:
            if request.running and request.record.image == done[0]:
                self.task(self.end(request, done[1]))


async def widen(requests: Sequence[OpenRequest], runtime: Runtime, rules: AskingRules) -> None:
    """Add the platforms that were copied before. Raises StorageError."""
    known = await runtime.store.memory(ASKED)
    for one in requests:
        seen = [known.get((target.name, one.record.image)) for target in rules.mirror.targets]
        platforms = with_earlier(one.record.platforms, rules.platforms, filter(None, seen))
        one.record = replace(one.record, platforms=platforms)


def narrowed_to(mirror: Mirror, syncer: Syncer, images: Sequence[str], platforms: Sequence[str]) -> Mirror:
    """Return the mirror with these images in place of none."""
    assert syncer.asked is not None  # else there is no such mirror
    return replace(mirror, spec=syncer.asked(images, platforms), named=True)
