"""Where a moving name ends: which build gets it at a target, and why it is left alone otherwise. Pure.

A *publish* moves it, unless a publish that was accepted later has moved it already. The mirror's *own source* moves it
only forward: to a build that says itself that it was made after the one that the source gave the name to last, and
after the publish that gave it since; a build that says nothing moves it when it is first seen. Whoever has the name by
these rules gets it back when somebody else moved or deleted it at the target. A name that stays is never given to a
branch, nor the other way round.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from mirrord.model.memory import Memory, NamedBuild
from mirrord.plan.offer import Build, Held, Offer, remembered


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the targets.

    Attributes:
        now: when it was looked at.
        memory: what the record says.
        held: what the targets said.
        created: digest → when that was made, as it says itself, or None; of what stands at targets.
    """

    now: datetime
    memory: Memory
    held: Held = field(default_factory=dict)
    created: Mapping[str, datetime | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Share:
    """What one offer gets at one target.

    Attributes:
        names: the names that it shall have there.
        left: one sentence for each name that is left as it is.
        named: what to remember of names when all went well.
        unless_newer: names that move are left alone where they stand for something newer.
        refused: why nothing of it may be done, or "".
    """

    names: tuple[str, ...]
    left: tuple[str, ...] = ()
    named: tuple[NamedBuild, ...] = ()
    unless_newer: bool = False
    refused: str = ""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Who gets one moving name at one target.

    Attributes:
        winner: that build, or None.
        named: what to remember of the name.
        left: who is told instead that the name is left alone, and why; by item.
        unless_newer: the winner has it only where nothing newer stands.
    """

    winner: Offer | None
    named: NamedBuild | None = None
    left: tuple[str, str] = ("", "")
    unless_newer: bool = False


@dataclass(frozen=True, slots=True)
class Shares:
    """What every offer gets at every target.

    Attributes:
        plain: by item, where there is nothing to decide: of many tags nearly all are the source's own.
        decided: by target and item.
    """

    plain: Mapping[str, Share]
    decided: Mapping[tuple[str, str], Share]

    def of(self, target: str, item: str) -> Share:
        """Return what an item gets at a target."""
        return self.decided.get((target, item)) or self.plain[item]


def shares(offers: Sequence[Offer], targets: Sequence[str], evidence: Evidence) -> Shares:
    """Decide, for each target and item, which names it gets there."""
    rivals: dict[str, list[Offer]] = defaultdict(list)
    for offer in offers:
        for name in offer.moves if offer.build else ():
            rivals[name].append(offer)
    everywhere = _by_name(evidence.memory)
    involved = [offer for offer in offers if offer.build or not everywhere.keys().isdisjoint(offer.names)]
    found: dict[tuple[str, str], Share] = {}
    refused = {offer.item.name: _taken(offer, everywhere, evidence.held) for offer in involved}
    for target in targets:
        verdicts = {name: _verdict(name, those, target, evidence, everywhere) for name, those in rivals.items()}
        for offer in involved:
            share = _share(offer, target, verdicts, evidence)
            found[target, offer.item.name] = replace(share, refused=refused[offer.item.name])
    return Shares({offer.item.name: Share(offer.names) for offer in offers}, found)


def undated(offers: Sequence[Offer], targets: Sequence[str], evidence: Evidence) -> frozenset[tuple[str, str]]:
    """Return targets and digests there of which one has to know when they were made, to decide about a name."""
    own = {offer.item.digest for offer in offers}
    builds = [offer for offer in offers if offer.build and offer.build.created and not offer.build.publication]
    names = {name for offer in builds for name in offer.moves}
    there = ((target, evidence.held.get((target, name))) for target in targets for name in names
             if (target, name) not in evidence.memory.names)  # fmt: skip
    return frozenset((target, digest) for target, digest in there if digest is not None and digest not in own)


def _by_name(memory: Memory) -> Mapping[str, list[tuple[str, NamedBuild]]]:
    found: dict[str, list[tuple[str, NamedBuild]]] = defaultdict(list)
    for (target, name), named in memory.names.items():
        found[name].append((target, named))
    return found


def _clash(offer: Offer, named: NamedBuild) -> bool:
    """Whether an offer wants to move a name that stays, or to let one stay that moves."""
    if offer.build is None:  # the source's own tag: it may be what stands there anyway
        return named.stays and named.digest != offer.item.digest
    return named.stays is not (named.name in offer.stays)


def _taken(offer: Offer, everywhere: Mapping[str, list[tuple[str, NamedBuild]]], held: Held) -> str:
    """Say which name of an offer is of the other sort at any target; a name is free again when it is gone from all."""
    for name in offer.names:
        for target, named in everywhere.get(name, ()):
            if not _clash(offer, named) or held.get((target, name), name) is None:
                continue
            freed = f"or delete {name} at every target"
            if named.stays:
                of = f" of {named.beside}" if named.beside else ""
                return (
                    f"{name} is the tag of a build{of} ({named.digest}) and never moves: {offer.item.name} cannot have "
                    f"it as the tag of its branch; call the branch otherwise, {freed}"
                )
            of = f" and stands for {named.beside}" if named.beside else ""
            return (
                f"{name} is the tag of a branch{of}: a build of {', '.join(offer.moves) or 'another name'} cannot have "
                f"it as the tag that never moves; call the build otherwise, {freed}"
            )
    return ""


def _share(offer: Offer, target: str, verdicts: Mapping[str, _Verdict], evidence: Evidence) -> Share:
    if offer.build is None:
        return Share(offer.names, named=tuple(_followed(offer, target, evidence)))
    mine = {name: verdicts[name] for name in offer.moves}
    won = {name for name, verdict in mine.items() if verdict.winner is offer}
    told = {name for name, verdict in mine.items() if verdict.left[0] == offer.item.name}
    known = won | {name for name in told if mine[name].winner is None}
    beside = ", ".join(offer.moves)
    stays = (
        NamedBuild(name, offer.item.digest, evidence.now, stays=True, beside=beside, created=offer.build.created)
        for name in offer.names
        if name in offer.stays
    )
    return Share(
        tuple(name for name in offer.names if name in offer.stays or name in won),
        tuple(f"{name} left alone: {mine[name].left[1]}" for name in offer.moves if name in told),
        (*stays, *(named for name in offer.moves if name in known and (named := mine[name].named))),
        any(mine[name].unless_newer for name in won),
    )


def _followed(offer: Offer, target: str, evidence: Evidence) -> Iterable[NamedBuild]:
    """Remember of names that builds once got, and that the source itself now has as tags, what they stand for."""
    for name in offer.names:
        named = evidence.memory.names.get((target, name))
        if named is not None and not named.stays:
            yield replace(named, digest=offer.item.digest, at=evidence.now, beside="", created=None, published=None)


def _verdict(
    name: str,
    rivals: Sequence[Offer],
    target: str,
    evidence: Evidence,
    everywhere: Mapping[str, list[tuple[str, NamedBuild]]],
) -> _Verdict:
    build = rivals[0].build
    assert build is not None
    named = evidence.memory.names.get((target, name))
    if build.publication is not None:
        return _asked(name, rivals[0], named, evidence.now, everywhere.get(name, ()))
    if named is None:
        return _unknown(name, rivals, target, evidence)
    return _forward(name, rivals, named, target, evidence)


def _asked(
    name: str, offer: Offer, named: NamedBuild | None, now: datetime, everywhere: Iterable[tuple[str, NamedBuild]]
) -> _Verdict:
    """A publish has the name, unless a later one had it anywhere: else targets would differ for ever."""
    assert offer.build is not None
    publication = offer.build.publication
    assert publication is not None
    late = max((one.number for _, one in everywhere), default=0)
    if publication.number and late > publication.number:
        why = f"publish {late}, accepted after this one ({publication.number}), has moved it"
        return _Verdict(None, left=(offer.item.name, why))
    given = replace(
        _given(name, offer, named, now),
        ahead=None,
        number=max(publication.number, named.number if named else 0),
        published=publication.accepted or now,
    )
    return _Verdict(offer, given, unless_newer=publication.if_newest)


def _unknown(name: str, rivals: Sequence[Offer], target: str, evidence: Evidence) -> _Verdict:
    """Nobody knows who put the name where it is: the newest build has it, unless what is there is newer."""
    newest = max(rivals, key=_age)
    given = _ahead_of_all(_given(name, newest, None, evidence.now), rivals)
    there = evidence.held.get((target, name), "")
    if not there or there == newest.item.digest:
        return _Verdict(newest, given, unless_newer=(target, name) not in evidence.held)
    build = newest.build or Build()
    own = [one.build.created for one in rivals if one.build and one.item.digest == there]
    created, theirs = (build.created, own[0]) if own else (build.said or build.created, evidence.created.get(there))
    seen = NamedBuild(name, there, evidence.now, created=theirs, ahead=theirs)
    if created is None and remembered(newest, target, evidence.memory):
        why = f"it is {there} there; {newest.item.name} does not say when it was created, and moves it only once"
        return _Verdict(None, seen, (newest.item.name, why))
    if created and theirs and theirs > created:
        why = f"it is {there} there, created {written(theirs)}; {newest.item.name} was created {written(created)}"
        return _Verdict(None, seen, (newest.item.name, why))
    return _Verdict(newest, given)


def _forward(name: str, rivals: Sequence[Offer], named: NamedBuild, target: str, evidence: Evidence) -> _Verdict:
    """A build that comes after the one that has the name gets it; else the one that has it keeps it."""
    newest = max(rivals, key=_age)
    ahead = [offer for offer in rivals if _comes_after(offer, named, target, evidence)]
    if ahead:
        first = max(ahead, key=_age)
        return _Verdict(first, _ahead_of_all(_given(name, first, named, evidence.now), rivals))
    holders = [offer for offer in rivals if offer.item.digest == named.digest]
    winner = max(holders, key=_age) if holders else None
    given = replace(named, at=evidence.now, beside=winner.item.name) if winner else None
    if winner is not None and winner.item.digest == newest.item.digest:
        return _Verdict(winner, given)
    further = "a build created after that moves it on" if named.published else f"{newest.item.name} is not newer"
    return _Verdict(winner, given, (newest.item.name, f"{_stands(named)}; {further}"))


def _comes_after(offer: Offer, named: NamedBuild, target: str, evidence: Evidence) -> bool:
    build = offer.build or Build()
    seen = remembered(offer, target, evidence.memory)
    if build.created is None:
        before = named.published and build.changed and build.changed <= named.published
        return not seen and not before
    bound = named.published or named.ahead
    return build.created > bound if bound else not seen


def _given(name: str, offer: Offer, named: NamedBuild | None, now: datetime) -> NamedBuild:
    """Remember that a build got a name, and what must not be forgotten of those before it."""
    created = offer.build.created if offer.build else None
    given = NamedBuild(name, offer.item.digest, now, beside=offer.item.name, created=created)
    return replace(given, ahead=named.ahead, number=named.number) if named else given


def _ahead_of_all(given: NamedBuild, rivals: Sequence[Offer]) -> NamedBuild:
    """Remember that every build of the source was looked at: none of them comes after the one that was chosen."""
    dates = [given.ahead, *(offer.build.created for offer in rivals if offer.build)]
    return replace(given, ahead=max((date for date in dates if date), default=None))


def _age(offer: Offer) -> datetime:
    return (offer.build or Build()).age


def _stands(named: NamedBuild) -> str:
    """Say what a name stands for, and by whom: `it is main-0123abc (sha256:…) by publish 7 of 2024-05-17T12:00:00Z`."""
    what = f"it is {named.beside} ({named.digest})" if named.beside else f"it is {named.digest}"
    if named.published:
        return f"{what} by publish {named.number} of {written(named.published)}"
    return f"{what}, created {written(named.created)}" if named.created else what


def written(at: datetime) -> str:
    """Write a moment for people and programs: `2024-05-17T12:00:00Z`."""
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
