"""Decides when to retry, how fast to send and which request may start, without clock and I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

from mirrord.errors import (
    MirrordError,
    ServerError,
    StalledError,
    ThrottledError,
    TransportError,
    UnreachableError,
)
from mirrord.wire.http.message import Limits

LONGEST_WAIT: Final = 3600.0
PIECE: Final = 64 * 1024
"""Bytes that are taken from a `Bucket` at a time, at most."""
_IN_USE: Final = 1.0
_FAILURES: Final = 3
_FIRST: Final = 0.5
_CEILING: Final = 300.0
_EPOCH: Final = 1e9  # Docker Hub has sent the time itself instead of a distance (docker/docs #22916)


def retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that a `Retry-After` asks for, or None when it is invalid (RFC 9110 10.2.3).

    Args:
        value: seconds, an HTTP date, or a Unix time.
        now: Unix time.
    """
    if not value:
        return None
    text = value.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):  # a year of twenty digits
            return None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
    else:
        if not math.isfinite(seconds):
            return None
        if seconds > _EPOCH:
            seconds -= now
    return max(seconds, 0.0)


class Repeat(StrEnum):
    """When a request may be sent again."""

    ALWAYS = "always"
    UNSENT = "unsent"  # only when nothing of its body can have been consumed


def decide(
    attempt: int,
    error: MirrordError,
    limits: Limits,
    *,
    waited: float = 0.0,
    repeat: Repeat = Repeat.ALWAYS,
    jitter: Callable[[], float],
) -> float | None:
    """Return the seconds to wait before the next attempt after a failed one, or None to give up.

    Waits grow as full-jitter exponential backoff; what a host asks for in `Retry-After` is kept to, unless that
    is longer than this call may wait: then the error goes to the caller at once, with the time in it.

    Args:
        attempt: attempts made so far, at least 1.
        error: how the last one failed.
        limits: attempts and patience.
        waited: seconds already waited for this call.
        repeat: what may be repeated.
        jitter: returns a random number in [0, 1).
    """
    unsent = isinstance(error, (ThrottledError, UnreachableError))
    if not error.retry or attempt >= limits.attempts or (repeat is Repeat.UNSENT and not unsent):
        return None
    asked = error.after if isinstance(error, TransportError) else None
    delay = jitter() * min(_CEILING, _FIRST * 2 ** min(attempt, 20)) if asked is None else asked
    return None if delay > min(LONGEST_WAIT, limits.patience - waited) else delay


@dataclass(slots=True)
class MinThroughput:
    """Minimum throughput over windows of time, counting only time spent on waiting for the other side."""

    floor: float  # bytes a second
    window: float  # seconds
    _spent: float = 0.0
    _count: int = 0

    def beat(self, seconds: float, count: int) -> bool:
        """Add `count` bytes that took `seconds`; False when a whole window was slower than the floor."""
        self._spent += seconds
        self._count += count
        if self._spent < self.window:
            return True
        good = self._count >= self.floor * self._spent
        self._spent, self._count = 0.0, 0
        return good


@dataclass(slots=True)
class Bucket:
    """A token bucket for bandwidth: may hold one second's worth, may go into debt for one chunk.

    While the other one of a pair is in use, up to a second after what it took is paid for, each has half the rate.
    Take pieces of at most `PIECE`, so that what flows never stops for long.
    """

    rate: float  # bytes a second
    other: Bucket | None = field(default=None, repr=False, compare=False)  # who shares the rate, or None
    above: Bucket | None = field(default=None, repr=False, compare=False)  # what is taken from, too: that of all hosts
    _level: float = 0.0
    _at: float | None = None
    _used: float = -math.inf  # until when it is in use

    def take(self, count: int, now: float) -> float:
        """Take `count` bytes at the monotonic time `now`; return the seconds to wait before going on."""
        rate = self.rate / 2 if self.other is not None and self.other._used > now else self.rate  # noqa: SLF001 - a pair
        if self._at is not None:
            self._level = min(rate, self._level + (now - self._at) * rate)
        self._at = now
        self._level -= count
        wait = max(0.0, -self._level / rate)
        if self.above is not None:
            wait = max(wait, self.above.take(count, now))
        self._used = now + wait + _IN_USE
        return wait


class Party(StrEnum):
    """On whose behalf a host is asked."""

    RUNS = "runs"  # mirrors, and commands
    FRONT = "front"  # clients that pull through


class RequestClass(StrEnum):
    """What a request weighs."""

    SMALL = "small"
    DOWN = "down"
    UP = "up"


def admits(kind: RequestClass, active: Mapping[RequestClass, int], limit: int) -> bool:
    """Whether one more request may start, besides those that are `active`, at a host that takes `limit` at once.

    One place is kept for small requests and one for downloads, so that neither starves behind uploads. Beyond
    the limit goes at most one download: uploads may be waiting for exactly those bytes, and a copy from a host to
    itself must not stop for ever.
    """
    total = sum(active.values())
    match kind:
        case RequestClass.SMALL:
            return total < limit
        case RequestClass.UP:
            return active[RequestClass.UP] < max(1, limit - 2) and total < max(1, limit - (limit > 1))
        case RequestClass.DOWN:
            return active[RequestClass.DOWN] == 0 or total < limit - 1


def admits_share(
    kind: RequestClass, own: Mapping[RequestClass, int], active: Mapping[RequestClass, int], limit: int
) -> bool:
    """Whether a party may start one more request at a host that two share, `own` of the `active` ones being its own.

    Within its third (rounded up) it may whatever the other does; beyond it as `admits` says, but never into the
    other's third. Each party may have one download beyond the limit, for the reason that `admits` has.
    """
    third = -(-limit // 3)
    return admits(kind, own, third) or (admits(kind, own, limit - third) and admits(kind, active, limit))


def overloaded(error: MirrordError, *, sending: bool = False) -> bool:
    """Whether an error says that a host gets more at once than it can take.

    While a body is sent only an answer says so: what stalls may be the source of the body.
    """
    if isinstance(error, ServerError):
        return error.status in (503, 504)
    return isinstance(error, ThrottledError) or (isinstance(error, StalledError) and not sending)


@dataclass(slots=True)
class Concurrency:
    """How many requests a host gets at once: half as many when it is overloaded, and slowly more again (AIMD).

    One overload fails many requests: those that were under way at a halving do not halve again. Each request takes
    the `epoch` of its start along.
    """

    ceiling: int
    limit: int = 0  # at present; from 1 to `ceiling`
    epoch: int = 0
    _good: int = 0

    def __post_init__(self) -> None:
        """Begin with all."""
        self.limit = self.ceiling

    def overloaded(self, epoch: int) -> None:
        """Note that a request failed since the host is overloaded."""
        if epoch == self.epoch:
            self.limit, self.epoch, self._good = max(1, self.limit // 2), epoch + 1, 0

    def went_well(self, epoch: int) -> bool:
        """Note that a request was answered; return whether one more may go at once from now on."""
        if self.limit == self.ceiling or epoch != self.epoch:
            return False
        self._good += 1
        if self._good < self.limit:
            return False
        self.limit, self._good = self.limit + 1, 0
        return True


@dataclass(slots=True)
class Circuit:
    """Whether a host is asked: after three failures in a row it rests for a while, and then somebody looks."""

    rest: float  # seconds
    reason: str = ""  # the last failure
    _failures: int = 0
    _until: float = 0.0

    @property
    def open(self) -> bool:
        """Whether nobody asks before somebody has looked."""
        return self._failures >= _FAILURES

    def rests(self, now: float) -> bool:
        """Whether no request may go to the host at this monotonic time; unlike `closed` this takes no turn."""
        return self.open and now < self._until

    def closed(self, now: float) -> bool:
        """Whether a request may go to the host at this monotonic time; of an open one whether it is time to look."""
        if not self.open:
            return True
        if now < self._until:
            return False
        self._until = now + self.rest
        return True

    def note(self, failure: str, now: float) -> None:
        """Note how a request ended: "" when the host answered, whatever it said."""
        self.reason, self._until = failure, now + self.rest
        self._failures = self._failures + 1 if failure else 0
