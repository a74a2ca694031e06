"""What the record knows of the refs that runs accepted. Where it knows nothing of what the cache has, nothing goes."""

from __future__ import annotations

from typing import Final

from mirrord.syncer.values import Mirror, Services
from mirrord.wire.git.refs import Refs
from mirrord.wire.offload import offload

_FACTS: Final = "git"


class Baseline:
    """The states of one mirror's cache that the record vouches for, each by a digest of names and ids."""

    def __init__(self, mirror: Mirror, services: Services) -> None:
        """Look at nothing yet; where there is no record, nothing is ever known."""
        self._mirror, self._facts = mirror.name, services.facts

    async def knows(self, served: Refs | None) -> bool:
        """Whether a run accepted these refs. Raises StorageError."""
        if self._facts is None or served is None or not served.refs:
            return False
        return await _digest(served) in await self._facts.recall(self._mirror, _FACTS)

    async def accept(self, *states: Refs) -> None:
        """Vouch for these states alone.

        Before refs change that is the state before and the one after: a crash leaves either. Raises StorageError.
        """
        if self._facts is not None:
            await self._facts.note(self._mirror, _FACTS, {await _digest(refs): str(len(refs.refs)) for refs in states})


async def _digest(refs: Refs) -> str:
    return await offload(refs.size, lambda: refs.digest)
