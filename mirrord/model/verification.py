"""What a verification found: whether each target still has what the record says that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Level(StrEnum):
    """How far a verification looks; each level includes those before it."""

    NAMES = "names"  # each name stands for its digest
    DEEP = "deep"  # everything below it is there: manifests and blobs, archives, objects
    BYTES = "bytes"  # content is read and hashed, another share of it each time

    @property
    def included(self) -> Sequence[Level]:
        """This level and those before it."""
        every = list(Level)
        return every[: every.index(self) + 1]


@dataclass(frozen=True, slots=True)
class Verifying:
    """When a mirror is verified by itself, and how."""

    every: float | None = None  # seconds between two verifications; None means on command only
    level: Level = Level.DEEP  # how far one by schedule looks
    budget: int = 1 << 30  # bytes of content that one reads and hashes at each target, if it reads content


@dataclass(frozen=True, slots=True)
class VerifyFinding:
    """Why one item at one target differs from the record, or why that could not be told.

    Attributes:
        target: name of the target.
        item: name of the item; "" for the target as a whole.
        code: `missing`: nothing has its name; `moved`: its name stands for other content; `tree`: a manifest below it
            is missing or damaged; `blob`: a blob, archive or object is missing or has another size; `signature`: a
            signature, attestation or SBOM that was carried with it is missing or damaged; `bytes`: the bytes are not
            those of its digest; `behind`: it is not there as the source has it; `refused`: the same, since a rule of
            ours forbids it, which is no drift. With `unknown` the code of an error, or `unrecorded`.
        text: one sentence.
        digest: of the content that is missing or wrong, or "".
        unknown: whether it only says that nobody can tell: it is neither equal nor different.
    """

    target: str
    item: str
    code: str
    text: str
    digest: str = ""
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class TargetVerification:
    """What a verification found at one target.

    Attributes:
        target: name of the target; "" for the mirror as a whole.
        at: when the verification ended.
        level: how far it looked; a Git host does not let anybody look further than names.
        levels: when each level was last verified, as far as the target lets anybody look.
        checked: items that were looked at.
        drift: those of them that differ from the record.
        unknown: those of them of which that could not be told; at least 1 if nothing could be told of the target.
        refused: items that are not there as the source has them, since a rule of ours forbids it; they are no drift.
        read: bytes of content that were read and hashed.
        size: bytes of all the content that was found, each digest once; 0 if that was not looked for.
        findings: the first ones; drift first, and what is refused last.
    """

    target: str
    at: datetime
    level: Level
    checked: int = 0
    drift: int = 0
    unknown: int = 0
    read: int = 0
    size: int = 0
    findings: tuple[VerifyFinding, ...] = ()
    refused: int = 0
    levels: Mapping[Level, datetime] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether all of it is as recorded, as far as the level looks."""
        return not self.drift and not self.unknown


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification of one mirror found.

    Attributes:
        mirror: name of the mirror.
        kind: kind of artifact.
        level: how far it looked.
        targets: what it found at each target.
        repaired: items that differed and do not any more, at all targets; None if nobody asked for repair.
        error: why a repair ended early, or "".
    """

    mirror: str
    kind: str
    level: Level
    targets: tuple[TargetVerification, ...] = ()
    repaired: int | None = None
    error: str = ""

    @property
    def drift(self) -> int:
        """Items that differ, at all targets."""
        return sum(target.drift for target in self.targets)

    @property
    def unknown(self) -> int:
        """Items of which nothing could be told, at all targets."""
        return sum(target.unknown for target in self.targets)

    @property
    def whole(self) -> TargetVerification:
        """The sum over all targets."""
        at = max(target.at for target in self.targets)
        names = ("checked", "drift", "unknown", "read", "size", "refused")
        sums = {name: sum(getattr(target, name) for target in self.targets) for name in names}
        every = [target.levels for target in self.targets]
        levels = {level: min(one[level] for one in every) for level in Level if all(level in one for one in every)}
        return TargetVerification("", at, self.level, **sums, levels=levels)
