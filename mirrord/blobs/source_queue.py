"""The sources of one blob: whose turn it is to bring it, and when the next one takes over. Pure.

Mirrors that want the same digest share one read, and each of them has its own source for it. While a source delivers
it is the only one that is asked. When it breaks the next one is asked for the rest. So it is when another one waits and
this one is slow: when it will not be through within `Patience.soon` at the pace of the last `Patience.window`. Of those
that are all slow the one with clearly the best pace goes on, and each of the others is tried again from time to time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from mirrord.blobs.source import BlobSource
from mirrord.errors import MirrordError

TRIES: Final = 5  # reads of a source that break without bringing PROGRESS bytes
PROGRESS: Final = 1 << 20
MISMATCHES: Final = 2  # times that a source brings wrong bytes all by itself: after the first it may have healed
_CLEARLY: Final = 2.0  # times the pace: below that two sources are equally fast


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a source may be slow while another one waits; seconds.

    Attributes:
        window: over which its pace is measured.
        first: that it may take for its first byte.
        soon: a source that will be through by then is left to end.
        again: before a slow one is tried again; doubled each time.
        longest: that a blob may take for the rest, at its pace, while others need its room.
        barren: that a source may take in all, over its tries, without bringing `PROGRESS` bytes.
    """

    window: float = 5.0
    first: float = 30.0
    soon: float = 30.0
    again: float = 60.0
    longest: float = 3600.0
    barren: float = 240.0


PATIENCE: Final = Patience()


@dataclass(eq=False, slots=True)
class QueuedSource:
    """One place where the blob can be had, on behalf of readers that know it.

    Attributes:
        requests: what each of these readers asked for; any of them opens the same source.
        error: why it is out; only its own readers hear of it.
        breaks: reads in a row that broke without bringing much.
        barren: seconds that they took together.
        mismatches: times that it brought wrong bytes.
        pace: bytes a second that it last showed.
        trials: times that it was put back for being slow.
        again: loop time before which it is not tried again, unless others are slower still.
    """

    requests: list[BlobSource] = field(default_factory=list)
    error: MirrordError | None = None
    breaks: int = 0
    barren: float = 0.0
    mismatches: int = 0
    pace: float = 0.0
    trials: int = 0
    again: float = 0.0

    def broke(self, fresh: int, seconds: float, patience: Patience) -> bool:
        """Count a read that broke after `fresh` bytes and `seconds`; return whether that was the last one.

        The time counts because each read may have been several requests, and each of them may have waited for headers
        that came byte by byte.
        """
        if fresh >= PROGRESS:
            self.breaks, self.barren = 1, 0.0
        else:
            self.breaks, self.barren = self.breaks + 1, self.barren + seconds
        return self.breaks >= TRIES or self.barren >= patience.barren


@dataclass(eq=False, slots=True)
class SourceQueue:
    """The sources of one blob that may still bring it, the next one first."""

    _sources: dict[object, QueuedSource] = field(default_factory=dict)

    def __iter__(self) -> Iterator[QueuedSource]:
        """Iterate over them, the next one first."""
        return iter(tuple(self._sources.values()))

    def join(self, request: BlobSource) -> QueuedSource:
        """Add a reader's source, at the end unless it is there already."""
        key = request.name or request.open
        source = self._sources.get(key)
        if source is None or source.error:
            source = QueuedSource()
            self._sources.pop(key, None)
            self._sources[key] = source
        source.requests.append(request)
        return source

    def leave(self, source: QueuedSource, request: BlobSource) -> None:
        """Take a reader away; a source without readers is not asked again."""
        source.requests.remove(request)
        if not source.requests:
            self._drop(source)

    def next(self) -> QueuedSource | None:
        """Return whose turn it is."""
        return next(iter(self._sources.values()), None)

    def fail(self, source: QueuedSource, error: MirrordError) -> None:
        """Take a source out: its readers have `error`."""
        source.error = error
        self._drop(source)

    def back(self, source: QueuedSource) -> None:
        """Let all others come first."""
        for key, queued in tuple(self._sources.items()):
            if queued is source:
                self._sources[key] = self._sources.pop(key)

    def better(
        self, current: QueuedSource, rest: int, now: float, patience: Patience, *, once: bool = False
    ) -> QueuedSource | None:
        """Return who should bring the `rest` bytes instead of a `current` source that is too slow.

        With `once` none that was slow is tried again: it would have to begin anew.
        """
        if rest <= current.pace * patience.soon:
            return None
        for other in self._sources.values():
            ready = not other.trials if once else now >= other.again
            if other is not current and (ready or other.pace > _CLEARLY * current.pace):
                return other
        return None

    def swap(self, slow: QueuedSource, other: QueuedSource, now: float, patience: Patience) -> None:
        """Let `other` go on instead of a `slow` source."""
        slow.again = now + patience.again * 2**slow.trials
        slow.trials += 1
        for source in self:
            if source is not other and source is not slow:
                self.back(source)
        self.back(slow)

    def _drop(self, source: QueuedSource) -> None:
        for key, queued in tuple(self._sources.items()):
            if queued is source:
                del self._sources[key]
