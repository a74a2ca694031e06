"""Progress of a plan at one target, counted from events: for progress bars and for the status of running mirrors."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from itertools import dropwhile
from typing import Final

from mirrord.events import BytesSent, StepDone, StepSized
from mirrord.printable import size

WINDOW: Final = 10
"""Seconds over which the present rate is measured."""

_ENOUGH: Final = 50  # one part in so many of the known bytes has to be sent before the time left is estimated


@dataclass(slots=True)
class Flow:
    """Bytes that go one way, and their present rate. Times are of the monotonic clock."""

    count: int = 0  # bytes
    last: float = 0.0  # time of the last bytes
    _recent: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=WINDOW + 1))  # second, bytes

    def add(self, count: int) -> None:
        """Count bytes that have gone now."""
        self.count += count
        self.last = time.monotonic()
        second = int(self.last)
        if self._recent and self._recent[-1][0] == second:
            count += self._recent.pop()[1]
        self._recent.append((second, count))

    @property
    def pace(self) -> float | None:
        """Bytes a second over the last ten seconds, or since the first of them; None before the first byte."""
        if not self.count:
            return None
        now = time.monotonic()
        recent = list(dropwhile(lambda one: one[0] <= now - WINDOW, self._recent))
        return sum(count for _, count in recent) / max(1.0, now - recent[0][0]) if recent else 0.0

    def seconds_for(self, missing: float, total: int) -> float | None:
        """Return the seconds for the missing bytes of `total`; None if they are unknown.

        They are unknown before a part of `total` went: the first bytes are those of small blobs, and say nothing of
        the rate.
        """
        pace = self.pace if self.count * _ENOUGH >= total else None
        return missing / pace if pace else None


@dataclass(slots=True)
class Tally:
    """Progress of a plan at one target. Times are of the monotonic clock."""

    planned: int
    began: float = field(default_factory=time.monotonic)
    ended: int = 0
    good: int = 0
    bad: int = 0
    source: Flow = field(default_factory=Flow)  # what the run reads, for all its targets
    out: Flow = field(default_factory=Flow)  # what was sent
    content: int = 0  # bytes of the steps whose size is known
    _sizes: dict[str, int] = field(default_factory=dict)  # bytes of running steps, by item
    _sized: int = 0  # steps whose bytes are known
    _through: int = 0  # known bytes of the ended ones
    _settled: int = 0  # bytes that the ended ones sent
    _most: float = 0.0

    def take(self, event: BytesSent | StepSized | StepDone) -> None:
        """Count an event at this target."""
        match event:
            case BytesSent(_, count):
                self.out.add(count)
            case StepSized(_, item, total) if item not in self._sizes:
                self._sizes[item] = total
                self._sized += 1
                self.content += total
            case StepDone(_, receipt):
                self.ended += 1
                self.good += receipt.good
                self.bad += receipt.bad
                self._through += self._sizes.pop(receipt.step.item, 0)
                self._settled += receipt.sent
            case _:
                pass

    @property
    def sent(self) -> int:
        """Bytes sent so far."""
        return self.out.count

    @property
    def share(self) -> float:
        """The completed share of the plan, from 0 to 1. It never falls, and is 1 only when all steps have ended.

        It is measured in steps, and in bytes for steps whose size is known.
        """
        if self.ended >= self.planned:
            return 1.0
        share = self.ended / self.planned
        if self.content:
            done = min(1.0, max(self._through, self.sent) / self.content)
            share = max(share, self._sized / self.planned * done)
        self._most = max(self._most, min(share, 0.99))
        return self._most

    @property
    def rate(self) -> str:
        """The average rate since the plan: `24.0 MiB/s`, or "" before the first byte."""
        seconds = self.out.last - self.began
        return f"{size(self.sent / seconds)}/s" if self.sent and seconds > 0 else ""

    @property
    def steps(self) -> str:
        """Ended and planned steps: `3/12`, `3/12, 1 failed`."""
        return f"{self.ended}/{self.planned}{f', {self.bad} failed' if self.bad else ''}"

    @property
    def left(self) -> float | None:
        """Seconds until all steps will have ended, or None if that is unknown.

        By bytes, if sizes are known: steps of unknown size are taken for average ones, which send as much of their
        content as those did that have ended. The slower of sending and reading counts. What was read and not yet sent
        is not read again. Where more was sent than read, the content is from elsewhere, and reading does not count.
        Without sizes by the time that the ended steps took.
        """
        waiting = max(0, self.planned - self.ended)
        if not waiting:
            return 0.0
        if not self.content:
            return waiting * (time.monotonic() - self.began) / self.ended if self.ended else None
        running, under_way = sum(self._sizes.values()), max(0, self.sent - self._settled)
        sending = self._settled / self._through if self._through else 1.0
        unknown = max(0, waiting - len(self._sizes)) * self.content / self._sized * min(1.0, sending)
        missing = max(0, running - under_way) + unknown
        ahead = self.source.count - self.sent
        reading = self.source.seconds_for(missing - ahead, self.content) if 0 <= ahead < missing else None
        known = [one for one in (self.out.seconds_for(missing, self.content), reading) if one is not None]
        return max(known, default=None)
