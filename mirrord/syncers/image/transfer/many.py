"""One run over many repositories: each has a session of its own, open only while it has steps left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mirrord.model.plan import Step
from mirrord.syncer.port import OnReceipt
from mirrord.syncer.values import Ledger, Mirror, Services
from mirrord.syncers.image.names import source_reference
from mirrord.syncers.image.plan.many import LISTED, ManyDecisions, key_of, with_key
from mirrord.syncers.image.transfer.session import ImageSession
from mirrord.transfer.renamed import RenamedLedger

Begin = Callable[[Mirror, Any, Services], ImageSession]
"""Begins the session of one repository, given its mirror and the decisions of its plan."""


class ManySession:
    """Implements `mirrord.syncer.port.Session`."""

    def __init__(self, mirror: Mirror, decisions: ManyDecisions, services: Services, begin: Begin) -> None:
        """Execute a plan of `plan_many`, with its decisions."""
        self._mirror, self._decisions, self._services, self._begin = mirror, decisions, services, begin
        self._ended = Counter[str]()  # images by the key of their part
        self._running: dict[str, ImageSession] = {}
        self._read = 0

    @property
    def read(self) -> int:
        """Content bytes read from all sources so far."""
        return self._read + sum(session.read for session in self._running.values())

    async def execute(self, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
        """Hand one image to the session of its repository, which ends with its last one."""
        key = key_of(batch[0].item)
        if key not in self._running:
            mirror, decisions, _ = self._decisions.parts[key]
            ledger = ledger_of(self._services.ledger, source_reference(mirror).name)
            self._running[key] = self._begin(mirror, decisions, replace(self._services, ledger=ledger))
        try:
            await self._running[key].execute(batch, on_receipt)
        finally:
            self._ended[key] += 1
        if self._ended[key] == self._decisions.parts[key][2]:
            await self._end(key)

    async def _end(self, key: str) -> None:
        session = self._running[key]
        try:
            await session.finish()
        finally:
            await session.aclose()
            self._read += session.read
            del self._running[key]

    async def finish(self) -> None:
        """Complete what is left to be done, and record what the registry listed, for the next run.

        Raises:
            StorageError: it cannot be recorded.
        """
        for key in tuple(self._running):
            await self._end(key)
        facts, listed = self._services.facts, self._decisions.listed
        if facts is not None and listed is not None:
            await facts.note(self._mirror.name, LISTED, dict.fromkeys(listed, ""))

    async def aclose(self) -> None:
        """Stop unneeded work."""
        for session in self._running.values():
            await session.aclose()


def ledger_of(ledger: Ledger, repository: str) -> Ledger:
    """Return the ledger of a run, where names of one repository have its name in front."""
    return RenamedLedger(ledger, lambda name, move: (with_key(repository, name), move))
