"""Which build gets a moving name at a target, or why the name is left alone. Pure.

A *publish* moves it, unless a publish that was accepted later has moved it already. The mirror's *own source* moves it
only forward: to a build whose annotated creation time is after that of the last build from the source, and after any
publish since; a build without a creation time moves it when it is first seen. The build with the name by these rules
gets it back when somebody else moved or deleted it at the target. A branch never gets a name that stays, and a build
never gets the name of a branch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from mirrord.model.memory import Memory, NamedBuild
from mirrord.plan.offer import Build, Held, Offer, remembered
from mirrord.syncer.values import Publication


@dataclass(frozen=True, slots=True)
class Evidence:
    """The known state of the targets."""

    now: datetime  # time of the survey
    memory: Memory  # from the record
    held: Held = field(default_factory=dict)  # from the targets
    # digest → its annotated creation time, or None; of content at targets
    created: Mapping[str, datetime | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which names one offer gets at one target."""

    names: tuple[str, ...]  # its names there
    left: tuple[str, ...] = ()  # one sentence for each name that is left alone
    named: tuple[NamedBuild, ...] = ()  # what to record about names after a success
    unless_newer: bool = False  # moving names are left alone where they point to a newer build
    refused: str = ""  # why the offer is refused, or ""


@dataclass(frozen=True, slots=True)
class _Decision:
    """Which build gets one moving name at one target."""

    winner: Offer | None  # the build, or None
    named: NamedBuild | None = None  # what to record about the name
    left: tuple[str, str] = ("", "")  # the item whose name is left alone, and why
    unless_newer: bool = False  # the winner gets it only where nothing newer is


class Assignments:
    """Which names every offer gets at every target; most tags are the source's own and need no decision."""

    def __init__(self, offers: Sequence[Offer], targets: Sequence[str], evidence: Evidence) -> None:
        """Decide about all names that builds get or have had."""
        self._evidence = evidence
        self._everywhere: dict[str, list[NamedBuild]] = defaultdict(list)
        at: dict[str, list[str]] = defaultdict(list)
        for (target, name), named in evidence.memory.names.items():
            self._everywhere[name].append(named)
            at[name].append(target)
        rivals: dict[str, list[Offer]] = defaultdict(list)
        for offer in offers:
            for name in offer.moves if offer.build else ():
                rivals[name].append(offer)
        self._decided: dict[tuple[str, str], Assignment] = {}
        own = [offer for offer in offers if not offer.restored]
        involved = [offer for offer in own if offer.build or not self._everywhere.keys().isdisjoint(offer.names)]
        refused = {offer.item.name: self._taken(offer, at) for offer in involved}
        for target in targets:
            decisions = {name: self._decision(name, those, target) for name, those in rivals.items()}
            for offer in involved:
                assigned = self._assigned(offer, target, decisions)
                self._decided[target, offer.item.name] = replace(assigned, refused=refused[offer.item.name])

    def of(self, target: str, offer: Offer) -> Assignment:
        """Return what an offer gets at a target."""
        return self._decided.get((target, offer.item.name)) or Assignment(offer.names)

    def _taken(self, offer: Offer, at: Mapping[str, Sequence[str]]) -> str:
        """Return why a name of an offer belongs to the other sort at a target; it is free when no target has it."""
        for name in offer.names:
            for target, named in zip(at.get(name, ()), self._everywhere.get(name, ()), strict=True):
                moved = named.stays is not (named.name in offer.stays)
                if offer.build is None:  # the source's own tag: it may be the content there
                    moved = named.stays and named.digest != offer.item.digest
                if not moved or self._evidence.held.get((target, name), name) is None:
                    continue
                freed = f"or delete {name} at every target"
                if named.stays:
                    of = f" of {named.beside}" if named.beside else ""
                    return (
                        f"{name} is the tag of a build{of} ({named.digest}) and never moves: {offer.item.name} cannot "
                        f"have it as the tag of its branch; rename the branch, {freed}"
                    )
                of = f" and stands for {named.beside}" if named.beside else ""
                return (
                    f"{name} is the tag of a branch{of}: a build of {', '.join(offer.moves) or 'another name'} cannot "
                    f"have it as the tag that never moves; rename the build, {freed}"
                )
        return ""

    def _assigned(self, offer: Offer, target: str, decisions: Mapping[str, _Decision]) -> Assignment:
        if offer.build is None:
            # Former names of builds that are now tags of the source: their content is recorded.
            now, given = self._evidence.now, (self._evidence.memory.names.get((target, name)) for name in offer.names)
            followed = [
                replace(one, digest=offer.item.digest, at=now, beside="", created=None, published=None)
                for one in given
                if one is not None and not one.stays
            ]
            return Assignment(offer.names, named=tuple(followed))
        mine = {name: decisions[name] for name in offer.moves}
        won = {name for name, decision in mine.items() if decision.winner is offer}
        lost = {name for name, decision in mine.items() if decision.left[0] == offer.item.name}
        known = won | {name for name in lost if mine[name].winner is None}
        stays = [name for name in offer.names if name in offer.stays]
        kept = NamedBuild("", offer.item.digest, self._evidence.now, stays=True, beside=", ".join(offer.moves))
        kept = replace(kept, created=offer.build.created)
        return Assignment(
            tuple(name for name in offer.names if name in offer.stays or name in won),
            tuple(f"{name} left alone: {mine[name].left[1]}" for name in offer.moves if name in lost),
            (
                *(replace(kept, name=name) for name in stays),
                *(named for name in offer.moves if name in known and (named := mine[name].named)),
            ),
            any(mine[name].unless_newer for name in won),
        )

    def _decision(self, name: str, rivals: Sequence[Offer], target: str) -> _Decision:
        named, publication = self._evidence.memory.names.get((target, name)), (rivals[0].build or Build()).publication
        if publication is not None:
            last = max((one.number for one in self._everywhere.get(name, ())), default=0)
            return _published(name, rivals[0], publication, named, self._evidence.now, last=last)
        if named is None:
            return _unknown(name, rivals, target, self._evidence)
        return _forward(name, rivals, named, target, self._evidence)


def undated(offers: Sequence[Offer], targets: Sequence[str], evidence: Evidence) -> frozenset[tuple[str, str]]:
    """Return targets and digests there whose creation times are needed to decide about a name."""
    own = {offer.item.digest for offer in offers}
    builds = [offer for offer in offers if offer.build and offer.build.created and not offer.build.publication]
    names = {name for offer in builds for name in offer.moves}
    there = ((target, evidence.held.get((target, name))) for target in targets for name in names
             if (target, name) not in evidence.memory.names)  # fmt: skip
    return frozenset((target, digest) for target, digest in there if digest is not None and digest not in own)


def _published(
    name: str, offer: Offer, publication: Publication, named: NamedBuild | None, now: datetime, *, last: int
) -> _Decision:
    """A publish gets the name, unless a later one has moved it anywhere: else targets would differ forever."""
    if publication.number and last > publication.number:
        why = f"publish {last}, accepted later than this one ({publication.number}), has moved it"
        return _Decision(None, left=(offer.item.name, why))
    given = replace(
        _given(name, offer, named, now),
        ahead=None,
        number=max(publication.number, named.number if named else 0),
        published=publication.accepted or now,
    )
    return _Decision(offer, given, unless_newer=publication.if_newest)


def _unknown(name: str, rivals: Sequence[Offer], target: str, evidence: Evidence) -> _Decision:
    """Without a record of the name the newest build gets it, unless the target has something newer."""
    newest = max(rivals, key=_age)
    given = _ahead_of_all(_given(name, newest, None, evidence.now), rivals)
    there = evidence.held.get((target, name), "")
    if not there or there == newest.item.digest:
        return _Decision(newest, given, unless_newer=(target, name) not in evidence.held)
    build = newest.build or Build()
    own = [one.build.created for one in rivals if one.build and one.item.digest == there]
    created, theirs = (build.created, own[0]) if own else (build.said or build.created, evidence.created.get(there))
    seen = NamedBuild(name, there, evidence.now, created=theirs, ahead=theirs)
    if created is None and remembered(newest, target, evidence.memory):
        why = f"it is {there} there; {newest.item.name} has no creation time, so it moves the name only once"
        return _Decision(None, seen, (newest.item.name, why))
    if created and theirs and theirs > created:
        why = f"it is {there} there, created {written(theirs)}; {newest.item.name} was created {written(created)}"
        return _Decision(None, seen, (newest.item.name, why))
    return _Decision(newest, given)


def _forward(name: str, rivals: Sequence[Offer], named: NamedBuild, target: str, evidence: Evidence) -> _Decision:
    """A build newer than the one with the name gets it; else the present one keeps it."""
    newest = max(rivals, key=_age)
    ahead = [offer for offer in rivals if _comes_after(offer, named, target, evidence)]
    if ahead:
        first = max(ahead, key=_age)
        return _Decision(first, _ahead_of_all(_given(name, first, named, evidence.now), rivals))
    holders = [offer for offer in rivals if offer.item.digest == named.digest]
    winner = max(holders, key=_age) if holders else None
    given = replace(named, at=evidence.now, beside=winner.item.name) if winner else None
    if winner is not None and winner.item.digest == newest.item.digest:
        return _Decision(winner, given)
    stands = f"it is {named.beside} ({named.digest})" if named.beside else f"it is {named.digest}"
    further = f"{newest.item.name} is not newer"
    if named.published:
        stands += f" by publish {named.number} of {written(named.published)}"
        further = "only a build created later moves it"
    elif named.created:
        stands += f", created {written(named.created)}"
    return _Decision(winner, given, (newest.item.name, f"{stands}; {further}"))


def _comes_after(offer: Offer, named: NamedBuild, target: str, evidence: Evidence) -> bool:
    build = offer.build or Build()
    seen = remembered(offer, target, evidence.memory)
    if build.created is None:
        before = named.published and build.changed and build.changed <= named.published
        return not seen and not before
    bound = named.published or named.ahead
    return build.created > bound if bound else not seen


def _given(name: str, offer: Offer, named: NamedBuild | None, now: datetime) -> NamedBuild:
    """Record that a build got a name, and keep the facts of its predecessors."""
    created = offer.build.created if offer.build else None
    given = NamedBuild(name, offer.item.digest, now, beside=offer.item.name, created=created)
    return replace(given, ahead=named.ahead, number=named.number) if named else given


def _ahead_of_all(given: NamedBuild, rivals: Sequence[Offer]) -> NamedBuild:
    """Record that every build of the source was considered: none of them is newer than the chosen one."""
    dates = [given.ahead, *(offer.build.created for offer in rivals if offer.build)]
    return replace(given, ahead=max((date for date in dates if date), default=None))


def _age(offer: Offer) -> datetime:
    return (offer.build or Build()).age


def written(at: datetime) -> str:
    """Format a time: `2024-05-17T12:00:00Z`."""
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
