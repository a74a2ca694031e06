"""Offered content x content at the targets → steps, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from mirrord.model.memory import LastSeen, Memory
from mirrord.model.plan import Action, Step
from mirrord.plan.moving import Assignment, Assignments, Evidence
from mirrord.plan.offer import Offer


def names_to_ask(
    offers: Sequence[Offer], targets: Sequence[str], memory: Memory, *, now: datetime, trust: float
) -> Mapping[str, frozenset[str]]:
    """Return the names (digests for nameless items) to ask each target for, where the record is not enough."""
    assignments = Assignments(offers, targets, Evidence(now, memory))
    asked: dict[str, set[str]] = {target: set() for target in targets}
    for target, names in asked.items():
        for offer in offers:
            assigned = assignments.of(target, offer)
            if assigned.refused:
                names.update(offer.names)  # the conflict may be resolved by now
            elif not _trusted(offer, assigned, target, memory, now=now, trust=trust):
                names.update(assigned.names if offer.names else (offer.item.digest,))
    return {target: frozenset(names) for target, names in asked.items()}


def differ(
    offers: Sequence[Offer],
    targets: Sequence[str],
    evidence: Evidence,
    *,
    trust: float,
    unasked: Mapping[str, str],
) -> Iterator[Step]:
    """Decide about every offer at every target; `unasked` says why a target could not be asked."""
    memory, now = evidence.memory, evidence.now
    assignments = Assignments(offers, targets, evidence)
    for offer in offers:
        for target in targets:
            assigned = assignments.of(target, offer)
            recorded = _trusted(offer, assigned, target, memory, now=now, trust=trust)
            if assigned.refused:
                action, reason = Action.REFUSE, assigned.refused
            elif offer.names and not assigned.names:
                action, reason = Action.KEEP, "none of its names is set there"
            elif recorded:
                action, reason = Action.KEEP, f"recorded there {_ago(recorded, now)} ago"
            elif target in unasked:
                action, reason = Action.COPY, f"the target cannot be read: {unasked[target]}"
            else:
                names = assigned.names or (offer.item.digest,)
                action, reason = _compare(offer, assigned, {name: evidence.held.get((target, name)) for name in names})
            reason = f"{offer.restored}: {reason}" if offer.restored else reason
            confirmed = action is Action.KEEP and not recorded and bool(assigned.names or not offer.names)
            yield Step(
                action,
                offer.item.name,
                offer.item.digest,
                target,
                offer.names if assigned.refused else assigned.names,
                reason,
                offer.item.size,
                group=f"{offer.item.name}@{offer.item.digest}",
                stays=offer.stays,
                confirmed=confirmed,
                left=assigned.left,
                named=assigned.named,
                unless_newer=assigned.unless_newer,
            )


def _trusted(
    offer: Offer, assigned: Assignment, target: str, memory: Memory, *, now: datetime, trust: float
) -> datetime | None:
    """Return when the target last confirmed the whole offer if that is recent enough to be trusted, else None.

    A publish always asks the target.
    """
    known: LastSeen | None = memory.get((target, offer.item.name))
    if known is None or known.digest != offer.item.digest or (offer.build and offer.build.publication):
        return None
    if offer.settled:
        return known.at
    at = known.at
    for name in assigned.names if offer.build or memory.names else ():
        named = memory.names.get((target, name))
        if named is None and offer.build is None:
            continue
        if named is None or named.digest != offer.item.digest:
            return None
        at = min(at, named.at) if offer.build else at
    return at if (now - at).total_seconds() < trust else None


def _compare(offer: Offer, assigned: Assignment, there: Mapping[str, str | None]) -> tuple[Action, str]:
    wanted = offer.item.digest
    for name, digest in there.items():
        if name in offer.stays and digest not in (None, wanted):
            it = "it" if name == offer.item.name else name  # the item is named before the reason
            fix = "rebuild under another commit, or delete the tag there"
            return Action.REFUSE, f"{it} is {digest} there and never moves; {fix}"
    missing = [name for name, digest in there.items() if digest is None]
    moved = [f"{name} from {digest}" for name, digest in there.items() if digest not in (None, wanted)]
    if not missing and not moved:
        return Action.KEEP, "already there"
    parts = [f"{', '.join(missing)} not there"] if missing else []
    parts += [f"moves {', '.join(moved)}{' unless that is newer' if assigned.unless_newer else ''}"] if moved else []
    return Action.COPY, "; ".join(parts)


def _ago(then: datetime, now: datetime) -> str:
    seconds = int((now - then).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
