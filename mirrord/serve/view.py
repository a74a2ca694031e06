"""What the pages and fronts need of the daemon: a port, so that they can be tested without one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from mirrord.report.health import Health
from mirrord.report.status import Status
from mirrord.syncer.serving import Serves
from mirrord.syncer.values import Services


class View(Protocol):
    """What may be looked at."""

    def health(self) -> Health:
        """Return how the process is."""
        ...

    async def status(self) -> Status:
        """Return how the mirrors are; never fails, not even without a record."""
        ...

    async def metrics(self) -> bytes:
        """Return all series as text."""
        ...

    def edition(self) -> int:
        """Return a number that grows when a run begins or ends, and at a reload: who asks afterwards sees that."""
        ...

    def services(self) -> Services:
        """Return the services that are current."""
        ...

    @property
    def fronts(self) -> Mapping[str, Serves]:
        """Return the syncers that serve, by prefix."""
        ...
