"""Offered x held → steps, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from mirrord.memory import Known, Memory
from mirrord.model import Action, Item, Step


@dataclass(frozen=True, slots=True)
class Offer:
    """What the source has, and what it shall be called at the targets.

    Attributes:
        item: the thing itself.
        names: what to call it, in publishing order: names that stay come first; none: it is kept by digest alone.
        stays: those of `names` that never move to other content once they are set.
        settled: its name never moves at the source and its record is believed for ever.
        build: published once; when its record says that this was done, the moving names are left
            alone (they may have moved on since).
    """

    item: Item
    names: tuple[str, ...]
    stays: frozenset[str] = frozenset()
    settled: bool = False
    build: bool = False


Held = Mapping[tuple[str, str], str]
"""(target name, name or digest there) → digest there; absent when it is not there or was not asked."""


def believed(offer: Offer, target: str, memory: Memory, *, now: datetime, trust: float) -> Known | None:
    """Return what the record says when that is enough not to ask the target again, else None."""
    known = memory.get((target, offer.item.name))
    if known is None or known.digest != offer.item.digest:
        return None
    return known if offer.settled or (now - known.at).total_seconds() < trust else None


def remembered(offer: Offer, target: str, memory: Memory) -> bool:
    """Whether the record says, however long ago, that this content was published there."""
    known = memory.get((target, offer.item.name))
    return known is not None and known.digest == offer.item.digest


def names_to_check(offer: Offer, target: str, memory: Memory) -> tuple[str, ...]:
    """Return the names whose content at the target decides about the step: its digest when it has none."""
    if offer.build and remembered(offer, target, memory):
        return tuple(name for name in offer.names if name in offer.stays) or offer.names
    return offer.names or (offer.item.digest,)


def differ(
    offers: Iterable[Offer],
    targets: Iterable[str],
    held: Held,
    memory: Memory,
    *,
    now: datetime,
    trust: float,
    unasked: Mapping[str, str],
) -> Iterator[Step]:
    """Decide about every offer at every target; `unasked` says why a target's holdings are not known."""
    targets = tuple(targets)
    for offer in offers:
        for target in targets:
            known = believed(offer, target, memory, now=now, trust=trust)
            if known:
                action, reason = Action.KEEP, f"recorded there {_ago(known.at, now)} ago"
            elif target in unasked:
                action, reason = Action.COPY, f"not known what is there: {unasked[target]}"
            else:
                names = names_to_check(offer, target, memory)
                action, reason = _compare(offer, {name: held.get((target, name)) for name in names})
            yield _step(offer, target, action, reason, confirmed=action is Action.KEEP and not known)


def _step(offer: Offer, target: str, action: Action, reason: str, *, confirmed: bool) -> Step:
    item = offer.item
    return Step(
        action,
        item.name,
        item.digest,
        target,
        offer.names,
        reason,
        item.size,
        group=f"{item.name}@{item.digest}",
        stays=offer.stays,
        confirmed=confirmed,
    )


def _compare(offer: Offer, there: Mapping[str, str | None]) -> tuple[Action, str]:
    wanted = offer.item.digest
    for name, digest in there.items():
        if name in offer.stays and digest not in (None, wanted):
            return Action.REFUSE, f"{name} is {digest} there and never moves; delete it there or publish another"
    missing = [name for name, digest in there.items() if digest is None]
    moved = [f"{name} from {digest}" for name, digest in there.items() if digest not in (None, wanted)]
    if not missing and not moved:
        return Action.KEEP, "already there"
    parts = [f"{', '.join(missing)} not there"] if missing else []
    parts += [f"moves {', '.join(moved)}"] if moved else []
    return Action.COPY, "; ".join(parts)


def _ago(then: datetime, now: datetime) -> str:
    seconds = int((now - then).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
