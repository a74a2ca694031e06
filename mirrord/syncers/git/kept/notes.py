"""Small facts about a cache, in its own folder: they cannot outlive it, and go where it is copied to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mirrord import failpoints
from mirrord.files import write_durably
from mirrord.syncer.values import Backup
from mirrord.wire.git.cache.repository import STAMP, BackupRef

Lost = tuple[str, str]
"""The full name of a ref, and the object that it gave up."""

_KEPT: Final = "mirrord-backups"
_GONE: Final = "mirrord-lost"


class BackupNotes:
    """Two notes of one cache, by moment, ref and object: what became of refs that lost something.

    Notes only: the backups themselves are refs. What was lost without a backup, with `--allow`, has
    nothing but its note.
    """

    def __init__(self, notes: Notes) -> None:
        """Read and write `notes`."""
        self._notes = notes

    async def add(self, stamp: str, kept: Mapping[Lost, str], gone: Mapping[Lost, str] | None = None) -> None:
        """Note what became, at `stamp`, of refs with backups (`kept`), and of those without. Raises StorageError."""
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
        found = list[tuple[str, Backup]]()
        for one in backups:
            why = _why(noted.get(_moment(one.stamp, one.ref, one.oid)), one.stamp)
            found.append((one.stamp, Backup(one.name, one.ref, one.oid, why)))
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


class Notes:
    """One small JSON file for each name. One process owns the folder (the state lock)."""

    def __init__(self, folder: Path) -> None:
        """Keep files below `folder`, which is made when the first note comes."""
        self._folder = folder

    def read(self, name: str) -> Mapping[str, str]:
        """Return what was noted under `name`; nothing when it was never written or is damaged."""
        try:
            found = json.loads((self._folder / f"{name}.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    async def write(self, name: str, facts: Mapping[str, str]) -> None:
        """Replace what is noted under `name`, durably. Raises StorageError: the old note is still there."""
        await asyncio.to_thread(self._write, f"{name}.json", facts)

    def _write(self, file: str, facts: Mapping[str, str]) -> None:
        for stray in self._folder.glob(f".{file}.*.tmp"):  # of a process that was killed
            stray.unlink(missing_ok=True)
        write_durably(
            self._folder / file,
            json.dumps(dict(facts), sort_keys=True).encode(),
            written=lambda: failpoints.hit("notes.written"),
            named=lambda: failpoints.hit("notes.renamed"),
        )
