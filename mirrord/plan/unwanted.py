"""What a prune looks at: names that a mirror does not want any more, and the state of source and targets. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import chain

from mirrord.errors import MirrordError
from mirrord.model.digest import Digest
from mirrord.model.ledger import LedgerEntry
from mirrord.model.memory import Memory
from mirrord.syncer.values import Mirror, PruneWish
from mirrord.wire.oci.reference import ABOUT_TAGS

Key = tuple[str, str]
"""Target, and name there as in the ledger: with its repository, or chart, in front where a mirror has many."""


@dataclass(frozen=True, slots=True)
class Wants:
    """What a mirror wants of one repository of its source, or of one chart.

    Attributes:
        mirror: the mirror of that repository alone; of a chart, the whole one.
        names: names at the targets.
        listed: all its tags, or versions, at the source; None where nothing was listed, because the configuration
            names them all.
        why: name → why it is not wanted, a clause.
        otherwise: the same for all other names.
        empty: whether the source was listed and has nothing at all.
    """

    mirror: Mirror
    names: frozenset[str]
    listed: Collection[str] | None = None
    why: Mapping[str, str] = field(default_factory=dict)
    otherwise: str = "the source does not have it any more"
    empty: bool = False

    def lacks(self, tag: str) -> bool:
        """Whether nothing in the configuration is about a tag; one that a rule leaves out is no accident, all are."""
        return tag not in self.names and (tag not in self.why or not self.names)


@dataclass(frozen=True, slots=True)
class Unwanted:
    """A name at a target that the mirror does not want.

    Attributes:
        target: name of the target.
        name: as in the ledger.
        repository: what the name has in front where a mirror has many (of a version its chart), else "".
        tag: the name without that.
        entry: its newest move; None for a name that somebody else set.
        why: why it is not wanted, a clause.
    """

    target: str
    name: str
    repository: str
    tag: str
    entry: LedgerEntry | None
    why: str

    @property
    def key(self) -> Key:
        """Target and name."""
        return self.target, self.name


@dataclass(frozen=True)
class PruneSurvey:
    """The state of source and targets.

    Attributes:
        wish: what may be removed besides.
        wants: repository ("" for the only one) → what is wanted of it; without those that could not be read.
        moves: of the ledger, by target and name.
        memory: from the record.
        restored: names at targets that are restored, and so wanted until they are released.
        there: target and repository → all tags there, as far as they can be listed.
        since: name → when a listing first did not want it.
        unread: repositories of the source that could not be read, one sentence each: their names stay.
        lost: why the listing looks like an accident, one sentence, or "".
        trouble: target and repository, or "" for all that is there → why it could not be asked.
        held: digests of names that may be removed, and others with their content; None for what is gone.
        claims: names that another mirror has at the same place, with that mirror.
        found: repository and digest → the places where that can be read now.
        after: seconds between two listings that have to agree.
        words: what names are called.
        called: returns the item of a name.
    """

    wish: PruneWish
    wants: Mapping[str, Wants]
    moves: Mapping[Key, LedgerEntry]
    memory: Memory
    restored: Collection[Key] = frozenset()
    there: Mapping[Key, Collection[str]] = field(default_factory=dict)
    since: Mapping[str, datetime] = field(default_factory=dict)
    unread: Sequence[str] = ()
    lost: str = ""
    trouble: Mapping[Key, MirrordError] = field(default_factory=dict)
    held: Mapping[Key, Digest | None] = field(default_factory=dict)
    claims: Mapping[Key, str] = field(default_factory=dict)
    found: Mapping[tuple[str, Digest], Sequence[str]] = field(default_factory=dict)
    after: float = 0.0
    words: str = "tags"
    called: Callable[[str], str] = str

    @cached_property
    def alive(self) -> Mapping[Key, LedgerEntry]:
        """The moves of names that were not deleted."""
        return {key: entry for key, entry in self.moves.items() if entry.after is not None}

    def unwanted(self) -> Iterator[Unwanted]:
        """Yield the names that are not wanted: of the ledger, and others that targets list."""
        listed = ((target, repository, tag) for (target, repository), tags in self.there.items() for tag in tags)
        others = (
            (target, joined(repository, tag)) for target, repository, tag in listed if not tag.startswith(ABOUT_TAGS)
        )
        for target, name in chain(self.alive, (key for key in others if key not in self.alive)):
            repository, tag = divided(name, many=self.many)
            wants = self.wants.get(repository)
            if wants is None or tag in wants.names or self.untold(target, repository):
                continue
            if (target, name) in self.restored:
                continue
            why = wants.why.get(tag, wants.otherwise)
            yield Unwanted(target, name, repository, tag, self.alive.get((target, name)), why)

    def untold(self, target: str, repository: str) -> bool:
        """Whether a target could not be asked about a repository."""
        return (target, repository) in self.trouble or (target, "") in self.trouble

    def unread_of(self, name: str) -> bool:
        """Whether nobody knows by this survey whether a name is wanted: what was noted of it stays noted."""
        repository, _ = divided(name, many=self.many)
        return repository not in self.wants or any(key[1] in (repository, "") for key in self.trouble)

    def items(self) -> Mapping[Key, Collection[str]]:
        """Return the names that are not wanted, each with its item, and the one that its content has without a tag."""
        return {one.key: (self.called(one.name), *_untagged(one)) for one in self.unwanted()}

    @cached_property
    def many(self) -> bool:
        """Whether names have their repository in front."""
        return "" not in self.wants

    def published(self, one: Unwanted) -> bool:
        """Whether a name is that of a build, which was never listed by a source."""
        return one.key in self.memory.names


def _untagged(one: Unwanted) -> Iterator[str]:
    if one.entry and one.entry.after:
        yield f"{one.repository}@{one.entry.after}" if one.repository else one.entry.after


def divided(name: str, *, many: bool) -> tuple[str, str]:
    """Return repository and tag of a name of the ledger."""
    repository, _, tag = name.rpartition(":")
    return (repository, tag) if many else ("", name)


def joined(repository: str, tag: str) -> str:
    """Return the name in the ledger."""
    return f"{repository}:{tag}" if repository else tag
