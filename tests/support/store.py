"""A record in memory: fulfils `Store` to the letter (the contract tests say so) and forgets all at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mirrord.errors import StorageError
from mirrord.model.history import RunRecord, Standing, TargetRecord
from mirrord.model.memory import LastSeen, Memory, NamedBuild
from mirrord.model.run import Run
from mirrord.record.store import KEEP
from mirrord.record.summary import advance, last_runs, learned, learned_names, noted, summarise


class MemoryStore:
    """A `Store` without a disk.

    Attributes:
        broken: set it, and every method raises `StorageError` with this text.
    """

    def __init__(self, keep: int = KEEP) -> None:
        self.broken = ""
        self._keep = keep
        self._runs: list[RunRecord] = []
        self._known: dict[str, dict[tuple[str, str], LastSeen]] = {}
        self._names: dict[str, dict[tuple[str, str], NamedBuild]] = {}
        self._accepted: Counter[str] = Counter()
        self._standing: dict[tuple[str, str], Standing] = {}

    async def memory(self, mirror: str) -> Memory:
        """See `Store.memory`."""
        self._usable()
        return Memory(dict(self._known.get(mirror, {})), dict(self._names.get(mirror, {})))

    async def accept(self, mirror: str) -> int:
        """See `Store.accept`."""
        self._usable()
        self._accepted[mirror] += 1
        return self._accepted[mirror]

    async def add_run(self, run: Run) -> None:
        """See `Store.add_run`."""
        self._usable()
        record = summarise(run)
        self._runs.append(record)
        for surplus in [entry for entry in self._runs if entry.mirror == run.mirror][: -self._keep]:
            self._runs.remove(surplus)
        known = self._known.setdefault(run.mirror, {})
        for key, value in learned(run).items():
            known.pop(key, None)
            if value is not None:
                known[key] = value
        self._names.setdefault(run.mirror, {}).update(learned_names(run))
        last = last_runs(run)
        parts: list[tuple[str, RunRecord | TargetRecord]] = [("", record)]
        parts += [(entry.target, entry) for entry in record.targets]
        for target, part in parts:
            before = self._standing.get((run.mirror, target), Standing(run.mirror, target))
            after = advance(before, part.result, run.finished, part.code, part.error)
            more: dict[str, Any] = {} if target else dict(noted(run))
            self._standing[run.mirror, target] = replace(after, last=last.get(target, after.last), **more)

    async def runs(self, mirror: str, limit: int = 20) -> Sequence[RunRecord]:
        """See `Store.runs`."""
        self._usable()
        return [entry for entry in reversed(self._runs) if entry.mirror == mirror][:limit]

    async def standing(self) -> Sequence[Standing]:
        """See `Store.standing`."""
        self._usable()
        return [replace(entry, items=self._items(*key)) for key, entry in sorted(self._standing.items())]

    async def check(self) -> None:
        """See `Store.check`."""
        self._usable()

    async def close(self) -> None:
        """See `Store.close`."""

    def _items(self, mirror: str, target: str) -> int:
        return len({item for place, item in self._known.get(mirror, {}) if target in ("", place)})

    def _usable(self) -> None:
        if self.broken:
            raise StorageError(self.broken)
