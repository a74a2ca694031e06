"""Which cron expressions can be said in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_NUMBERS: Final = re.compile(r"[0-9]{1,2}(?:,[0-9]{1,2}){0,3}")
_STEP: Final = re.compile(r"\*/([0-9]{1,2})")
_DAY: Final = re.compile(r"[a-z]{3}(?:,[a-z]{3}){0,6}")
_WEEK: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Clockwork:
    """A cron expression that can be said in words."""

    every: int = 0  # seconds between two runs, or 0
    times: tuple[str, ...] = ()  # `03:17`: of a day, or the first one with `every`; empty means each hour
    minute: int = 0  # of each hour, without `every` and `times`
    weekdays: tuple[str, ...] = ()  # `mon`, from Monday; empty means all
    day: int = 0  # of the month; 0 means all


def read_cron(text: str) -> Clockwork | None:
    """Read five fields as `config.schedules.parse_cron` returns them; None for what is not simple."""
    fields = text.split()
    if len(fields) != 5 or fields[3] != "*":
        return None
    minute, hour, day, _, weekday = fields
    if day == weekday == "*" and (often := _interval(minute, hour)):
        return often
    if not minute.isdecimal() or not _NUMBERS.fullmatch(hour):
        return None
    times = tuple(f"{one:02}:{int(minute):02}" for one in sorted({int(one) for one in hour.split(",")}))
    if weekday != "*":
        named = weekday.split(",") if day == "*" and _DAY.fullmatch(weekday) else []
        days = tuple(one for one in _WEEK if one in named)
        return Clockwork(times=times, weekdays=days) if days else None
    if day == "*":
        return Clockwork(times=times)
    return Clockwork(times=times, day=int(day)) if day.isdecimal() else None


def _interval(minute: str, hour: str) -> Clockwork | None:
    """Read what runs more often than once a day; a step that does not divide its hour or day is not simple."""
    step = _STEP.fullmatch(minute if hour == "*" else hour)
    if hour == "*":
        if minute == "*":
            return Clockwork(every=60)
        if minute.isdecimal():
            return Clockwork(minute=int(minute))
        return Clockwork(every=60 * int(step[1])) if step and int(step[1]) and not 60 % int(step[1]) else None
    if not step or not int(step[1]) or 24 % int(step[1]) or not minute.isdecimal():
        return None
    return Clockwork(every=3600 * int(step[1]) if step[1] != "24" else 0, times=(f"00:{int(minute):02}",))
