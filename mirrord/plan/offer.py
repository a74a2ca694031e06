"""What a source has, and what it shall be called at the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mirrord.model.memory import Memory
from mirrord.model.plan import Item
from mirrord.plan.select import matches
from mirrord.syncer.values import Publication

Held = Mapping[tuple[str, str], str | None]
"""(target name, name or digest there) → digest there, None when it is not there; absent when nobody knows."""


_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Build:
    """What decides where those names of a build end that move."""

    created: datetime | None = None  # when it was made, as annotated, or None
    said: datetime | None = None  # when it was made by its own words alone, which go with it to every target, or None
    # when its files last changed, or None where there are none: it tells builds apart that say nothing and that nobody
    # saw before
    changed: datetime | None = None
    # the publish that asks for the names, or None: the mirror's own source has the build
    publication: Publication | None = None

    @property
    def age(self) -> datetime:
        """When it was made, as far as one can see."""
        return self.created or self.changed or _NEVER


@dataclass(frozen=True, slots=True)
class Offer:
    """What the source has, and what it shall be called at the targets."""

    item: Item  # the thing itself
    # what to call it, in publishing order: names that stay come first; none: it is kept by digest alone
    names: tuple[str, ...]
    stays: frozenset[str] = frozenset()  # those of `names` that never move to other content once they are set
    settled: bool = False  # its name never moves at the source and its record is trusted for ever
    # what decides about the names that move when it is a build: it gets several, or somebody publishes it
    build: Build | None = None

    @property
    def moves(self) -> tuple[str, ...]:
        """Those of `names` that may move to other content."""
        return tuple(name for name in self.names if name not in self.stays)


def named(
    item: Item, names: tuple[str, ...], build: Build, frozen: Sequence[str] = (), *, fixed: bool = False
) -> Offer:
    """Offer one thing under names of its own: several, or those of a publish, make it a build.

    Args:
        item: the thing.
        names: what to call it; the first of several never moves.
        build: what decides about those that move.
        frozen: globs of further names that never move.
        fixed: none of them ever moves.
    """
    several = len(names) > 1
    stays = names if fixed else (*names[:several], *(name for name in names if matches(name, frozen)))
    return Offer(item, names, frozenset(stays), build=build if several or build.publication else None)


def remembered(offer: Offer, target: str, memory: Memory) -> bool:
    """Whether the record says, however long ago, that this content was published there."""
    known = memory.get((target, offer.item.name))
    return known is not None and known.digest == offer.item.digest
