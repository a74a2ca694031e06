"""What runs under way have done of the images that were asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mirrord.asking.asked import AskState
from mirrord.asking.judged import AskEnd, receipted
from mirrord.events import BytesSent, Event, Planned, StepDone, StepSized
from mirrord.model.plan import Step
from mirrord.model.request import ASKED
from mirrord.model.run import Receipt


@dataclass(slots=True, eq=False)
class AskProgress:
    """Runs under way of the mirror `ASKED`.

    Attributes:
        sent: bytes sent of their images to all places.
    """

    sent: int = 0
    _totals: dict[tuple[str, str], int] = field(default_factory=dict)  # by target and image
    _steps: dict[str, list[Step]] = field(default_factory=dict)  # by image, and so are the receipts
    _receipts: dict[str, list[Receipt]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Bytes that they send at most, as far as that is known."""
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

    def forget(self, images: Iterable[str]) -> None:
        """Forget the images of a run that ended."""
        gone = {*images}
        for image in gone:
            self._steps.pop(image, None)
            self.sent -= sum(one.sent for one in self._receipts.pop(image, ()))
        self._totals = {key: size for key, size in self._totals.items() if key[1] not in gone}
        self.sent = max(0, self.sent) if self._totals else 0

    def _done(self, receipt: Receipt) -> tuple[str, AskEnd] | None:
        item = receipt.step.item
        self._receipts.setdefault(item, []).append(receipt)
        end = receipted(self._steps.get(item, ()), self._receipts[item])
        return (item, end) if end and end.state is AskState.DONE else None
