"""The log of what is where: one line an item and target, which programs can count. Pure.

The words are those of logs of image mirrors: `SYNCHRONIZED`, `NOT-SYNCHRONIZED`, `ERROR`, each after the time.
"""

from __future__ import annotations

from mirrord.model.history import Behind, Standing
from mirrord.model.memory import LastSeen
from mirrord.printable import plain
from mirrord.report.moments import rfc3339


def present_line(source: str, name: str, seen: LastSeen) -> str:
    """Write that a target has an item, as it last confirmed it."""
    digest = f": {seen.digest}" if seen.digest else ""  # a chart of a repository without digests has none
    return _line(f"{rfc3339(seen.at)} SYNCHRONIZED: {source} and {name} are synchronized{digest}")


def behind_line(source: str, name: str, behind: Behind) -> str:
    """Write that a target has not what it should have, since when, and why."""
    reason = ": ".join(filter(None, [behind.code, behind.reason])) or "unknown"
    return _line(f"{rfc3339(behind.since)} NOT-SYNCHRONIZED: {source} and {name} are not synchronized: {reason}")


def error_line(standing: Standing) -> str:
    """Write why the last run of a mirror failed."""
    error = f"{standing.code}: {standing.error}"
    return _line(f"{rfc3339(standing.last_attempt) or '-'} ERROR: {standing.mirror}: {error}")


def more_line(mirror: str, count: int) -> str:
    """Write that there are more items behind than are listed."""
    return _line(f"- NOTE: {mirror}: {count} more items are not synchronized")


def _line(text: str) -> str:
    return f"{plain(text)}\n"
