"""Decisions within a second: what the mirror has not answered by then is left as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

from mirrord.pointing.places import Decision, Left, Places
from mirrord.pointing.present import Present, point

BUDGET: Final = 1.0
"""Seconds in which a decision is there."""
_LATE: Final = 15.0  # seconds for which an answer is waited for, so that it is known the next time
_MOST_LATE: Final = 256
_NOT_YET: Final = Left("unknown", f"the mirror did not answer within {BUDGET:.0f} s")


class PromptPointing:
    """Says where images are to come from, and lets nobody wait for long.

    Attributes:
        places: where images are, which may be replaced.
    """

    def __init__(self, places: Places, present: Present | None, *, budget: float = BUDGET) -> None:
        """Decide by `places`; `present` is asked for the policy of that name."""
        self.places, self._present, self._budget = places, present, budget
        self._late = set[asyncio.Task[Decision]]()

    async def decide(self, texts: Collection[str]) -> Mapping[str, Decision]:
        """Return a decision for each text."""
        if not texts:
            return {}
        asked = {text: asyncio.create_task(self._point(text)) for text in dict.fromkeys(texts)}
        try:
            await asyncio.wait(asked.values(), timeout=self._budget)
        finally:
            for task in asked.values():
                self._leave(task)
        return {text: task.result() if task.done() else _NOT_YET for text, task in asked.items()}

    async def aclose(self) -> None:
        """Wait for no answer any more."""
        late = [*self._late]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _point(self, text: str) -> Decision:
        try:
            async with asyncio.timeout(_LATE):
                return await point(text, self.places, self._present)
        except TimeoutError:
            return _NOT_YET

    def _leave(self, task: asyncio.Task[Decision]) -> None:
        """Let a question go on for a while: its answer counts for the next Pod."""
        if task.done():
            return
        if len(self._late) >= _MOST_LATE:
            task.cancel()
            return
        self._late.add(task)
        task.add_done_callback(self._late.discard)
