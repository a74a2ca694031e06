"""Guards against a registry that lists far fewer repositories than before, by accident."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Final

from mirrord.errors import GuardError
from mirrord.plan.guards import some, too_much, unless_meant
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.image.names import spec_of
from mirrord.syncers.image.plan.many import LISTED

MAX_LOSS: Final = 0.2
"""Share of the listed repositories that may be gone in the next listing before the guard speaks."""


async def lost(mirror: Mirror, services: Services, listed: Collection[str]) -> str:
    """Return a sentence if the registry lists far fewer repositories than before, else ""; `--allow` accepts that.

    Repositories that the configuration no longer wants are not lost.
    """
    source, before = spec_of(mirror).source, await _before(mirror, services)
    gone = {*before} - {*listed}
    if mirror.allow or not too_much(len(gone), len(before), MAX_LOSS):
        return ""
    share = (
        f"no longer lists {len(gone)} of {len(before)} repositories ({some(gone)}), more than {MAX_LOSS:.0%} of them"
    )
    return unless_meant(mirror.name, f"{source.registry}: {share}; they stay at the targets, and are not read")


async def refuse_loss(mirror: Mirror, services: Services) -> None:
    """Raise GuardError if the registry, which lists nothing that is wanted now, did before."""
    if before := await _before(mirror, services):
        registry = spec_of(mirror).source.registry
        why = f"lists none of the {len(before)} repositories that it listed before ({some(before)})"
        mend = "check the registry and the rights of its credential, or correct from.repositories"
        raise GuardError(f"{registry}: {why}; nothing is changed; {mend}")


async def _before(mirror: Mirror, services: Services) -> Sequence[str]:
    """Return the wanted repositories that the registry listed before."""
    source = spec_of(mirror).source
    known = [*(await services.facts.recall(mirror.name, LISTED))] if services.facts else []
    return await asyncio.to_thread(source.repositories.matching, known) if source.repositories else known
