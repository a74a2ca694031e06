"""How much of a host one account may use, as the host's answers say: quotas, and pauses that it asks for.

After a refusal one request finds out whether the host answers again, and the others wait for it (`PauseLook`): a crowd
that goes on when a pause ends costs one request if it has not ended.

Without clock and I/O: `now` is monotonic time, `wall` Unix time.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from mirrord.wire.http.message import HttpRequest
from mirrord.wire.http.pace import retry_after
from mirrord.wire.number import whole
from mirrord.wire.oci.profiles import GENERIC, Profile

LONGEST_PAUSE: Final = 86400.0
"""Seconds for which a host is left alone at most, whatever it says: somebody must see that it means it."""
_SHORTEST_PAUSE: Final = 1.0
LONGEST_BELIEF: Final = 3600.0
"""Seconds after which a quota whose end is not named is looked at again: windows slide."""
_SHARE: Final = 5  # part of a quota that schedules leave to people
_LEAST: Final = 10  # requests that they leave at least, as long as that is no more than half of the quota
_REMAINING: Final = (("", "ratelimit-remaining"), ("x-", "x-ratelimit-remaining"))
_QUOTA: Final = re.compile(r"\s*([0-9]{1,18})(?:\s*;\s*w\s*=\s*([0-9]{1,9}))?(?:\s*[,;]|\s*\Z)")


class Quota(NamedTuple):
    """What one answer says about the quota."""

    remaining: int  # requests
    limit: int = 0  # the whole of it; 0 if unknown
    window: float | None = None  # seconds in which it is renewed, or None
    reset: float | None = None  # seconds until it is renewed, or None


def quota_of(headers: Mapping[str, str], wall: float) -> Quota | None:
    """Return the quota in the headers of an answer (names in lower case), or None when there is none.

    `ratelimit-remaining: 76;w=21600` is Docker Hub's form, `x-ratelimit-remaining: 76` that of GitHub and of many
    more; `ratelimit-reset` has seconds (IETF draft) or a Unix time (GitHub, GitLab).
    """
    for prefix, name in _REMAINING:
        remaining, window = _first(headers[name]) if name in headers else (None, None)
        if remaining is not None:
            limit, whole_window = _first(headers.get(f"{prefix}ratelimit-limit", ""))
            reset = retry_after(headers.get(f"{prefix}ratelimit-reset"), wall)
            return Quota(remaining, limit or 0, window or whole_window, reset)
    return None


def _first(text: str) -> tuple[int | None, float | None]:
    """Return the number in `100;w=21600`, and its window in seconds; of a list its first member counts."""
    match = _QUOTA.match(text[:100])
    return (int(match[1]), float(match[2]) if match[2] else None) if match else (None, None)


def pause_of(headers: Mapping[str, str], wall: float) -> float | None:
    """Return the seconds after which a host that limits the rate wants to be asked again, None if it does not say.

    `X-Retry-After` is Docker Hub's; without either the time at which a quota that is used up is renewed counts.
    """
    for name in ("retry-after", "x-retry-after"):
        seconds = named_pause(headers.get(name), wall)
        if seconds is not None:
            return seconds
    quota = quota_of(headers, wall)
    for prefix in ("", "x-") if quota is None or quota.remaining == 0 else ():
        seconds = named_pause(headers.get(f"{prefix}ratelimit-reset"), wall)
        if seconds is not None:
            return seconds
    return None


def named_pause(value: str | None, wall: float) -> float | None:
    """Return the seconds that a refusal asks for, or None: a time that is over names none to a host that refuses."""
    seconds = retry_after(value, wall)
    return None if seconds is None or seconds < _SHORTEST_PAUSE else min(seconds, LONGEST_PAUSE)


def limited(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer limits the rate: 429, and GitHub's 403 with a quota and a time, or with nothing left of it."""
    remaining = headers.get("x-ratelimit-remaining")
    if status == 403 and remaining is not None:
        return "retry-after" in headers or whole(remaining.strip()) == 0
    return status == 429


def counts(request: HttpRequest, registry: Profile) -> bool:
    """Whether a request is charged: all are where nobody says which are not."""
    method, part = registry.charges
    return not method or (request.method == method and part in request.url)


def is_quota(registry: Profile, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a 429 is about the quota, so that what is not charged goes on.

    Docker Hub has two: `toomanyrequests: You have reached your … pull rate limit` is the quota, and
    `Too Many Requests (HAP429)` guards against abuse by requests of every kind (docker/hub-feedback#1907).
    """
    return registry.charges != GENERIC.charges and ("ratelimit-limit" in headers or b"pull rate limit" in body)


class Wait(NamedTuple):
    """Why a request is not sent now."""

    seconds: float
    reason: str


@dataclass(slots=True)
class PauseLook:
    """A request that finds out whether a host answers again.

    Attributes:
        about: for which requests: what is charged, what is not, or both.
        cut_off: whether it was cancelled, so that nobody knows more than before.
        over: whether it was answered, or not.
    """

    about: frozenset[bool]
    cut_off: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Budget:
    """What one account may ask one host.

    Attributes:
        doubted: which requests were refused the last time: what is charged, what is not, or both.
        look: the last look.
    """

    doubted: frozenset[bool] = frozenset()
    look: PauseLook | None = None
    _left: int = 0  # requests of the quota
    _limit: int = 0
    _renewed: float = 0.0  # until when `_left` is believed
    _named: bool = False  # whether the host named that time
    _paused: float = 0.0  # until when nothing is asked
    _used_up: float = 0.0  # until when nothing that is charged is asked

    @property
    def reserve(self) -> int:
        """Requests that schedules leave to people: a fifth of the quota, at least ten of one that has twenty."""
        return max(self._limit // _SHARE, min(_LEAST, self._limit // 2))

    def wait(self, now: float, *, charged: bool, reserved: bool) -> Wait | None:
        """Return why a request has to wait, None to let it go.

        Args:
            now: monotonic time.
            charged: whether it counts at the host; see `counts`.
            reserved: whether a reserve is left to others: by what runs on a schedule.
        """
        paused = max(self._paused, self._used_up) if charged else self._paused
        if now < paused:
            return Wait(paused - now, "asked us to wait")
        if not charged or now >= self._renewed:
            return None
        least = self.reserve if reserved else 0
        if self._left <= least and (reserved or self._named):
            kept = f", which are kept for people: scheduled runs leave {least} of {self._limit}" if least else ""
            return Wait(self._renewed - now, f"allows {self._left} more requests{kept}")
        return None

    @property
    def until(self) -> float:
        """When nothing of it holds any longer, in monotonic time."""
        return max(self._renewed, self._paused, self._used_up)

    def spend(self) -> None:
        """Count a request that is charged, until an answer says how many are left."""
        self._left = max(0, self._left - 1)

    def note(self, quota: Quota, now: float) -> None:
        """Note what an answer says."""
        span = quota.reset
        if span is None and quota.window is not None:
            span = min(quota.window, LONGEST_BELIEF)
        if span is not None:  # a number without time says nothing about later
            self._left, self._limit, self._named = quota.remaining, quota.limit, quota.reset is not None
            self._renewed = now + min(span, LONGEST_PAUSE)

    def refused(self, seconds: float | None, now: float, *, partly: bool = False) -> None:
        """Ask nothing for a while, if the host wants that; with `partly` what is not charged is asked all the same."""
        self.doubted |= {True} if partly else {True, False}
        until = now + min(seconds or 0.0, LONGEST_PAUSE)
        if partly:
            self._used_up = max(self._used_up, until)
        else:
            self._paused = max(self._paused, until)

    def looked_for(self, *, charged: bool) -> PauseLook | None:
        """Return the look whose end a request has to await."""
        return self.look if self.look and charged in self.look.about and not self.look.over.is_set() else None

    def begin_look(self, *, charged: bool) -> PauseLook | None:
        """Let the request that goes now find out for all, if such ones were refused the last time."""
        doubted = self.doubted | self.look.about if self.look and self.look.cut_off else self.doubted
        if charged not in doubted:
            return None
        self.look, self.doubted = PauseLook(doubted), frozenset()
        return self.look
