"""What the record knows of targets: evidence, not truth. Losing it breaks nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class LastSeen:
    """The recorded state of an item at a target.

    Attributes:
        digest: the item's content there.
        at: when the target last confirmed it.
        place: where that was (origin and address); it is not valid for another place.
        size: bytes of its whole content (of an image, each blob once), or None if unknown.
        platforms: of an image, such as `linux/arm64/v8`; () if unknown or without meaning.
        referrers: signatures, attestations and SBOMs of it that were carried there, or None if unknown.
        signer: who signed it, where the mirror requires a signature: the name of a key file, or an identity; else "".
        origin: digest at the source of an index that was changed to have only `platforms`; "" if unchanged or unknown.
    """

    digest: str
    at: datetime
    place: str = ""
    size: int | None = None
    platforms: tuple[str, ...] = ()
    referrers: int | None = None
    signer: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class NamedBuild:
    """Which build a name points to at a target, and what moved it there."""

    name: str
    digest: str  # digest of the build
    at: datetime  # when the target last confirmed it
    stays: bool = False  # it belongs to one build and never moves
    beside: str = ""  # the other name of that build: of a moving name the fixed one, and vice versa
    created: datetime | None = None  # creation time of that build by its own metadata, or None
    # creation time of the newest build of the mirror's own source that got it; None if none did
    ahead: datetime | None = None
    number: int = 0  # of the last publish that moved it; 0 if none did
    # when the publish that moved it was accepted; None if the mirror's own source did
    published: datetime | None = None
    place: str = ""  # as in `LastSeen`


class Memory(Mapping[tuple[str, str], LastSeen]):
    """(target name, item name) → its recorded state."""

    __slots__ = ("_known", "names")

    def __init__(
        self,
        known: Mapping[tuple[str, str], LastSeen] | None = None,
        names: Mapping[tuple[str, str], NamedBuild] | None = None,
    ) -> None:
        """Store these."""
        self._known = known or {}
        self.names = names or {}  # (target name, name there) → its build; only names of builds

    def __getitem__(self, key: tuple[str, str]) -> LastSeen:
        """Return the recorded state of an item at a target."""
        return self._known[key]

    def get(self, key: tuple[str, str], default: Any = None) -> Any:
        """Return the recorded state or None; the dictionary's own method, since plans look up each item."""
        return self._known.get(key, default)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Iterate over (target, item)."""
        return iter(self._known)

    def __len__(self) -> int:
        """Count the items of all targets."""
        return len(self._known)


NO_MEMORY = Memory()
