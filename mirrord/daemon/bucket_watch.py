"""Whether the bucket of `local` answers: by what runs and clients ask of it, and by a look where they ask nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Final

from mirrord.blobs.s3 import MARKER
from mirrord.errors import MirrordError
from mirrord.events import Event
from mirrord.model.remote import BucketAsked
from mirrord.wire.bucket_address import BucketAddress

EVERY: Final = 30.0
"""Seconds without an answer after which the bucket is looked for."""
AGAIN: Final = 5.0
"""Seconds between two looks while it is away."""
PATIENCE: Final = 12.0
"""Seconds of a look."""


class BucketWatch:
    """What is known of the bucket; listens to events by being called with them.

    A request that fails says little: it may be about one object. So a look decides, one HEAD. An answer to any other
    request says that the bucket is there.

    Attributes:
        away: why it cannot be used, or "".
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[object]],
        notice: Callable[[str, str], None],
    ) -> None:
        """Assume that it is there; `look` asks for something, `notice` writes a line of the log of a level."""
        self.away = ""
        self._look, self._notice = look, notice
        self._answered, self._doubt = monotonic(), asyncio.Event()

    def __call__(self, event: Event) -> None:
        """Take the outcome of a request."""
        if isinstance(event, BucketAsked):
            if event.outcome == "failed":
                self._doubt.set()
            else:
                self._found("")

    async def watch(self) -> None:
        """Look when it is time; never returns."""
        while True:
            if not self.away:
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, self._answered + EVERY - monotonic())):
                        await self._doubt.wait()
            if self._doubt.is_set() or self.away or monotonic() - self._answered >= EVERY:
                await self.look()
                self._doubt.clear()
                await asyncio.sleep(AGAIN)  # many failures are one look

    async def look(self) -> None:
        """Ask for something small."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._look()
        except TimeoutError:
            self._found(f"no answer in {PATIENCE:.0f} s")
        except MirrordError as error:
            self._found(str(error))
        else:
            self._found("")

    def _found(self, away: str) -> None:
        if not away:
            self._answered = monotonic()
        if bool(away) != bool(self.away):
            said = f"the bucket of `local` cannot be used: {away}" if away else "the bucket of `local` answers again"
            self._notice("warning" if away else "info", said)
        self.away = away


def bucket_watch(address: BucketAddress, notice: Callable[[str, str], None]) -> BucketWatch:
    """Return what watches a bucket, with a connection of its own, on which little is tried again."""
    from mirrord.wire.bucket import BucketPatience, ObjectBucket  # noqa: PLC0415 - only who has a bucket loads it

    objects = ObjectBucket(address, BucketPatience(stalled=5.0, attempts=1, whole=8.0))
    return BucketWatch(lambda: objects.head(MARKER), notice)
