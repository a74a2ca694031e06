"""Removes chart versions from a server, one receipt each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mirrord.errors import MirrordError, UnsupportedError
from mirrord.model.plan import Step
from mirrord.model.run import Outcome, Receipt
from mirrord.syncer.port import OnReceipt
from mirrord.syncer.values import Ledger
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.transfer.target import ChartTarget, Removes
from mirrord.transfer.execute import failed, tell
from mirrord.transfer.fanout import deliberate


async def remove_versions(
    target: ChartTarget,
    steps: Sequence[Step],
    charts: Mapping[tuple[str, str], ChartVersion],
    ledger: Ledger,
    on_receipt: OnReceipt,
) -> None:
    """Carry out the deletions at one target; what is not among `charts` is gone there already."""
    name, gone = steps[0].target, [step for step in steps if (step.target, step.item) not in charts]
    await tell((Receipt(step, Outcome.DONE, "not there any more") for step in gone), on_receipt)
    left = {step.item: step for step in steps if (step.target, step.item) in charts}

    def ended(item: str, error: MirrordError | None) -> None:
        step = left.pop(item)
        on_receipt(failed(step, error) if error else Receipt(step, Outcome.DONE))

    if not left:
        return
    wrong: MirrordError = UnsupportedError(f"{target.place}: mirrord cannot delete charts there; do it by hand")
    if isinstance(target, Removes):
        try:
            await target.remove(name, [charts[name, item] for item in left], ledger, ended)
        except Exception as error:  # noqa: BLE001 - a bug that one target brings out is that target's failure
            wrong = deliberate(error)
    await tell((failed(step, wrong) for step in tuple(left.values())), on_receipt)
