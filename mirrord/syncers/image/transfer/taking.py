"""Takes names away that a restore lets stay away, target by target."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from mirrord.errors import MirrordError
from mirrord.model.digest import Digest
from mirrord.model.plan import Step
from mirrord.model.run import Outcome, Receipt
from mirrord.syncer.port import OnReceipt
from mirrord.syncer.values import Ledger
from mirrord.transfer.execute import failed
from mirrord.transfer.fanout import deliberate, together
from mirrord.transfer.removal import remove


async def take_away(steps: Sequence[tuple[Step, OnReceipt]], places: Mapping[str, Any], ledger: Ledger) -> None:
    """Remove the name of each step where it still has the step's digest, and tell how that ended.

    `places` are those of `removal.remove`, by target.
    """
    by_target = defaultdict[str, dict[str, tuple[Step, OnReceipt]]](dict)
    for step, on_receipt in steps:
        by_target[step.target][step.names[0]] = step, on_receipt

    async def at(target: str, left: dict[str, tuple[Step, OnReceipt]]) -> None:
        def ended(name: str, error: MirrordError | None) -> None:
            step, on_receipt = left.pop(name)
            detail = f"{step.item}: removed; its content is left to the registry"
            on_receipt(failed(step, error) if error else Receipt(step, Outcome.DONE, detail))

        try:
            digests = {name: Digest.parse(step.digest) for name, (step, _) in left.items()}
            await remove(target, places[target], digests, ledger, ended)
        except Exception as error:  # noqa: BLE001 - a bug at one target fails that target only
            wrong = deliberate(error)
            for name in tuple(left):
                ended(name, wrong)

    await together(*(at(target, named) for target, named in by_target.items()))
