"""What people asked for, and the port through which everybody asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol


class AskState(StrEnum):
    """How far an image is that was asked for."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"  # it is at all places
    FAILED = "failed"
    REFUSED = "refused"  # nothing was begun


ENDED: Final = frozenset({AskState.DONE, AskState.FAILED, AskState.REFUSED})
"""States after which nothing follows."""


class AskRefusal(StrEnum):
    """Why nothing was begun."""

    OFF = "off"  # nobody may ask: there is no `asking:`
    NOT_AN_IMAGE = "not_an_image"
    NOT_ALLOWED = "not_allowed"  # `asking.allow` has it not
    TAKEN_DOWN = "taken_down"
    PLATFORM = "platform"  # is none, or not one of `asking.platforms`
    MISSING = "missing"  # its registry has no such image
    RATE = "rate"  # who asks has asked for too many
    FULL = "full"  # too many wait
    STOPPING = "stopping"  # mirrord is shutting down


LATER: Final = frozenset({AskRefusal.RATE, AskRefusal.FULL, AskRefusal.STOPPING})
"""Refusals after which the same may be asked again; `AskedImage.after` says when."""


@dataclass(frozen=True, slots=True)
class AskedImage:
    """An image that was asked for, at one moment.

    Attributes:
        id: what it is called in later questions; "" where it was refused.
        image: its reference in canonical form, with a tag or a digest; as it was written where it is none.
        platforms: those that are copied; all if there are none.
        state: how far it is.
        reason: an `AskRefusal` or, of one that failed or waits for a host, the code of an error; "" while all is well.
        text: one sentence for people about `reason`, without the image in front; "" while all is well.
        places: what to pull, one for each of `asking.to` in that order; it is there once it is done.
        copied: whether something had to be copied; False while that is not known.
        ahead: how many wait before it.
        sent: bytes that were sent to all places of what is being copied now, also of other images.
        total: bytes that it will send at most, as far as that is known.
        after: seconds after which to ask again, of a refusal that passes.
        asked: when it was asked for; None where it was refused.
        ended: when it ended; None before.
        until: when it goes on by itself that waits because a host limits the rate, as `text` says; None otherwise.
    """

    id: str
    image: str
    platforms: tuple[str, ...]
    state: AskState
    reason: str = ""
    text: str = ""
    places: tuple[str, ...] = ()
    copied: bool = False
    ahead: int = 0
    sent: int = 0
    total: int = 0
    after: float = 0.0
    asked: datetime | None = None
    ended: datetime | None = None
    until: datetime | None = None

    @property
    def over(self) -> bool:
        """Whether nothing follows."""
        return self.state in ENDED


class ImageAsker(Protocol):
    """Copies images that people ask for."""

    async def ask(self, image: str, platforms: Sequence[str], who: Sequence[str]) -> AskedImage:
        """Ask for an image; return when it is refused, there already or queued.

        Whoever asks for what is queued or under way gets that one. It goes on when nobody waits for it.

        Args:
            image: as people write it.
            platforms: as people write them; none for all that the configuration has.
            who: names of who asks, such as `token ci` and an address: for each of them the rate is limited, and the
                first is recorded. Empty for the operator, who has no limit.

        Raises:
            StorageError: the record cannot be read or written.
        """

    async def find(self, number: str) -> AskedImage | None:
        """Return one by its `id`; None for one that is not known, or not any more. Raises as `ask`."""

    def follow(self, number: str) -> AsyncIterator[AskedImage]:
        """Yield one as it is now and after each change, at most a few times a second; the last one is over.

        Nothing is yielded for an `id` that is not known. Raises as `ask`.
        """

    async def wait(self, number: str) -> AskedImage | None:
        """Return one when it is over; None as `find`. Raises as `ask`."""
