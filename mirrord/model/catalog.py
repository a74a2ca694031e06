"""What is mirrored where, for people and programs outside."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from mirrord.model.memory import LastSeen


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One item at one target, as the record knows it."""

    mirror: str
    kind: str
    item: str  # its name in the mirror: a tag, a chart version, a ref
    source: str  # what it is called at its source: `docker.io/library/nginx:1.29`
    target: str  # name of the target in the configuration
    name: str  # what it is called there
    digest: str  # its content there
    at: datetime  # when the target last confirmed it
    size: int | None = None  # bytes of its whole content, or None if unknown
    platforms: tuple[str, ...] = ()  # of an image; () if unknown or without meaning
    referrers: int | None = None  # as `LastSeen.referrers`
    signer: str = ""  # as `LastSeen.signer`
    origin: str = ""  # as `LastSeen.origin`


def content_of(seen: LastSeen) -> dict[str, Any]:
    """Return the fields of an entry that are recorded of its content."""
    return {field.name: getattr(seen, field.name) for field in fields(LastSeen) if field.name != "place"}


@dataclass(frozen=True, slots=True)
class CatalogPart:
    """Some of the entries, in their order."""

    entries: tuple[CatalogEntry, ...] = ()
