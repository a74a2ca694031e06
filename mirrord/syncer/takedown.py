"""The part of the port for kinds whose content can be taken down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirrord.model.digest import Digest
from mirrord.model.ledger import LedgerEntry
from mirrord.model.takedown import LeftName
from mirrord.syncer.values import Mirror, Services

if TYPE_CHECKING:
    from mirrord.names.denied import Denied, DeniedEntry
    from mirrord.syncer.port import Syncer

Moves = Mapping[tuple[str, str], LedgerEntry]
"""By target and name, the newest move."""


@dataclass(frozen=True, slots=True)
class Meant:
    """What a person means, what is not known of it, and what stays at targets whatever is removed."""

    entry: DeniedEntry
    remark: str = ""
    left: Sequence[LeftName] = ()
    near: str = ""  # `host/path@digest` where that was named


@dataclass(frozen=True, slots=True)
class TakedownWish:
    """What is to be removed.

    Attributes:
        entry: what was taken down.
        adopt: whether what the ledger does not have goes, too: what only mirrord writes, and content that is denied.
        near: `host/path@digest` where that was named: it is looked for there where the ledger does not have it.
    """

    entry: DeniedEntry
    adopt: bool = False
    near: str = ""


@dataclass(frozen=True, slots=True)
class Purged:
    """What went from `local`: how many names and manifests; and what did not go."""

    count: int = 0
    left: Sequence[LeftName] = ()


@dataclass(frozen=True, slots=True)
class TakesDown:
    """How what mirrors of a kind have is taken down; without `removing` people remove it at targets.

    Attributes:
        purge: removes it from `local`, at once, if the ledger has it: gets all content that came there, None for all.
        find: returns what a reference means that a person types, at its source or at a target, and the digests that are
            known of it; without a reason. Gets the moves of names by mirror. Raises `UsageError` if it is none.
        concerned: whether a mirror may have it at a target. Blocks.
        removing: returns the same kind with another `survey`, `plan` and `open`, whose runs remove it at targets.
        item: returns the digests that an item of a mirror had, for a kind whose items are taken down by their names.
    """

    purge: Callable[[Denied, Services, Collection[str] | None], Awaitable[Purged]]
    find: Callable[[str, Services, Mapping[str, Moves]], Awaitable[Meant]] | None = None
    concerned: Callable[[TakedownWish, Mirror, Moves], bool] | None = None
    removing: Callable[[TakedownWish], Syncer] | None = None
    item: Callable[[Mirror, str, Services, Moves], Awaitable[Collection[Digest]]] | None = None
