"""An image that was asked for and has not ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from mirrord.asking.batch import AskBatch
from mirrord.model.request import AskRecord


@dataclass(slots=True, eq=False)
class OpenRequest:
    """An image that has not ended.

    Attributes:
        record: what is recorded of it, or would be.
        recorded: whether the record has it.
        batch: the run that copies it; None while it waits.
        looked: set when it is known whether something has to be copied.
        ending: whether its end is being recorded.
        moved: set at each change of state, and made anew.
    """

    record: AskRecord
    recorded: bool = False
    batch: AskBatch | None = None
    looked: asyncio.Event = field(default_factory=asyncio.Event)
    ending: bool = False
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def move(self) -> None:
        """Wake who follows."""
        self.moved.set()
        self.moved = asyncio.Event()

    def end(self, record: AskRecord) -> None:
        """Take how it ended, and wake who follows."""
        self.record = record
        self.move()
