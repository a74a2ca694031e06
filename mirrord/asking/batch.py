"""What the run that copies some images has done so far. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from mirrord.asking.asked import AskState
from mirrord.asking.judged import AskEnd, receipted
from mirrord.events import BytesSent, Event, Planned, StepDone, StepSized
from mirrord.model.plan import Step
from mirrord.model.request import ASKED
from mirrord.model.run import Receipt


@dataclass(slots=True, eq=False)
class AskBatch:
    """A run under way of the mirror `ASKED`.

    Attributes:
        sent: bytes sent so far, of all images to all places.
    """

    sent: int = 0
    _totals: dict[tuple[str, str], int] = field(default_factory=dict)
    _steps: dict[str, list[Step]] = field(default_factory=dict)
    _receipts: dict[str, list[Receipt]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Bytes that it sends at most, as far as that is known."""
        return max(self.sent, sum(self._totals.values()))

    def hear(self, event: Event) -> tuple[str, AskEnd] | None:
        """Take note of an event; return an image that is done by it, though others are not."""
        match event:
            case Planned(plan) if plan.mirror == ASKED:
                for step in plan.steps:
                    self._steps.setdefault(step.item, []).append(step)
            case StepSized(target, item, total) if target.partition("/")[0] == ASKED:
                self._totals[target, item] = total
            case BytesSent(target, fresh) if target.partition("/")[0] == ASKED:
                self.sent += fresh
            case StepDone(mirror, receipt) if mirror == ASKED:
                return self._done(receipt)
            case _:
                pass
        return None

    def _done(self, receipt: Receipt) -> tuple[str, AskEnd] | None:
        item = receipt.step.item
        self._receipts.setdefault(item, []).append(receipt)
        end = receipted(self._steps.get(item, ()), self._receipts[item])
        return (item, end) if end and end.state is AskState.DONE else None
