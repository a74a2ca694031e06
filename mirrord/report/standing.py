"""What a record tells about mirrors, as those see it who report it: the record is their neighbour and no import."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from mirrord.model.run import Result


class LastRun(Protocol):
    """What the last run did at a target, in items."""

    @property
    def done(self) -> int:
        """Items that were written."""
        ...

    @property
    def deleted(self) -> int:
        """Items that were deleted."""
        ...

    @property
    def kept(self) -> int:
        """Items that were up to date."""
        ...

    @property
    def refused(self) -> int:
        """Items that a rule forbade."""
        ...

    @property
    def failed(self) -> int:
        """Items that did not get there."""
        ...

    @property
    def troubles(self) -> tuple[str, ...]:
        """One sentence for each of the first refused and failed ones."""
        ...


class Noted(Protocol):
    """Sentences that a run left."""

    @property
    def count(self) -> int:
        """How many there were."""
        ...

    @property
    def first(self) -> tuple[str, ...]:
        """The first of them."""
        ...


class Standing(Protocol):
    """What a record tells about a mirror (`target` is "") or about one of its targets."""

    @property
    def mirror(self) -> str:
        """Name of the mirror."""

    @property
    def target(self) -> str:
        """Name of the target, or ""."""

    @property
    def last_success(self) -> datetime | None:
        """End of the last good run."""

    @property
    def last_attempt(self) -> datetime | None:
        """End of the last run."""

    @property
    def failures(self) -> int:
        """Failed runs since the last good one."""
        ...

    @property
    def result(self) -> Result | None:
        """Result of the last run."""

    @property
    def code(self) -> str:
        """Error code of the last run, or ""."""

    @property
    def error(self) -> str:
        """The sentence to it."""

    @property
    def items(self) -> int:
        """Items known to be there."""
        ...

    @property
    def last(self) -> LastRun | None:
        """What the last run did there."""

    @property
    def problems(self) -> Noted:
        """What was left out because it is wrong upstream."""
        ...

    @property
    def remarks(self) -> Noted:
        """What is worth knowing and no problem."""
        ...
