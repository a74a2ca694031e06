"""The sources of one blob: which one is read, and when the next one takes over. Pure.

Mirrors that want the same digest share one read, and each of them has its own source for it. While a source delivers,
it is the only one that is read. When it breaks, the next one is asked for the rest. The same happens when another one
waits and this one is slow: it will not finish within `Patience.soon` at the pace of the last `Patience.window`. If all
are slow, the clearly fastest one continues, and each of the others is retried from time to time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from mirrord.blobs.source import BlobSource
from mirrord.errors import MirrordError

TRIES: Final = 5  # reads of a source that break without bringing PROGRESS bytes
PROGRESS: Final = 1 << 20
MISMATCHES: Final = 2  # times that a source alone delivers wrong bytes: the first may be transient
_CLEARLY: Final = 2.0  # factor of the pace below which two sources are equally fast


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a source may be slow while another one waits; seconds.

    Attributes:
        window: over which its pace is measured.
        first: time to its first byte.
        soon: a source that will finish by then is not replaced.
        again: before a slow one is tried again; doubled each time.
        longest: time for the rest of a blob, at its pace, while others need its space.
        barren: total time of a source, over its tries, without `PROGRESS` bytes.
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
    """One source of the blob, for the readers that named it.

    Attributes:
        requests: the request of each reader; any of them opens the same source.
        error: why it was dropped; only its own readers get it.
        breaks: consecutive reads that broke without much progress.
        barren: total seconds of these.
        mismatches: times that it delivered wrong bytes.
        pace: its last bytes per second.
        trials: times that it was replaced for being slow.
        again: loop time before which it is not retried, unless others are even slower.
    """

    requests: list[BlobSource] = field(default_factory=list)
    error: MirrordError | None = None
    breaks: int = 0
    barren: float = 0.0
    mismatches: int = 0
    pace: float = 0.0
    trials: int = 0
    again: float = 0.0

    def wrong(self) -> None:
        """Tell its readers' sources that the bytes were wrong."""
        for request in self.requests:
            request.on_wrong()

    def broke(self, fresh: int, seconds: float, patience: Patience) -> bool:
        """Count a read that broke after `fresh` bytes and `seconds`; return whether it was the last try.

        The time counts because each read may be several requests, and each of them may receive its headers byte by
        byte.
        """
        if fresh >= PROGRESS:
            self.breaks, self.barren = 1, 0.0
        else:
            self.breaks, self.barren = self.breaks + 1, self.barren + seconds
        return self.breaks >= TRIES or self.barren >= patience.barren


@dataclass(eq=False, slots=True)
class SourceQueue:
    """The usable sources of one blob, the next one first.

    Attributes:
        origins: of all sources that were ever in it, and of the bytes that an earlier transfer left.
    """

    origins: set[str] = field(default_factory=set)
    _sources: dict[object, QueuedSource] = field(default_factory=dict)

    def __iter__(self) -> Iterator[QueuedSource]:
        """Iterate, the next one first."""
        return iter(tuple(self._sources.values()))

    def join(self, request: BlobSource) -> QueuedSource:
        """Add a reader's source, at the end unless it is known."""
        self.origins.add(request.origin)
        key = request.name or request.open
        source = self._sources.get(key)
        if source is None or source.error:
            source = QueuedSource()
            self._sources.pop(key, None)
            self._sources[key] = source
        source.requests.append(request)
        return source

    def leave(self, source: QueuedSource, request: BlobSource) -> None:
        """Remove a reader; a source without readers is not read again."""
        source.requests.remove(request)
        if not source.requests:
            self._drop(source)

    def next(self) -> QueuedSource | None:
        """Return the next one."""
        return next(iter(self._sources.values()), None)

    def fail(self, source: QueuedSource, error: MirrordError) -> None:
        """Remove a source: its readers get `error`."""
        source.error = error
        self._drop(source)

    def back(self, source: QueuedSource) -> None:
        """Move it to the end."""
        for key, queued in tuple(self._sources.items()):
            if queued is source:
                self._sources[key] = self._sources.pop(key)

    def better(
        self, current: QueuedSource, rest: int, now: float, patience: Patience, *, once: bool = False
    ) -> QueuedSource | None:
        """Return the source to read the `rest` bytes from instead of a `current` one that is too slow.

        With `once` no slow one is retried, because it would have to restart.
        """
        if rest <= current.pace * patience.soon:
            return None
        for other in self._sources.values():
            ready = not other.trials if once else now >= other.again
            if other is not current and (ready or other.pace > _CLEARLY * current.pace):
                return other
        return None

    def swap(self, slow: QueuedSource, other: QueuedSource, now: float, patience: Patience) -> None:
        """Replace a `slow` source by `other`."""
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
