"""Removes at targets what was taken down: its names, its manifest, and the manifests that only it reaches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from mirrord.model.digest import Digest
from mirrord.model.plan import Plan, Step
from mirrord.model.run import Outcome, Receipt
from mirrord.names.denied import DeniedEntry
from mirrord.syncer.port import OnReceipt
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.image.kept import open_target
from mirrord.syncers.image.names import Source
from mirrord.syncers.image.plan.many import derived
from mirrord.syncers.image.transfer.many import ledger_of
from mirrord.transfer.execute import failed
from mirrord.transfer.takedown import RepositoryTakedown


class TakedownSession:
    """Implements `mirrord.syncer.port.Session`; nothing is read from the source."""

    read = 0

    def __init__(self, mirror: Mirror, entry: DeniedEntry, services: Services) -> None:
        """Remove what the mirror has at its targets of what an entry denies."""
        self._mirror, self._entry, self._services = mirror, entry, services

    async def execute(self, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
        """Remove the names of one repository at one target."""
        first, ledger = batch[0], self._services.ledger
        target = next(one for one in self._mirror.targets if one.name == first.target)
        key = first.group.partition("\n")[2]
        mirror = self._mirror
        if key:
            mirror, ledger = derived(mirror, Source(repository=key)).mirror, ledger_of(ledger, key)
        place = open_target(mirror, target, self._services)
        names = {step.names[0]: Digest.parse(step.digest) for step in batch if step.names}
        shared = bool(self._entry.whole)  # others may have the images of a mirror, too
        removal = RepositoryTakedown(target.name, place, ledger, parts=self._entry.digests, shared=shared)
        outcomes = await removal.run(names, frozenset(Digest.parse(step.digest) for step in batch))
        for step in batch:
            error, remark = outcomes.get(step.names[0] if step.names else step.digest), removal.remark
            gone = Receipt(step, Outcome.DONE, remark=f"{step.target}: {remark}" if remark else "")
            on_receipt(gone if error is None else failed(step, error))


@asynccontextmanager
async def opened(mirror: Mirror, plan: Plan, services: Services) -> AsyncIterator[TakedownSession]:
    """Begin a run; see `Syncer.open`."""
    yield TakedownSession(mirror, plan.decisions.entry, services)
