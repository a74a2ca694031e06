"""Which names are restored, and so override the source at their targets. Pure.

A restored name overrides the source at its targets until it is released. That is a fact of the mirror
(`syncer.restoring.FACTS`), by target and name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from mirrord.errors import GuardError
from mirrord.model.memory import LastSeen, Memory
from mirrord.model.plan import Action, Item, Step
from mirrord.plan.offer import Held, Offer
from mirrord.plan.select import meant

Names = Mapping[tuple[str, str], str]
"""(target, name there) → its digest."""

AWAY: Final = "-"
"""Before a digest: the name stays away, and is removed where it still has that one."""
_RELEASED: Final = "released"
_OLD: Final = timedelta(days=90)  # a release is then forgotten: no record of before is trusted any more
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored of one mirror.

    Attributes:
        held: target → name → the digest that overrides the source there, or `AWAY` and a digest.
        since: (target, name) → when that began, or for a released one when it ended: what was recorded before says
            nothing about it.
        released: names at targets of which the source decides again.
        prefix: of one repository of many, what names have in front elsewhere.
        where: digest → what reasons say about where it comes from, if that is known.
    """

    held: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    since: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    released: Collection[tuple[str, str]] = frozenset()
    prefix: str = ""
    where: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, facts: Mapping[str, str]) -> Restored:
        """Read the facts; what is damaged there is left out."""
        held: dict[str, dict[str, str]] = {}
        since: dict[tuple[str, str], datetime] = {}
        released: set[tuple[str, str]] = set()
        for key, text in facts.items():
            target, _, name = key.partition(" ")
            state, _, at = text.partition(" ")
            try:
                since[target, name] = datetime.fromisoformat(at)
            except ValueError:
                continue
            if state == _RELEASED:
                released.add((target, name))
            else:
                held.setdefault(target, {})[name] = state
        return cls(held, since, released) if facts else NOTHING

    def facts(self, now: datetime) -> Mapping[str, str]:
        """Return what `read` reads; releases of long ago are left out."""
        states = {(target, name): state for target, names in self.held.items() for name, state in names.items()}
        states |= {one: _RELEASED for one in self.released if now - self.since[one] < _OLD}
        return {" ".join(one): f"{state} {self.since[one].isoformat()}" for one, state in states.items()}

    @property
    def names(self) -> Sequence[str]:
        """The held names, at whichever target, sorted."""
        return sorted({name for names in self.held.values() for name in names})

    def holding(self, names: Names, at: datetime) -> Restored:
        """Hold further names."""
        held = {target: dict(those) for target, those in self.held.items()}
        for (target, name), digest in names.items():
            held.setdefault(target, {})[name] = digest
        return Restored(held, {**self.since, **dict.fromkeys(names, at)}, frozenset(self.released) - names.keys())

    def releasing(self, texts: Sequence[str], at: datetime, called: Callable[[str], str] = str) -> Restored:
        """Let the source decide again about names, or globs of them, at all targets; `called` is what people say.

        Raises:
            UsageError: one of them is not restored.
        """
        items = {called(name): name for name in self.names}
        gone = set(meant(texts, items, "is not restored; `mirrord status NAME` shows what is"))
        gone = {items[item] for item in gone}
        freed = [(target, name) for target, names in self.held.items() for name in names if name in gone]
        left = {target: {n: one for n, one in names.items() if n not in gone} for target, names in self.held.items()}
        held = {target: names for target, names in left.items() if names}
        return Restored(held, {**self.since, **dict.fromkeys(freed, at)}, {*self.released, *freed})

    @property
    def digests(self) -> frozenset[str]:
        """What names are restored to."""
        return frozenset(self.to_stay.values())

    @property
    def to_stay(self) -> Names:
        """The names that have a digest, at each target: whoever removes what the source lacks leaves them."""
        every = ((target, name, one) for target, names in self.held.items() for name, one in names.items())
        return {(target, name): one for target, name, one in every if not one.startswith(AWAY)}

    @property
    def away(self) -> Names:
        """The names that stay away, each with the digest that it may still have."""
        every = ((target, name, one) for target, names in self.held.items() for name, one in names.items())
        return {(target, name): one[len(AWAY) :] for target, name, one in every if one.startswith(AWAY)}

    def changed(self, change: Callable[[str, str], str]) -> Restored:
        """Return it with another digest for each name; "" for none at all."""
        new = {target: {n: change(n, one) for n, one in names.items()} for target, names in self.held.items()}
        left = {target: {n: one for n, one in names.items() if one} for target, names in new.items()}
        return replace(self, held={target: names for target, names in left.items() if names})

    def removals(self, memory: Memory, held: Held, unasked: Collection[str]) -> Iterator[Step]:
        """Yield steps for names that stay away, and are still there as far as is known.

        Args:
            memory: what the record has; a name that it does not have is not there.
            held: what the targets answered.
            unasked: targets that could not be asked.
        """
        for (target, name), digest in self.away.items():
            there = held.get((target, name))
            group, of = f"{AWAY}{target}", (name, digest, target, (name,))
            if there == digest or (target in unasked and _recorded(memory, target, name)):
                yield Step(Action.DELETE, *of, "taken away by a restore", group=group)
            elif there is not None:
                why = f"it is {there} there, and not {digest} any more; only that is taken away"
                yield Step(Action.REFUSE, *of, why, code=GuardError.code)

    def asking(self, memory: Memory) -> Mapping[str, Collection[str]]:
        """Return by target the names that stay away and that the record still has there: they are asked for."""
        found: dict[str, list[str]] = {}
        for target, name in self.away:
            if _recorded(memory, target, name):
                found.setdefault(target, []).append(name)
        return found

    def apart(self) -> Mapping[str, Restored]:
        """Return what is restored of each of many repositories, `NAME:` → without that in front of its tags."""
        held: dict[str, dict[str, dict[str, str]]] = {}
        since: dict[str, dict[tuple[str, str], datetime]] = {}
        released: dict[str, set[tuple[str, str]]] = {}
        for target, names in self.held.items():
            for name, one in names.items():
                prefix, tag = _cut(name)
                held.setdefault(prefix, {}).setdefault(target, {})[tag] = one
        for (target, name), at in self.since.items():
            prefix, tag = _cut(name)
            since.setdefault(prefix, {})[target, tag] = at
        for target, name in self.released:
            prefix, tag = _cut(name)
            released.setdefault(prefix, set()).add((target, tag))
        return {
            prefix: Restored(held.get(prefix, {}), since.get(prefix, {}), released.get(prefix, frozenset()), prefix)
            for prefix in held.keys() | released.keys()
        }

    def believed(self, memory: Memory) -> Memory:
        """Return a record without what it has of released names from before: the targets are asked again."""
        if not self.released:
            return memory
        known, names = dict(memory.items()), dict(memory.names)
        for one in self.released:
            seen: LastSeen | None = known.get(one)
            if seen and seen.at <= self.since[one]:
                del known[one]
            named = names.get(one)
            if named and named.at <= self.since[one]:
                names[one] = replace(named, at=_NEVER)
        return Memory(known, names)

    def offered(
        self, offers: Sequence[Offer], targets: Sequence[str], *, alone: bool
    ) -> Iterator[tuple[Sequence[Offer], Sequence[str]]]:
        """Yield which offers go to which targets: a restored name is offered by nobody but us.

        Args:
            offers: of the source.
            targets: their names.
            alone: the offers are all that the run is about, such as a publish: held names are left out of them, and
                are not looked at themselves.
        """
        free = [target for target in targets if target not in self.held]
        if free:
            yield offers, free
        for target in targets:
            if held := self.held.get(target):
                there = [] if alone else [one for one in held.items() if not one[1].startswith(AWAY)]
                ours = (Offer(Item(n, one), (n,), restored=self.where.get(one, "restored")) for n, one in there)
                yield [*_without(offers, held), *ours], [target]

    def remarks(
        self, mirror: str, offers: Sequence[Offer], *, alone: bool, called: Callable[[str], str] = str
    ) -> Iterator[str]:
        """Yield a sentence for each held name that the source has otherwise: what is restored is forgotten easily.

        `alone` is as for `offered`; `called` is what people call a name.
        """
        if not self.held:
            return
        theirs = {name: offer.item.digest for offer in offers for name in offer.names}
        at: dict[tuple[str, str], list[str]] = {}
        for target, names in self.held.items():
            for name, digest in names.items():
                at.setdefault((name, digest), []).append(target)
        for (name, digest), targets in sorted(at.items()):
            away = digest.startswith(AWAY)
            if theirs.get(name) == digest or (name not in theirs and (alone or away)):
                continue
            new = f"the source has {theirs[name]}" if name in theirs else "the source offers none"
            what = "was taken away and is not copied" if away else f"was restored and stays {digest}"
            item = f"{self.prefix}{called(name)}"
            again = f"`mirrord restore {mirror} {item} --release` lets the source decide again"
            yield f"{item} {what} at {', '.join(sorted(targets))}; {new}; {again}"


def _cut(name: str) -> tuple[str, str]:
    repository, colon, tag = name.rpartition(":")
    return f"{repository}{colon}", tag


def _recorded(memory: Memory, target: str, name: str) -> bool:
    return (target, name) in memory or (target, name) in memory.names


def hold(facts: Mapping[str, str], names: Names, at: datetime) -> Mapping[str, str]:
    """Return facts with further names held."""
    return Restored.read(facts).holding(names, at).facts(at)


NOTHING: Final = Restored()
"""Nothing is restored."""


def _without(offers: Sequence[Offer], held: Collection[str]) -> Iterator[Offer]:
    """Yield offers without names that are held; those that have no other are left out."""
    for offer in offers:
        if any(name in held for name in offer.names):
            names = tuple(name for name in offer.names if name not in held)
            if names:
                yield replace(offer, names=names)
        else:
            yield offer
