"""Reads from the logs of replicas who ran a mirror with which fence, and who wrote names after somebody else did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.support.commands import Served


@dataclass(slots=True)
class FencedRun:
    """A run of a mirror, as the process that ran it logged it.

    Attributes:
        mirror: its name.
        fence: of its lease.
        doubtful: whether it asked the targets instead of trusting the record.
        began: when.
        moves: when the process said that it had written something, and to which target; never before it did.
        code: of its error, or "".
        result: as it says itself, "" if it does not.
    """

    mirror: str
    fence: int
    doubtful: bool
    began: str
    moves: list[tuple[str, str]] = field(default_factory=list)
    code: str = ""
    result: str = ""

    @property
    def good(self) -> bool:
        """Whether it says that it ended well."""
        return self.result in ("success", "noop")

    @property
    def lost(self) -> bool:
        """Whether its process may have written something without knowing whether it still had the lease."""
        return not self.result or self.code == "fenced"

    def late(self, later: FencedRun) -> int:
        """Return how many names at most it wrote at one target when a later run had written some already."""
        if not later.moves:
            return 0
        first = min(at for at, _ in later.moves)
        targets = [target for at, target in self.moves if at > first]
        return max(map(targets.count, targets), default=0)


def read(lives: Iterable[Served]) -> dict[str, list[FencedRun]]:
    """Return the runs of each mirror, by their fences. A process has one run of a mirror at a time."""
    found = defaultdict[str, list[FencedRun]](list)
    for life in lives:
        open_runs = dict[str, FencedRun]()
        for line in life.lines:
            name = line.get("mirror", "")
            if line["event"] == "run.started":
                open_runs[name] = FencedRun(name, line["fence"], line["doubtful"], line["time"])
                found[name].append(open_runs[name])
            elif line["event"] == "step.done" and line["outcome"] == "done":
                open_runs[name].moves.append((line["time"], line["target"]))
            elif line["event"] == "run.finished":
                open_runs[name].code, open_runs[name].result = line.get("error_code", ""), line["result"]
    return {name: sorted(runs, key=lambda run: run.fence) for name, runs in found.items()}


def wrong(runs: Sequence[FencedRun], batch: int) -> list[str]:
    """Return what the fences of one mirror should have prevented, where `batch` names may be late at a target."""
    said = [f"{one.mirror}: fence {one.fence} twice" for one, two in pairwise(runs) if one.fence == two.fence]
    said += [
        f"{one.mirror}: {two.fence} trusts the record though {one.fence} was lost"
        for one, two in pairwise(runs)
        if one.lost and not two.doubtful
    ]
    for number, one in enumerate(runs):
        late = max((one.late(two) for two in runs[number + 1 :]), default=0)
        if late > batch:
            said.append(f"{one.mirror}: {late} names by fence {one.fence} after a later one")
    return said
