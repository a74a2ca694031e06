"""What a source offers, and its names at the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mirrord.model.memory import Memory
from mirrord.model.plan import Item
from mirrord.plan.select import matches
from mirrord.syncer.values import Publication

Held = Mapping[tuple[str, str], str | None]
"""(target name, name or digest there) → digest there, None if it does not exist; absent if unknown."""


_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Build:
    """What decides whether a build gets its moving names."""

    created: datetime | None = None  # its creation time, as annotated anywhere, or None
    said: datetime | None = None  # its creation time from its own annotations, which are copied with it, or None
    # when its files last changed, or None without files: for new builds without a creation time
    changed: datetime | None = None
    # the publish that requests the names, or None: the build is from the mirror's own source
    publication: Publication | None = None

    @property
    def age(self) -> datetime:
        """When it was made, as far as known."""
        return self.created or self.changed or _NEVER


@dataclass(frozen=True, slots=True)
class Offer:
    """An item of the source, and its names at the targets."""

    item: Item  # the thing itself
    # its names in publishing order, fixed ones first; empty: it is stored by digest alone
    names: tuple[str, ...]
    stays: frozenset[str] = frozenset()  # those of `names` that never move to other content once they are set
    settled: bool = False  # its name never moves at the source and its record is trusted forever
    # for a build (several names, or a publish): what decides about its moving names
    build: Build | None = None
    restored: str = ""  # it overrides what the source has under its name: what reasons say about that; "" for others

    @property
    def moves(self) -> tuple[str, ...]:
        """Those of `names` that may move to other content."""
        return tuple(name for name in self.names if name not in self.stays)


def named(
    item: Item, names: tuple[str, ...], build: Build, frozen: Sequence[str] = (), *, fixed: bool = False
) -> Offer:
    """Offer one item under the given names; several names, or a publish, make it a build.

    Args:
        item: the item.
        names: its names; the first of several never moves.
        build: what decides about the moving ones.
        frozen: globs of further names that never move.
        fixed: none of them ever moves.
    """
    several = len(names) > 1
    stays = names if fixed else (*names[:several], *(name for name in names if matches(name, frozen)))
    return Offer(item, names, frozenset(stays), build=build if several or build.publication else None)


def remembered(offer: Offer, target: str, memory: Memory) -> bool:
    """Whether the record says that this content was published there, at any time."""
    known = memory.get((target, offer.item.name))
    return known is not None and known.digest == offer.item.digest
