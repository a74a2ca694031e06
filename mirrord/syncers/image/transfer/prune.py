"""One run that removes names at targets: the session of `mirrord prune`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from mirrord.errors import MirrordError
from mirrord.model.digest import Digest
from mirrord.model.plan import Plan, Step
from mirrord.model.run import Outcome, Receipt
from mirrord.syncer.port import OnReceipt
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.image.kept import open_target
from mirrord.syncers.image.transfer.many import ledger_of
from mirrord.transfer.execute import failed
from mirrord.transfer.removal import remove
from mirrord.wire.oci.reference import referrers_tag, subject_tag


@asynccontextmanager
async def open_prune(_: Mirror, plan: Plan, services: Services) -> AsyncIterator[PruneSession]:
    """Begin to remove what a plan of `plan_prune` says."""
    yield PruneSession(plan.decisions, services)


class PruneSession:
    """Implements `mirrord.syncer.port.Session`; a group is one repository at one target."""

    read = 0

    def __init__(self, parts: Mapping[str, Mirror], services: Services) -> None:
        """Remove from targets of `parts`, the mirrors of each repository."""
        self._parts, self._services = parts, services

    async def execute(self, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
        """Remove the names of one repository at one target."""
        repository, _, name = batch[0].group.partition("\n")
        mirror = self._parts[repository]
        target = next(one for one in mirror.targets if one.name == name)
        ledger = ledger_of(self._services.ledger, repository) if repository else self._services.ledger
        steps = {step.names[0]: step for step in batch if step.names}
        rests = [step for step in batch if not step.names]

        def report(tag: str, error: MirrordError | None) -> None:
            on_receipt(failed(steps[tag], error) if error else Receipt(steps[tag], Outcome.DONE))

        names = {tag: Digest.parse(step.digest) for tag, step in steps.items()}
        left = {Digest.parse(step.digest) for step in rests if step.digest}
        place = open_target(mirror, target, replace(self._services, ledger=ledger))
        ends = await remove(name, place, names, ledger, report=report, left=left) if names or left else {}
        for step in rests:
            about = referrers_tag(Digest.parse(step.digest)) if step.digest else ""
            found = [error for tag, error in ends.items() if about and subject_tag(tag) == about]
            if bad := next(filter(None, found), None):
                on_receipt(failed(step, bad))
            elif about and not found:
                on_receipt(Receipt(step, Outcome.KEPT, "another tag needs the image"))
            else:
                on_receipt(Receipt(step, Outcome.DONE))
