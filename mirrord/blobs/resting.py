"""A bucket that nobody waits long for, since everything in it can be had elsewhere.

A look takes `PATIENCE` seconds at most. After a request that says that the bucket is away (nobody is there, it refuses
us, it fails or is silent) nothing is asked for `REST` seconds. An error about one object changes nothing for others.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from mirrord.errors import ConflictError, MissingError, StorageError
from mirrord.model.objects import BucketAwayError

PATIENCE: Final = 2.0
"""Seconds that a client waits for an answer of the bucket."""
REST: Final = 30.0
"""Seconds for which the bucket is left alone after it failed."""
_Got = TypeVar("_Got")


class RestingBucket:
    """Says whether the bucket may be asked, and asks it.

    Attributes:
        trouble: why it was left alone the last time, "" once it has answered again.
    """

    def __init__(self, ticks: Callable[[], float], tell: Callable[[str], None]) -> None:
        """Assume that it is there.

        Args:
            ticks: say how long ago something was.
            tell: gets what failed about one object; the same again only after something else did.
        """
        self._ticks, self._tell = ticks, tell
        self.trouble = ""
        self._until, self._told = -math.inf, ""

    @property
    def rests(self) -> bool:
        """Whether it is left alone now."""
        return self._ticks() < self._until

    def rest(self, why: str) -> None:
        """Leave it alone for a while."""
        self._until, self.trouble = self._ticks() + REST, why

    async def asked(self, ask: Callable[[], Awaitable[_Got]], *, hurried: bool = True) -> _Got | None:
        """Return an answer of the bucket, None where it fails, takes too long, or has done so a moment ago.

        `hurried`: while a client waits.
        """
        if self.rests:
            return None
        try:
            async with asyncio.timeout(PATIENCE if hurried else None):
                got = await ask()
            self._answered()
            return got
        except (MissingError, ConflictError):
            self._answered()
        except BucketAwayError as error:
            self.rest(str(error))
        except TimeoutError:
            self.rest(f"the bucket did not answer within {PATIENCE:.0f} s")
        except StorageError as error:
            self.failed(str(error))
        return None

    def _answered(self) -> None:
        if not self.rests:  # another request found it away while this one was under way
            self.trouble = ""

    def failed(self, why: str) -> None:
        """Tell what failed about one object, once."""
        if why != self._told:
            self._told = why
            self._tell(why)
