"""When a mirror runs: `every`, `cron`, `timezone`, `jitter`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import pairwise
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mirrord.config.check import Strict
from mirrord.config.lines import nearest
from mirrord.config.units import Duration, Stale, between
from mirrord.syncer.values import Schedule

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
_PATIENCE = 3  # missed starts after which a mirror is stale
_LEAST = 3600.0  # seconds after which it is, however often it starts
_DAY = 24 * 60  # minutes
_SUNDAY = date(2023, 1, 1).toordinal()
_PERIOD = 9 * 366  # days, two of which are 29 February
_PART = re.compile(r"(?P<first>\*|[0-9]{1,4}|[a-z]{3})(?:-(?P<last>[0-9]{1,4}|[a-z]{3}))?(?:/(?P<step>[0-9]{1,4}))?")


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        if text in self.words:
            return self.words.index(text) + self.low
        if not text.isdecimal():
            raise ValueError(f"{text!r} is not a number{' or name' if self.words else ''}")
        if not self.low <= int(text) <= self.high:
            raise ValueError(f"{text} is outside {self.low}-{self.high}")
        return int(text)

    def values(self, text: str) -> frozenset[int]:
        """Return the numbers that the text of the field means."""
        return frozenset().union(*(self._part(part) for part in text.lower().split(",")))

    def _part(self, text: str) -> range:
        match = _PART.fullmatch(text)
        if not match or (match["first"] == "*" and match["last"]):
            raise ValueError(f"{text!r} cannot be read")
        first, last, step = match["first"], match["last"], int(match["step"] or 1)
        low = self.low if first == "*" else self.number(first)
        high = self.number(last) if last else self.high if first == "*" or match["step"] else low
        if low > high:
            raise ValueError(f"{text!r} ends before it begins")
        if not 1 <= step <= self.high - self.low + 1:
            raise ValueError(f"step {step} is outside 1-{self.high - self.low + 1}")
        return range(low, high + 1, step)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)


def parse_cron(text: str) -> str:
    """Check a cron line and return it with the days of the week as names.

    Cron programs count Sunday as 0 and 7, other schedulers count Monday as 0; names mean the same to all.

    Raises:
        ValueError: not five fields, a field out of its range (the text holds its position and name), a day that
            no month has, or both kinds of days restricted, which some programs combine with "and", others with "or".
    """
    if text.startswith("@"):
        raise ValueError(f"{text[:20]!r} is a nickname; write five fields, such as '17 3 * * *'")
    fields = text.split()
    if len(fields) != len(_FIELDS):
        names = ", ".join(field.name for field in _FIELDS)
        raise ValueError(f"has {len(fields)} fields; write five ({names}), such as '17 3 * * *'")
    read: list[frozenset[int]] = []
    for field, part in zip(_FIELDS, fields, strict=True):
        try:
            read.append(field.values(part))
        except ValueError as error:
            example = f"*, {field.low}, {field.low}-{field.high} or */2"
            raise ValueError(f"field {len(read) + 1} ({field.name}): {error}; write for example {example}") from error
    days, months, weekdays = read[2:]
    if fields[2] != "*" and fields[4] != "*":
        raise ValueError("field 3 (day of month) and field 5 (day of week) are both restricted; leave one of them '*'")
    if not any(day <= _LONGEST.get(month, 31) for month in months for day in days):
        raise ValueError(
            f"field 3 (day of month): {fields[2]} does not exist in month {fields[3]}; write a day that does"
        )
    if fields[4] != "*":
        fields[4] = ",".join(_DAYS[day] for day in sorted({weekday % 7 for weekday in weekdays}))
    return " ".join(fields).lower()


def _timezone(name: str) -> str:
    if name == "UTC":
        return name  # works without time zone data, too
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        known = nearest(name, available_timezones())
        hint = known if known.startswith("did") else "write an IANA name, such as Asia/Shanghai, or UTC"
        raise ValueError(f"{name[:60]!r} is not a time zone; {hint}") from error
    return name


def longest_gap(schedule: Schedule) -> float:
    """Return the longest time between two starts in seconds, without jitter and changes of summer time."""
    if schedule.every is not None:
        return schedule.every
    parts = (schedule.cron or "").split()
    minutes, hours = (field.values(part) for field, part in zip(_FIELDS[:2], parts, strict=False))
    times = sorted(60 * hour + minute for hour in hours for minute in minutes)
    over_night = _DAY * _most_days(*parts[2:]) - times[-1] + times[0]
    return 60.0 * max([over_night, *(later - earlier for earlier, later in pairwise(times))])


@lru_cache(1000)
def _most_days(*parts: str) -> int:
    """Return the longest time between two days with starts in days, given the last three fields of a cron line."""
    days, months, weekdays = (field.values(part) for field, part in zip(_FIELDS[2:], parts, strict=True))
    dates = (date.fromordinal(_SUNDAY + number) for number in range(_PERIOD))
    starts = [
        number
        for number, day in enumerate(dates)
        if day.day in days and day.month in months and not weekdays.isdisjoint((number % 7, number % 7 or 7))
    ]
    return max((later - earlier for earlier, later in pairwise(starts)), default=_PERIOD)


class Timing(Strict):
    """The keys of a mirror for its schedule."""

    model_config = ConfigDict(
        json_schema_extra={
            "not": {"required": ["every", "cron"]},
            "dependentRequired": {"timezone": ["cron"]},
        }
    )

    every: Annotated[Duration, AfterValidator(between("10s", "366d"))] | None = Field(
        default=None, description="Time between two runs, 10 s to 366 d."
    )
    cron: Annotated[str, AfterValidator(parse_cron)] | None = Field(
        default=None,
        description=(
            "Five fields instead of `every`: minute, hour, day of month, month, day of week. Put quotes around them."
        ),
        examples=["'17 3 * * *'"],
    )
    timezone: Annotated[str, AfterValidator(_timezone)] | None = Field(
        default=None, description="IANA name of the time zone of `cron`. Default: `UTC`.", examples=["Asia/Shanghai"]
    )
    jitter: Annotated[Duration, AfterValidator(between("0s", "1d"))] | None = Field(
        default=None, description="Maximum of the random delay that is added to each start, at most 1 d. Default: `0s`."
    )

    stale: Stale | None = Field(
        default=None,
        description=(
            "Time without a successful run after which the mirror counts as stale, 1 m to 3660 d. Default:"
            " `settings.stale`, without that three times the longest time between two starts, at least `1h`; never"
            " without a schedule."
        ),
    )

    @model_validator(mode="after")
    def _agree(self) -> Timing:
        if self.every is not None and self.cron is not None:
            raise ValueError("`every` and `cron` are both given; keep one of them")
        if self.timezone and not self.cron:
            raise ValueError("`timezone` needs `cron`; write `cron:`, or remove `timezone`")
        if self.jitter is not None and self.every is None and self.cron is None:
            raise ValueError("`jitter` needs `every` or `cron`; write one of them, or remove `jitter`")
        return self

    @property
    def schedule(self) -> Schedule | None:
        """The schedule, or None when the mirror runs only when asked."""
        if self.every is None and self.cron is None:
            return None
        return Schedule(self.every, self.cron, self.timezone or "UTC", self.jitter or 0.0)

    @property
    def interval(self) -> float | None:
        """Return the longest time between two starts in seconds, or None without a schedule."""
        return longest_gap(self.schedule) if self.schedule else None

    def stale_after(self, default: float | None) -> float | None:
        """Return the seconds without success after which the mirror is stale, or None for never."""
        if self.stale is not None or self.interval is None:
            return self.stale
        return default or max(_PATIENCE * self.interval, _LEAST)
