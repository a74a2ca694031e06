"""Small facts about a cache, in its own folder: they cannot outlive it, and go where it is copied to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from mirrord import failpoints
from mirrord.files import write_durably


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
        """Replace what is noted under `name`, durably.

        Raises:
            StorageError: the disk said no; the old note is still there.
        """
        await asyncio.to_thread(self._write, f"{name}.json", json.dumps(dict(facts), sort_keys=True).encode())

    def _write(self, file: str, data: bytes) -> None:
        for stray in self._folder.glob(f".{file}.*.tmp"):  # of a process that was killed
            stray.unlink(missing_ok=True)
        write_durably(
            self._folder / file,
            data,
            written=lambda: failpoints.hit("notes.written"),
            named=lambda: failpoints.hit("notes.renamed"),
        )
