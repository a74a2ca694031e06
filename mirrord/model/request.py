"""What is recorded of an image that somebody asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

ASKED: Final = "asked"
"""Name of the mirror whose runs copy what people asked for."""


@dataclass(frozen=True, slots=True)
class AskRecord:
    """A request for an image.

    Attributes:
        id: what it is called.
        image: its reference in canonical form.
        platforms: those that are copied; all if there are none.
        who: who asked first; "" for the operator.
        state: how far it is: `queued`, `done` or `failed`.
        reason: the code of an error, or "".
        text: one sentence about it, or "".
        copied: whether something had to be copied.
        asked: when it was asked for.
        ended: when it ended; None before.
    """

    id: str
    image: str
    platforms: tuple[str, ...]
    who: str
    state: str
    reason: str
    text: str
    copied: bool
    asked: datetime
    ended: datetime | None = None
