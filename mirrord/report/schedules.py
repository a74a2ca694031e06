"""Schedules as a status says them. Pure."""

from __future__ import annotations

from typing import Final

from mirrord.syncer.values import Schedule


def scheduled(schedule: Schedule | None) -> str:
    """Format a schedule: `every 6 h`, `17 3 * * * UTC`, or "" for none."""
    if schedule is None:
        return ""
    if schedule.every is None:
        return f"{schedule.cron} {schedule.timezone}"
    seconds = round(schedule.every)
    unit, length = next((unit for unit in UNITS if not seconds % unit[1]), ("s", 1))
    return f"every {seconds // length} {unit}"


def schedule_of(text: str) -> Schedule | None:
    """Return the schedule that `scheduled` formatted, without its jitter."""
    words = text.split(" ")
    if not text:
        return None
    if words[0] == "every":
        return Schedule(every=float(words[1]) * dict(UNITS).get(words[2], 1))
    return Schedule(cron=" ".join(words[:-1]), timezone=words[-1])


UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60))
"""Units of time with their seconds, the longest first."""
