"""Intervals and schedules of other tools as `every`, `cron` and `timezone`."""

from __future__ import annotations

import re

from mirrord.config.schedules import parse_cron
from mirrord.config.units import spell_duration
from mirrord.importing.values import Keys

SHORTEST = 10  # seconds, of `every`
_GO_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|s|m|h)")
_GO = re.compile(rf"(?:{_GO_PART.pattern}){{1,6}}")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_ZONE = re.compile(r"(?:CRON_)?TZ=(\S+)\s+(.*)")


def every(seconds: float) -> Keys:
    """Return the keys for an interval; one below ten seconds becomes ten."""
    return {"every": spell_duration(max(SHORTEST, round(seconds)))}


def interval(text: str) -> Keys:
    """Return the keys for a duration as Go writes it: `1h30m`.

    Raises:
        ValueError: it is none.
    """
    if not _GO.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a duration such as 6h; write every: by hand")
    return every(sum(float(number) * _SECONDS[unit] for number, unit in _GO_PART.findall(text)))


def schedule(text: str) -> Keys:
    """Return the keys for a cron line, with a nickname or a time zone in front, too.

    Raises:
        ValueError: mirrord cannot keep such a schedule; the text says why.
    """
    if text.startswith("@every "):
        return interval(text.removeprefix("@every ").strip())
    zone = _ZONE.fullmatch(text)
    line = zone[2] if zone else text
    cron = parse_cron(_NICKNAMES.get(line.strip().lower(), line.replace("?", "*")))
    return {"cron": cron, **({"timezone": zone[1]} if zone else {})}
