"""What became of refs that lost something: noted beside the backups, for whoever lists them.

Notes only: the backups themselves are refs. What was lost without a backup, because somebody allowed that, has nothing
but its note.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from mirrord.syncer.values import Backup
from mirrord.syncers.git.kept.notes import Notes
from mirrord.wire.git.cache.repository import STAMP, BackupRef

Lost = tuple[str, str]
"""The full name of a ref, and the object that it gave up."""

_KEPT: Final = "mirrord-backups"
_GONE: Final = "mirrord-lost"


class BackupNotes:
    """The two notes of one cache, by moment, ref and object."""

    def __init__(self, notes: Notes) -> None:
        """Read and write `notes`."""
        self._notes = notes

    async def add(self, stamp: str, kept: Mapping[Lost, str], gone: Mapping[Lost, str] | None = None) -> None:
        """Note what became, at `stamp`, of refs of which there are backups (`kept`) and of which there are none.

        Raises:
            StorageError: the disk said no.
        """
        for name, outcomes in ((_KEPT, kept), (_GONE, gone or {})):
            if outcomes:
                noted = await asyncio.to_thread(self._notes.read, name)
                added = {_moment(stamp, *lost): outcome for lost, outcome in outcomes.items()}
                await self._notes.write(name, {**noted, **added})

    async def forget(self, before: str) -> None:
        """Drop what is older than the stamp `before`. Raises StorageError: the disk said no."""
        for name in (_KEPT, _GONE):
            noted = await asyncio.to_thread(self._notes.read, name)
            left = {key: outcome for key, outcome in noted.items() if key >= before}
            if left != noted:
                await self._notes.write(name, left)

    async def listed(self, backups: Iterable[BackupRef]) -> list[Backup]:
        """Return backups, and what was lost without one, the newest first."""
        noted = await asyncio.to_thread(self._notes.read, _KEPT)
        found = [
            (
                one.stamp,
                Backup(one.name, one.ref, one.oid, _why(noted.get(_moment(one.stamp, one.ref, one.oid)), one.stamp)),
            )
            for one in backups
        ]
        for key, outcome in (await asyncio.to_thread(self._notes.read, _GONE)).items():
            stamp, _, rest = key.partition(" ")
            ref, _, oid = rest.rpartition(" ")
            found.append((stamp, Backup("", ref, oid, _why(outcome, stamp))))
        found.sort(key=lambda one: (one[0], one[1].item), reverse=True)
        return [backup for _, backup in found]


def _moment(stamp: str, ref: str, oid: str) -> str:
    return f"{stamp.partition('.')[0]} {ref} {oid}"


def _why(outcome: str | None, stamp: str) -> str:
    """Say what became of a ref, as far as it was noted, and when."""
    text = outcome or "overwritten or deleted"
    with contextlib.suppress(ValueError):
        return f"{text}, {datetime.strptime(stamp.partition('.')[0], STAMP).replace(tzinfo=UTC):%Y-%m-%d %H:%M} UTC"
    return f"{text}, {stamp}"
