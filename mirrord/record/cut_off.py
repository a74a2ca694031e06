"""Runs that were cut off: their process was killed, or its machine stopped, before they were recorded.

On one machine a mark on disk says which run is under way, in a fleet the lease on its mirror does. Neither costs a
statement.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mirrord.errors import StoppedError, StorageError
from mirrord.model.remote import RunCutOff
from mirrord.model.run import Run
from mirrord.record.store import PAGE, Store
from mirrord.tasks import finished

RUNNING: Final = "running"
"""The folder of a state directory with an empty file `MIRROR.TRIGGER` for each run under way, made when it began."""
_DISK: Final = 10.0  # seconds for which a cancellation waits until a mark is made, or gone
_SAID: Final = "cut off: mirrord was killed, or its machine stopped; what was done is kept"


@dataclass(frozen=True, slots=True)
class CutOff:
    """A run that was under way when its process ended without a word.

    Attributes:
        mirror: its name.
        trigger: what started the run.
        began: when it took the mirror, which is just before the run began (UTC).
        seen: the last sign of life of its process (UTC).
        replica: that ran it, "" on one machine.
    """

    mirror: str
    trigger: str
    began: datetime
    seen: datetime
    replica: str = ""

    @classmethod
    def read(cls, row: Mapping[str, str]) -> CutOff:
        """Read one from a lease."""
        began, seen = (datetime.fromisoformat(row[name]) for name in ("began", "seen"))
        return cls(row["mirror"], row["trigger"], began, seen, row["replica"])


@asynccontextmanager
async def marked(folder: Path, mirror: str, trigger: str) -> AsyncIterator[None]:
    """Leave a mark that outlives this process if it is killed in the block; a disk that is full stops no run.

    It is not flushed: a run that began some seconds before a power cut may leave none.
    """
    mark = folder / f"{mirror}.{trigger}"
    try:
        await finished(asyncio.to_thread(_make, mark), _DISK)
        yield
    finally:
        await finished(asyncio.to_thread(_remove, mark), _DISK)


def _make(mark: Path) -> None:
    with suppress(OSError):
        mark.parent.mkdir(mode=0o700, exist_ok=True)
        mark.touch(0o600)


def _remove(mark: Path) -> None:
    with suppress(OSError):
        mark.unlink(missing_ok=True)


def left_behind(state: Path, record: Path) -> Sequence[CutOff]:
    """Return the runs that an earlier process of a state directory has not ended, before its record is opened. Blocks.

    A daemon writes to the record every 15 seconds, and a run whenever it moves names: that was the last sign of life.
    """
    found, signs = list[CutOff](), list[float]()
    with suppress(OSError):  # there is none, or it cannot be read, which is told elsewhere
        signs += [file.stat().st_mtime for file in (record, record.with_name(f"{record.name}-wal")) if file.exists()]
        for mark in filter(Path.is_file, sorted((state / RUNNING).iterdir())):  # else it is no mark of ours
            (mirror, _, trigger), began = mark.name.partition("."), mark.stat().st_mtime
            seen = datetime.fromtimestamp(max([began, *signs]), UTC)
            found.append(CutOff(mirror, trigger, datetime.fromtimestamp(began, UTC), seen))
    return found


async def record_cut_off(
    store: Store, found: Iterable[CutOff], kinds: Mapping[str, str], state: Path
) -> tuple[RunCutOff, ...]:
    """Record runs that were cut off as interrupted, each once, and return what to tell.

    `kinds` are those of all mirrors that are configured; others have no history that anybody could ask for. A mark of a
    run that the record does not take now stays until the next start.
    """
    told = list[RunCutOff]()
    for one in found:
        with suppress(StorageError):
            if one.mirror in kinds and (run := await _recorded(store, one, kinds[one.mirror])):
                lasted = (run.finished - run.started).total_seconds()
                told.append(RunCutOff(run.mirror, run.kind, run.trigger, run.started, lasted, one.replica))
            await asyncio.to_thread(_remove, state / RUNNING / f"{one.mirror}.{one.trigger}")
    return tuple(told)


async def _recorded(store: Store, one: CutOff, kind: str) -> Run | None:
    """Record one; None where the record has it: its process was killed after that."""
    ended = [run for run in await store.runs(one.mirror) if (run.trigger, run.replica) == (one.trigger, one.replica)]
    if any(run.started >= one.began for run in ended):
        return None
    moved = [entry.run for entry in await store.moves(one.mirror, limit=PAGE) if entry.run >= one.began]
    began = min(moved, default=one.began)  # so that `mirrord restore --run` finds what it moved
    whole = next((standing for standing in await store.standing(one.mirror) if not standing.target), None)
    until = whole.until if whole else None  # a deferred run goes on as it would have
    about = one.mirror, kind, one.trigger, began, max(began, one.seen)
    run = Run(*about, error=_SAID, code=StoppedError.code, until=until)
    await store.add_run(run, of=one.replica)
    return run
