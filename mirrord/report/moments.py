"""Times in documents for machines, and what they say of a verification. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

from pydantic import PlainSerializer, WithJsonSchema

from mirrord.model.verification import Level


def rfc3339(at: datetime | None) -> str | None:
    """Format a time in UTC, to the second."""
    return None if at is None else at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


At = Annotated[
    datetime,
    PlainSerializer(rfc3339, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]


@dataclass(frozen=True, slots=True)
class VerifiedStatus:
    """What the last verification found; one of `names` that found everything equal leaves what a deeper one found.

    Attributes:
        at: when the last one ended.
        level: how far the one looked that found this: `names`, `deep` or `bytes`.
        levels: when each level was last verified; one that never was is missing.
        checked: number of items that it looked at.
        drift: those of them that differ from what was mirrored.
        unknown: those of them of which that could not be found out; at least 1 if it could not be of the target.
        refused: items that are not there as the source has them, since a rule forbids it; they are no drift.
        read: bytes of content that were read and hashed.
        size: bytes of all the content that was found; 0 if that was not looked for.
        findings: the first of what differs, could not be found out, or is refused, one sentence each.
    """

    at: At
    level: Level
    checked: int
    drift: int
    unknown: int
    read: int = 0
    size: int = 0
    findings: tuple[str, ...] = ()
    refused: int = 0
    levels: Mapping[Level, At] = field(default_factory=dict)
