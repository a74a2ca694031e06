"""The images that were asked for and have not ended, in the order in which they were asked for.

Pure: time is an argument.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from mirrord.asking.request import OpenRequest
from mirrord.wire.oci.reference import Reference


class AskQueue:
    """Knows whose turn it is."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._open: dict[str, OpenRequest] = {}

    def __len__(self) -> int:
        """Return how many have not ended."""
        return len(self._open)

    def __iter__(self) -> Iterator[OpenRequest]:
        """Iterate over those that have not ended; they may end meanwhile."""
        return iter([*self._open.values()])

    def add(self, request: OpenRequest) -> OpenRequest:
        """Add one to the end; return it, or the one of its id that is there already."""
        return self._open.setdefault(request.record.id, request)

    def find(self, number: str) -> OpenRequest | None:
        """Return one by its id."""
        return self._open.get(number)

    def remove(self, number: str) -> None:
        """Forget one that ended."""
        self._open.pop(number, None)

    def equal(self, image: str, wanted: tuple[str, ...]) -> OpenRequest | None:
        """Return the one that copies all that is wanted of an image."""
        for one in self._open.values():
            has = one.record.platforms
            if one.record.image == image and (not has or (wanted and {*wanted} <= {*has})):
                return one
        return None

    def counts(self) -> Mapping[str, int]:
        """Return how many are queued, are queued until a host may be asked again (`deferred`), and are running."""
        running, deferred = (sum(one.running for one in self), sum(one.until is not None for one in self))
        return {"queued": len(self) - running - deferred, "deferred": deferred, "running": running}

    def ahead(self, request: OpenRequest) -> int:
        """Return how many wait before one."""
        waiting = [one for one in self._open.values() if not one.running and one.until is None]
        return waiting.index(request) if request in waiting else 0

    def turn(self, now: datetime, most: int) -> Sequence[OpenRequest]:
        """Return the next ones that are copied together: of alike platforms, and no repository that is being copied."""
        busy = {_repository(one) for one in self._open.values() if one.running}
        free = [one for one in self._open.values() if _ready(one, now) and _repository(one) not in busy]
        return [one for one in free if one.record.platforms == free[0].record.platforms][:most]

    def due(self, now: datetime) -> datetime | None:
        """Return when the first one may go on that a host sent away, after now."""
        return min((one.until for one in self._open.values() if one.until and one.until > now), default=None)

    def moving(self) -> bool:
        """Whether one of them ends without a host that sends it away."""
        return any(one.until is None for one in self._open.values())


def _ready(request: OpenRequest, now: datetime) -> bool:
    waits = not (request.running or request.here or request.ending) and request.looked.is_set()
    return waits and (request.until is None or request.until <= now)


def _repository(request: OpenRequest) -> str:
    return Reference.parse(request.record.image).name
