"""Holds restored names before they are set back: whatever stops that, the next run goes on with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Protocol

from mirrord import failpoints
from mirrord.model.plan import Action, Plan
from mirrord.syncer.port import Session
from mirrord.syncer.restoring import FACTS, RestoreWish
from mirrord.syncer.values import Mirror, Services


class Opens(Protocol):
    """Begins to execute a plan, as `Syncer.open`."""

    def __call__(self, mirror: Mirror, plan: Plan, services: Services, /) -> AbstractAsyncContextManager[Session]:
        """Return the context of a run."""


Names = Mapping[tuple[str, str], str]
"""(target, name there) → its digest."""

Hold = Callable[[Mapping[str, str], Names, datetime], Mapping[str, str]]
"""Returns facts with further names held."""


def holding(opens: Opens, wish: RestoreWish, hold: Hold, called: Callable[[str], str] = str) -> Opens:
    """Return what opens the plan for a wish, and holds all its names that are not refused; `called` gives their items.

    Raises StorageError: that cannot be recorded; nothing is moved.
    """

    @asynccontextmanager
    async def held(mirror: Mirror, plan: Plan, services: Services) -> AsyncIterator[Session]:
        def going() -> Names:
            refused = {(step.target, step.item) for step in plan.steps if step.action is Action.REFUSE}
            return {key: digest for key, digest in wish.names.items() if (key[0], called(key[1])) not in refused}

        names = await asyncio.to_thread(going)
        if names and services.facts:
            facts = await services.facts.recall(mirror.name, FACTS)
            await services.facts.note(mirror.name, FACTS, await asyncio.to_thread(hold, facts, names, plan.at))
        failpoints.hit("restore.held")
        async with opens(mirror, plan, services) as session:
            yield session

    return held
