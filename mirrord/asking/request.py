"""An image that was asked for and has not ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime

from mirrord.asking.asked import AskState
from mirrord.model.request import AskRecord


@dataclass(slots=True, eq=False)
class OpenRequest:
    """An image that has not ended.

    Attributes:
        record: what is recorded of it, or would be.
        recorded: whether the record has it.
        looked: set when it is known whether something has to be copied.
        ending: whether its end is being recorded, or known.
        here: whether a run of this process has it, whatever others say.
        moved: set at each change of state, and made anew.
    """

    record: AskRecord
    recorded: bool = False
    looked: asyncio.Event = field(default_factory=asyncio.Event)
    ending: bool = False
    here: bool = False
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def running(self) -> bool:
        """Whether a run copies it."""
        return self.record.state == AskState.RUNNING

    @property
    def until(self) -> datetime | None:
        """When a host that sent it away may be asked again, or None."""
        return self.record.until

    def move(self) -> None:
        """Wake who follows."""
        self.moved.set()
        self.moved = asyncio.Event()

    def run(self) -> None:
        """Let a run copy it."""
        self.record = replace(self.record, state=AskState.RUNNING, reason="", text="", until=None)
        self.move()

    def wait(self, until: datetime | None = None, reason: str = "", text: str = "") -> None:
        """Let it wait for its turn, `until` a host may be asked again that sent it away."""
        self.record = replace(self.record, state=AskState.QUEUED, reason=reason, text=text, until=until)
        self.move()

    def take(self, record: AskRecord) -> None:
        """Take how far it is, and wake who follows."""
        self.record = record
        self.move()
