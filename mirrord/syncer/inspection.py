"""Where a kind reports what it sees of its targets while they are verified."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from mirrord.errors import ContentError, MirrordError, MissingError
from mirrord.model.memory import LastSeen, Memory
from mirrord.model.verification import Level, TargetVerification, VerifyFinding

FINDINGS: Final = 1000
"""Findings that are kept of one target, of each sort; further ones are only counted."""

_EPOCH: Final = datetime.fromtimestamp(0, UTC)


class Inspection:
    """The verification of one mirror under way: what each target should have, and what was found there.

    Attributes:
        level: how far to look.
        began: when.
        read_up_to: by target, the digest up to which content was read.
    """

    def __init__(
        self,
        level: Level,
        expected: Memory,
        budget: int = 0,
        read_up_to: Mapping[str, str] | None = None,
        began: datetime = _EPOCH,
    ) -> None:
        """Begin; `budget` is how many bytes to read and hash at each target."""
        self.level, self._budget, self.began = level, budget, began
        self.read_up_to = dict(read_up_to or {})
        self._doubted: frozenset[str] | None = None  # once items are looked at again
        self._expected = defaultdict[str, dict[str, LastSeen]](dict)
        self._checked = defaultdict[str, set[str]](set)
        self._drift = defaultdict[str, set[str]](set)
        self._unknown = defaultdict[str, set[str]](set)
        self._refused = defaultdict[str, set[str]](set)
        self._unsure = set[str]()  # targets where this look, the second or the first, ended early
        self._findings = defaultdict[tuple[str, str], list[VerifyFinding]](list)  # by target and sort
        self._furthest: dict[str, Level] = {}
        self._read = defaultdict[str, int](int)
        self._size = defaultdict[str, int](int)
        self._expect(expected)

    def _expect(self, expected: Memory) -> None:
        self._expected.clear()
        for (target, item), seen in expected.items():
            self._expected[target][item] = seen

    def no_further(self, target: str, level: Level) -> None:
        """Say that a target does not let anybody look further than this."""
        self._furthest[target] = level

    def items(self, target: str) -> Mapping[str, LastSeen]:
        """Return the items that a target should have, with their state in the record."""
        return self._expected.get(target, {})

    def looked(self, target: str, item: str) -> None:
        """Note that an item was looked at; whatever differs is reported besides."""
        self._checked[target].add(item)

    def differs(self, target: str, item: str, code: str, text: str, digest: str = "") -> None:
        """Report what is not as recorded; `code` is one of `VerifyFinding.code`."""
        self._drift[target].add(item)
        self._add("drift", VerifyFinding(target, item, code, text, digest))

    def refused(self, target: str, item: str, text: str) -> None:
        """Report what a rule of ours keeps from being there: it is no drift."""
        self._refused[target].add(item)
        self._add("refused", VerifyFinding(target, item, "refused", text))

    def untold(self, target: str, item: str, error: MirrordError | str) -> None:
        """Report why nothing can be told of an item, or with "" of anything at a target."""
        self._unknown[target].add(item)
        if not item:
            self._unsure.add(target)
        code = error.code if isinstance(error, MirrordError) else "unrecorded"
        self._add("unknown", VerifyFinding(target, item, code, str(error), unknown=True))

    def failed(self, target: str, items: Collection[str], code: str, error: MirrordError, digest: str = "") -> None:
        """Report an error in reading content of items: what is missing or wrong differs, else nothing can be told."""
        for item in items:
            if isinstance(error, MissingError | ContentError):
                self.differs(target, item, code, str(error), digest)
            else:
                self.untold(target, item, error)

    def sample(self, target: str, sizes: Mapping[str, int]) -> Iterator[str]:
        """Yield which of these digests to read this time: within the budget, but always one.

        They come in the order of their digests, from where the last verification ended, so that all are read in the
        course of several. What was found damaged before is read again instead.
        """
        self._size[target] = max(self._size[target], sum(sizes.values()))
        if self._doubted is not None:
            yield from (digest for digest in sorted(sizes) if digest in self._doubted)
            return
        ordered, left = sorted(sizes), self._budget
        start = bisect_right(ordered, self.read_up_to.get(target, ""))
        for number, digest in enumerate((*ordered[start:], *ordered[:start])):
            if number and sizes[digest] > left:
                return
            left -= sizes[digest]
            yield digest
            self.read_up_to[target] = digest  # when the caller has read it

    def was_read(self, target: str, count: int) -> None:
        """Count bytes that were read and hashed."""
        self._read[target] += count

    def again(self, items: Collection[tuple[str, str]], expected: Memory) -> None:
        """Look at some items again, by target and name, against this record; what was found of them counts no more.

        What is refused is to be reported again, of all items.
        """
        self._doubted = frozenset(one.digest for one in self.drift() if one.code == "bytes")
        self._unsure.clear()
        self._expect(expected)
        for target, item in items:
            self._drift[target].discard(item)
            self._unknown[target].discard(item)
        self._refused.clear()
        for key, found in self._findings.items():
            kept = [] if key[1] == "refused" else found
            self._findings[key] = [one for one in kept if (one.target, one.item) not in items]

    def drifted(self) -> Mapping[str, frozenset[str]]:
        """Return by target the items that differ."""
        return {target: frozenset(items) for target, items in self._drift.items() if items}

    def settled(self, target: str, items: Collection[str]) -> int:
        """Return how many of these items, looked at again, do not differ any more; not those that nobody could see."""
        return 0 if target in self._unsure else len(set(items) - self._drift[target] - self._unknown[target])

    def drift(self) -> Sequence[VerifyFinding]:
        """Return the findings that differ from the record."""
        return [one for (_, sort), found in self._findings.items() if sort == "drift" for one in found]

    def result(self, target: str, at: datetime) -> TargetVerification:
        """Return what was found at a target."""
        return TargetVerification(
            target,
            at,
            self._furthest.get(target, self.level),
            checked=len(self._checked[target]),
            drift=len(self._drift[target]),
            unknown=len(self._unknown[target] - self._drift[target]),
            read=self._read[target],
            size=self._size[target],
            findings=tuple(one for sort in ("drift", "unknown", "refused") for one in self._findings[target, sort]),
            refused=len(self._refused[target] - self._drift[target]),
            levels=dict.fromkeys(self.level.included, at),
        )

    def _add(self, sort: str, finding: VerifyFinding) -> None:
        found = self._findings[finding.target, sort]
        if len(found) < FINDINGS:
            found.append(finding)
