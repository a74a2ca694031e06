"""Lets the replica that runs a mirror end that run, whichever replica was asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from mirrord.errors import BusyError
from mirrord.record.fleet_database import SharedDatabase
from mirrord.record.fleet_statements import CANCEL, CANCELLING


@dataclass(frozen=True, slots=True)
class RunCancellation:
    """A lease whose run is to end. Its replica sees that at its next sign of life, and no later run is meant.

    Attributes:
        mirror: its name.
        replica: that has the lease.
        fence: of the lease.
    """

    mirror: str
    replica: str
    fence: int

    @classmethod
    async def ask(cls, database: SharedDatabase, mirror: str, boot: str) -> Self | None:
        """Let a run end; None where only the process `boot` may have the lease. StorageError as `SharedDatabase.do`."""
        rows = await database.do(CANCEL, {"mirror": mirror, "boot": boot})
        return cls(mirror, rows[0]["replica"], rows[0]["fence"]) if rows else None

    async def pending(self, database: SharedDatabase) -> bool:
        """Return whether the run has not ended; False, too, if what has the lease is none.

        BusyError: its replica gives no sign of life any more.
        """
        rows = await database.do(CANCELLING, {"mirror": self.mirror, "fence": self.fence})
        if rows and not rows[0]["alive"]:
            dead = f"{self.replica}, which runs it, gives no sign of life"
            raise BusyError(f"{self.mirror}: {dead}; if it was due, another replica begins it anew")
        return bool(rows)
