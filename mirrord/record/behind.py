"""Derives from a run what its targets should have and do not have. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from mirrord.errors import MirrordError, RefusedError, StoppedError
from mirrord.model.history import Behind
from mirrord.model.plan import Action, Step
from mirrord.model.run import APART, BESIDE, Outcome, Receipt, Run

BEHIND: Final = 1000
"""Items kept for each target, those that have been behind longest."""
_REASON: Final = 600


@dataclass(frozen=True, slots=True)
class Lacking:
    """What one run says of what targets have not.

    Attributes:
        found: by target of the plan, the items that it has not.
        planned: by target, the items of the plan if the plan was not about all items (a publish, or a source that was
            read in part): other items stay behind. None if it was about all.
        targets: all targets of the mirror: nothing is behind at others of before. Empty if unknown.
    """

    found: Mapping[str, Sequence[Behind]] = field(default_factory=dict)
    planned: Mapping[str, frozenset[str]] | None = None
    targets: frozenset[str] = frozenset()

    @classmethod
    def of(cls, run: Run, parts: Mapping[str, tuple[Sequence[Step], Sequence[Receipt]]]) -> Lacking:
        """Look through a run; `parts` are its steps and receipts by target. A run without a plan says nothing.

        Nor does one of `BESIDE`.
        """
        if run.plan is None or run.trigger in BESIDE:
            return cls()
        found = {target: _at_target(run, *part) for target, part in parts.items()}
        planned = None
        if run.trigger in APART or run.plan.missing:
            planned = {target: frozenset(step.item for step in steps) for target, (steps, _) in parts.items()}
        return cls(found, planned, frozenset(run.places))

    def after(self, before: Mapping[str, Sequence[Behind]]) -> Mapping[str, Sequence[Behind]]:
        """Return what is behind now at each target where that may have changed; the oldest first."""
        gone = [target for target in before if self.targets and target not in self.targets]
        return {**dict.fromkeys(gone, ()), **{name: self._merged(name, before.get(name, ())) for name in self.found}}

    def _merged(self, target: str, before: Sequence[Behind]) -> Sequence[Behind]:
        since = {one.item: one.since for one in before}
        now = [replace(one, since=min(since.get(one.item, one.since), one.since)) for one in self.found[target]]
        if self.planned is not None:
            now += [one for one in before if one.item not in self.planned[target]]
        return sorted(now, key=lambda one: (one.since, one.item))


def not_reached(run: Run) -> tuple[str, str]:
    """Return code and reason of the steps that a run did not get to."""
    return run.code or StoppedError.code, run.error or "stopped before everything was done"


def _at_target(run: Run, steps: Sequence[Step], receipts: Sequence[Receipt]) -> Sequence[Behind]:
    """Return what the target of these steps has not, each item once; what is wrong upstream is not to be there."""
    ended = {receipt.step.item: receipt for receipt in receipts if receipt.step.action is Action.COPY}
    found: dict[str, Behind] = {}
    for step in steps:
        if step.action is Action.REFUSE:
            code, reason = step.code or RefusedError.code, step.reason
        elif step.action is not Action.COPY:
            continue
        elif (receipt := ended.get(step.item)) is None:
            code, reason = not_reached(run)
        elif receipt.good or receipt.outcome is Outcome.LEFT_OUT:
            continue
        else:
            code, reason = receipt.code or MirrordError.code, receipt.detail or receipt.outcome.value
        line = " ".join(reason[: 4 * _REASON].split()).removeprefix(f"{step.item}: ")[:_REASON]
        found.setdefault(
            step.item, Behind(step.target, step.item, step.digest, run.plan.at if run.plan else run.started, code, line)
        )
    return list(found.values())
