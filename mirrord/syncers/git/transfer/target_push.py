"""What goes to one target in a run, seen from the plan: its steps, the changes that they mean, and their receipts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mirrord.errors import MirrordError
from mirrord.model.plan import Action, Step
from mirrord.model.run import Outcome, Receipt
from mirrord.syncer.values import LOCAL, Target
from mirrord.syncers.git.plan.steps import DEFAULT_BRANCH, EVERYTHING, LFS
from mirrord.syncers.git.transfer.destinations import Push
from mirrord.transfer.execute import failed
from mirrord.wire.git.changes import Change
from mirrord.wire.git.refs import Refs

_NAMED = 3


@dataclass(frozen=True, slots=True)
class TargetPush:
    """What goes to one target."""

    target: Target  # where
    steps: tuple[Step, ...]  # those that the plan has for it; each is answered by one receipt
    # where the target was not seen when the plan was made, what a second look led to: the steps that the one step
    # stands for, or the receipt when there are none to take
    found: tuple[Step, ...] | Receipt | None = None
    began: float = field(default_factory=time.monotonic)  # when the run came to it, by the monotonic clock

    @property
    def away(self) -> bool:
        """Whether it goes to another machine."""
        return self.target.name != LOCAL

    @property
    def unseen(self) -> bool:
        """Whether the plan did not know what the target has: one step stands for all that may have to be done."""
        return any(step.item == EVERYTHING for step in self.steps)

    @property
    def work(self) -> tuple[Step, ...]:
        """The steps to take."""
        if isinstance(self.found, Receipt):
            return ()
        return self.steps if self.found is None else self.found

    @property
    def lfs(self) -> bool:
        """Whether LFS objects are to be brought."""
        return any(step.item == LFS for step in self.work)

    @property
    def head(self) -> str | None:
        """The branch to make the default one, or None."""
        return next((step.digest for step in self.work if step.item == DEFAULT_BRANCH), None)

    def seen(self, look: Refs | MirrordError | None, steps: Mapping[str, Sequence[Step]]) -> TargetPush:
        """Return it with what a second look led to: the steps that its one step stands for, or why there are none."""
        (step,) = self.steps
        if isinstance(look, MirrordError):
            return replace(self, found=failed(step, look))
        mine = steps[self.target.name]
        refusal = next((one.reason for one in mine if one.action is Action.REFUSE), "")
        if refusal:
            return replace(self, found=Receipt(step, Outcome.REFUSED, refusal, "refused"))
        return replace(self, found=tuple(one for one in mine if one.active))

    def changes(self, held: Refs) -> tuple[Change, ...]:
        """Return the changes to make, compared with what the target has."""
        return tuple(_change(step, held) for step in self.work if step.item not in {DEFAULT_BRANCH, LFS})

    def receipt(self, step: Step, push: Push, note: str) -> Receipt:
        """Return the receipt of a step, by what the destination showed afterwards."""
        if step.item == DEFAULT_BRANCH:
            error = push.errors.get(DEFAULT_BRANCH)
            return done(step, note) if error is None else failed(step, error)
        change = _change(step, push.after)
        wrong = push.error_of(change)
        if wrong is not None:
            return failed(step, wrong)
        if push.was_there(change):
            return Receipt(step, Outcome.KEPT, f"{step.item}: was there already")
        return done(step, note)

    def answered(self, receipts: Sequence[Receipt]) -> Sequence[Receipt]:
        """Return one receipt for each step of the plan, with the time that it took."""
        if isinstance(self.found, Receipt):
            receipts = [self.found]
        elif self.found is not None:
            receipts = [_together(self.steps[0], receipts)]
        seconds = time.monotonic() - self.began
        return [replace(receipt, seconds=seconds) for receipt in receipts]


def _change(step: Step, held: Refs) -> Change:
    return Change(step.item, held.refs.get(step.item), step.digest if step.action is Action.COPY else None)


def done(step: Step, note: str = "") -> Receipt:
    """Return the receipt of a step that was taken; `note` is what people should know besides."""
    return Receipt(step, Outcome.DONE, f"{step.item}: {step.reason}{'; ' if note else ''}{note}")


def _together(step: Step, receipts: Sequence[Receipt]) -> Receipt:
    """Return one receipt for many: the worst outcome, with the first reasons for it."""
    bad, sent = [one for one in receipts if not one.good], sum(one.sent for one in receipts)
    if not receipts:
        return Receipt(step, Outcome.KEPT, "everything was as upstream")
    if not bad:
        return Receipt(step, Outcome.DONE, f"{len(receipts)} refs changed", sent=sent)
    worst = next((one for one in bad if one.outcome is Outcome.FAILED), bad[0])
    reasons = "; ".join(one.detail for one in bad[:_NAMED])
    return Receipt(step, worst.outcome, f"{len(bad)} of {len(receipts)} refs: {reasons}", worst.code, sent)
