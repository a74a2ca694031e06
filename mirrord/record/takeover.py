"""What chart mirrors noted in files, before the record had a place for it, goes into the record; once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from mirrord.files import storage_errors
from mirrord.syncer.values import Facts


async def take_over(state: Path, facts: Facts) -> None:
    """Move what `<state>/helm/<mirror>[.<what>].json` says into the record; each file goes when its facts are there.

    Raises:
        StorageError: the disk said no; what is left is taken over at the next start.
    """
    folder = state / "helm"
    if not await asyncio.to_thread(folder.is_dir):
        return
    with storage_errors(str(folder)):
        for file in await asyncio.to_thread(lambda: sorted(folder.glob("[!.]*.json"))):
            mirror, dot, what = file.stem.partition(".")
            if found := await asyncio.to_thread(_read, file):
                await facts.note(mirror, f"helm{dot}{what}", found)
            await asyncio.to_thread(file.unlink)
        await asyncio.to_thread(_clear, folder)


def _read(file: Path) -> Mapping[str, str]:
    """Return what a file says; a damaged one says nothing."""
    try:
        found = json.loads(file.read_bytes())
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _clear(folder: Path) -> None:
    for stray in folder.glob(".*.tmp"):  # of a process that was killed
        stray.unlink()
    folder.rmdir()
