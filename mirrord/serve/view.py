"""What the faces need from the daemon: two ports, so that they can be tested without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from mirrord.events import Events
from mirrord.model.plan import Plan
from mirrord.model.run import Run
from mirrord.report.health import Health
from mirrord.report.status import Status
from mirrord.syncer.serving import Serves
from mirrord.syncer.values import Backup, Publication, Services


class View(Protocol):
    """What may be looked at."""

    def pulse(self) -> Health:
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


class Commands(Protocol):
    """What may be asked for over the control socket.

    Each raises `UsageError` for a mirror that is not configured, and `BusyError` when the daemon is ending.
    Work goes on when the one who asked goes away.
    """

    @property
    def events(self) -> Events:
        """Return the port through which progress can be heard."""
        ...

    @property
    def parallel(self) -> int:
        """Return how many mirrors of one command are worked on at once."""
        ...

    def known(self, mirrors: Sequence[str]) -> Sequence[str]:
        """Return the mirrors that are meant: these, or all when none is named."""
        ...

    async def sync(self, mirror: str, *, allow: bool = False) -> Run:
        """Run one mirror now, after the run that is under way if there is one; with `allow` in spite of its guard."""
        ...

    async def publish(self, mirror: str, publication: Publication) -> Run:
        """Publish one build now."""
        ...

    async def backups(self, mirror: str) -> Sequence[Backup]:
        """List what runs of one mirror overwrote or deleted."""
        ...

    async def restore(self, mirror: str, name: str, *, release: bool) -> Run:
        """Let a backup override upstream, or no longer, and run the mirror."""
        ...

    async def plan(self, mirror: str) -> Plan:
        """Plan one mirror, and do nothing."""
        ...

    async def reload(self) -> None:
        """Read the configuration again.

        Raises:
            ConfigError: it is wrong; the old one stays.
        """
        ...

    async def status(self) -> Status:
        """Return how the mirrors are."""
        ...
