"""The changes of a push, and their results. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from mirrord.errors import MirrordError
from mirrord.wire.git.refs import blocking

LONGEST_REASON: Final = 400  # characters of a host's reason that are kept


class PushStatus(Enum):
    """What became of a ref at the destination."""

    CREATED = "created"
    MOVED = "moved"
    DELETED = "deleted"
    SAME = "was there already"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class RefResult:
    """How one ref of a push ended."""

    ref: str  # its full name at the destination
    became: PushStatus  # what became of it
    reason: str = ""  # why it was rejected, in the words of git or of the host; "" when it was not
    remote: bool = False  # the host said no, not git here

    @property
    def ok(self) -> bool:
        """Whether the destination accepted it."""
        return self.became is not PushStatus.REJECTED


@dataclass(frozen=True, slots=True)
class Change:
    """One ref to change at the destination."""

    ref: str  # its full name
    old: str | None  # what the destination was seen to have, or None when it has no such ref
    new: str | None  # its new object, or None to delete the ref


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did."""

    results: tuple[RefResult, ...]  # by ref; what counts is what the destination shows afterwards
    words: str = ""  # further messages of git and of the host, redacted
    error: MirrordError | None = None  # why it ended before all refs had a result, or None


def joined(done: Sequence[Pushed], error: MirrordError | None = None) -> Pushed:
    """Join the results of several pushes; `error` ended them early."""
    words = "\n".join(dict.fromkeys(one.words for one in done if one.words))
    errors = [*(one.error for one in done if one.error), *([error] if error else ())]
    return Pushed(tuple(result for one in done for result in one.results), words, errors[0] if errors else None)


def batches(changes: Sequence[Change], most: int) -> Iterator[Sequence[Change]]:
    """Yield what goes together: deletions in the way, then what is set, branches first, all other deletions last."""
    kept = sorted((change for change in changes if change.new is not None), key=lambda change: change.ref)
    gone = {change.ref: change for change in changes if change.new is None}
    way = blocking(gone, [change.ref for change in kept])
    left = [change for change in gone.values() if change.ref not in way]
    for many in ([gone[ref] for ref in sorted(way)], [*kept, *left]):
        for start in range(0, len(many), most):
            yield many[start : start + most]
