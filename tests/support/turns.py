"""What one turn of the event loop does, in calls of functions: a count, which is the same on a busy machine.

turns = Turns()
with turns.counted():
    await run()
assert turns.again < ITEMS / 2, turns
"""

from __future__ import annotations

import asyncio
import gc
import io
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from unittest.mock import patch

from mirrord.events import Event, Events, StepDone
from mirrord.report.logs import Logs
from mirrord.report.metrics import Metrics
from mirrord.syncer.values import Mirror

NOW = datetime(2024, 5, 17, tzinfo=UTC)


class Turns:
    """Counts the calls of functions in each turn of the event loop; other threads do not count.

    Attributes:
        most: calls in the turn with the most calls.
        again: calls of one function in the turn that called one function most often: a loop over all items that calls
            anything, and a generator that passes over all of them, have one call for each item.
        calls: function → calls, in that turn.
    """

    def __init__(self) -> None:
        """Count nothing yet."""
        self.most, self.again = 0, 0
        self.calls = Counter[str]()
        self._now = Counter[str]()

    def __repr__(self) -> str:
        """Name what was called most often in one turn."""
        return f"{self.most} calls in a turn, {self.again} of one function: {self.calls.most_common(5)}"

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count until the end of the block, in which no garbage is collected: its callbacks belong to no turn."""
        run = asyncio.events.Handle._run  # every turn goes through it

        def counting(handle: asyncio.Handle) -> None:
            self._now = Counter()
            run(handle)
            calls, self._now = self._now, Counter()  # to read it makes calls, too
            self.most = max(self.most, sum(calls.values()))
            if (again := max(calls.values(), default=0)) > self.again:
                self.again, self.calls = again, calls

        with patch.object(asyncio.events.Handle, "_run", counting):
            gc.disable()
            sys.setprofile(self._called)
            try:
                yield
            finally:
                sys.setprofile(None)
                gc.enable()

    def _called(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            self._now[frame.f_code.co_qualname] += 1


def listen(events: Events, mirror: Mirror) -> None:
    """Let logs and metrics listen as in a daemon; receipts come in slices, and are counted only."""
    logs, metrics = Logs(io.StringIO(), lambda: NOW), Metrics("1")
    metrics.follow([mirror], [], NOW)

    def write(event: Event) -> None:
        if not isinstance(event, StepDone):
            logs(event)

    events.listen(write)
    events.listen(metrics)
