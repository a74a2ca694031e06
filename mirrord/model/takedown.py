"""What was taken down, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

UNRECORDED: Final = "not in the ledger; `--adopt` removes it"
"""Why something is left of which nobody knows any more whether mirrord wrote it."""


@dataclass(frozen=True, slots=True)
class RemovedName:
    """A name that is gone at a target."""

    mirror: str
    target: str
    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class LeftName:
    """What is still at a target or in `local`, and why."""

    mirror: str
    target: str
    what: str  # a name there, or an address
    why: str  # and what to do

    @property
    def adoptable(self) -> bool:
        """Whether it is left because the ledger does not have it."""
        return self.why.endswith(UNRECORDED)


@dataclass(frozen=True, slots=True)
class TakenDown:
    """The result of a takedown.

    Attributes:
        what: what is denied: an image, a digest or a mirror.
        reason: why.
        place: its entry, `FILE:LINE`.
        digests: of manifests that are denied with it.
        purged: how many names and manifests are gone from `local` and the cache of the front.
        removed: what is gone at targets.
        left: what could not be removed.
        remark: what of it is not denied by digest, and why; "" where all is.
    """

    what: str
    reason: str
    place: str
    digests: tuple[str, ...] = ()
    purged: int = 0
    removed: tuple[RemovedName, ...] = ()
    left: tuple[LeftName, ...] = ()
    remark: str = ""


@dataclass(frozen=True, slots=True)
class DeniedThing:
    """One entry of the file `settings.denied`.

    Attributes:
        place: `FILE:LINE`.
        what: an image, a digest or a mirror.
        reason: why.
        at: since when, as it is written.
        digests: how many manifests are denied with it.
        still: names that the record says are still at targets, `TARGET: NAME`; the first of many.
    """

    place: str
    what: str
    reason: str
    at: str = ""
    digests: int = 0
    still: tuple[str, ...] = ()
