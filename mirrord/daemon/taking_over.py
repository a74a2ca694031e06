"""Moves what earlier versions kept in files of their own into the record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from mirrord.files import storage_errors
from mirrord.syncer.values import Facts


async def take_over(state: Path, facts: Facts) -> Sequence[str]:
    """Move what `<state>/helm/<mirror>[.<what>].json` says into the record; each file goes when its facts are there.

    What a StorageError leaves is taken over at the next start. Returns a sentence for each file that says nothing.
    """
    folder, lost = state / "helm", list[str]()
    if not await asyncio.to_thread(folder.is_dir):
        return ()
    with storage_errors(str(folder)):
        for file in await asyncio.to_thread(lambda: sorted(folder.glob("[!.]*.json"))):
            mirror, dot, what = file.stem.partition(".")
            try:
                found = json.loads(await asyncio.to_thread(file.read_bytes))
            except ValueError:
                found = None
            if not isinstance(found, dict):
                means = f"the next run of {mirror} asks for everything again, and deletes nothing"
                lost.append(f"{file}: is damaged, and was removed: what it said of earlier runs is lost; {means}")
            elif found:
                await facts.note(mirror, f"helm{dot}{what}", {str(key): str(value) for key, value in found.items()})
            await asyncio.to_thread(file.unlink)
        for stray in await asyncio.to_thread(lambda: list(folder.glob(".*.tmp"))):  # of a process that was killed
            await asyncio.to_thread(stray.unlink)
        await asyncio.to_thread(folder.rmdir)
    return tuple(lost)
