"""An image that somebody asked for: what is recorded, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

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
        state: how far it is: `queued`, `running` (where there are replicas; else it is queued so long), `done` or
            `failed`.
        reason: the code of an error, or "".
        text: one sentence about it, or "".
        copied: whether something had to be copied.
        asked: when it was asked for.
        ended: when it ended; None before.
        until: when a host that sent it away may be asked again, or None.
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
    until: datetime | None = None


class ImageAsked(NamedTuple):
    """Somebody asked for an image: the operator, or a client."""

    operator: bool


class AskEnded(NamedTuple):
    """An image that was asked for ended, or was refused.

    Attributes:
        result: `copied`; `present`: it was there; `failed`; `refused`: nothing was begun.
        reason: a word why it failed or was refused, else "".
        seconds: since it was asked for.
        image: in canonical form; as it was written where it is none.
        who: who asked first; "" for the operator.
    """

    result: str
    reason: str
    seconds: float
    image: str
    who: str
