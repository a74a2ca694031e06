"""How a kind sets names back to earlier content."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrord.syncer.values import Backup, Mirror, Services

if TYPE_CHECKING:
    from mirrord.syncer.port import Syncer

FACTS: Final = "restored"
"""Name of the facts of a mirror: which names are restored, and which were released."""


@dataclass(frozen=True, slots=True)
class Restores:
    """For a kind that keeps backups of what its runs overwrite and delete.

    Attributes:
        backups: lists backups, newest first, including restored ones that override upstream.
        restore: lets backups, given as names or globs, override upstream from the next run on, or with `release=True`
            no longer: all of them, or none. Raises `UsageError` if no backup has one of the names.
    """

    backups: Callable[[Mirror, Services], Awaitable[Sequence[Backup]]]
    restore: Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RestoreWish:
    """What names are set back to.

    Attributes:
        names: (target, name of the ledger) → the digest that it gets there, or `plan.restored.AWAY` and the digest that
            is taken away there.
    """

    names: Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class Resetting:
    """For a kind whose names can be set back to what the ledger has, while that content is anywhere.

    Attributes:
        variant: returns the kind, but it surveys, plans and moves the names of a wish alone; beginning to execute that
            plan holds them (`transfer.restoring.holding`).
        where: says of digests where they can be read now, a clause each; given the digests by their names.
        called: returns the item of a name of the ledger: what people call it.
    """

    variant: Callable[[RestoreWish], Syncer]
    where: Callable[[Mirror, Services, Mapping[str, Collection[str]]], Awaitable[Mapping[str, str]]]
    called: Callable[[str], str] = str
