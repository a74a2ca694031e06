"""Reads what `git push --porcelain` prints: one line for each ref, and what became of it there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mirrord.errors import ContentError

_LONGEST_REASON = 400  # characters of a host's reason that are kept


class PushStatus(StrEnum):
    """What became of a ref at the destination."""

    CREATED = "created"
    FORWARD = "forward"
    FORCED = "forced"
    DELETED = "deleted"
    SAME = "same"
    REJECTED = "rejected"


_FLAGS = {
    "*": PushStatus.CREATED,
    " ": PushStatus.FORWARD,
    "+": PushStatus.FORCED,
    "-": PushStatus.DELETED,
    "=": PushStatus.SAME,
    "!": PushStatus.REJECTED,
}


@dataclass(frozen=True, slots=True)
class RefResult:
    """How one ref of a push ended.

    Attributes:
        ref: its full name at the destination.
        became: what became of it.
        reason: why it was rejected, in the words of git or of the host; "" when it was not.
        remote: the host said no, not git here.
    """

    ref: str
    became: PushStatus
    reason: str = ""
    remote: bool = False

    @property
    def ok(self) -> bool:
        """Whether the destination says that it has what was pushed."""
        return self.became is not PushStatus.REJECTED


def parse_porcelain(out: bytes) -> tuple[RefResult, ...]:
    """Read the lines `<flag> TAB <from>:<to> TAB <summary> (<reason>)` (git-push(1), OUTPUT); others are passed over.

    Raises:
        ContentError: a line has the shape of a result and says nothing that git-push(1) knows.
    """
    lines = out.decode(errors="surrogateescape").split("\n")
    return tuple(_result(line) for line in lines if line[1:2] == "\t")


def _result(line: str) -> RefResult:
    flag, pair, summary = (*line.split("\t", 2), "")[:3]
    ref = pair.rpartition(":")[2]
    if flag not in _FLAGS or not ref.startswith("refs/"):
        message = f"git push said {line[:200]!r}, which is no result of a ref"
        raise ContentError(message)
    if _FLAGS[flag] is not PushStatus.REJECTED:
        return RefResult(ref, _FLAGS[flag])
    label, opened, reason = summary.partition("] (")
    told = reason.removesuffix(")") if opened else label.strip("[]")
    return RefResult(ref, PushStatus.REJECTED, told[:_LONGEST_REASON] or "rejected", label.startswith("[remote"))
