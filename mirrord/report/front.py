"""What the front did since the start: counted from events, shown by `/status`, the page and `mirrord status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mirrord import events
from mirrord.syncer.serving import FrontStanding

_OUTCOMES: Final = {
    "local": "from mirrors",
    "hit": "from the cache",
    "revalidated": "from the cache after upstream said that the tag has not moved",
    "stale": "from the cache because upstream did not answer",
    "miss": "read from upstream",
}


@dataclass(frozen=True, slots=True)
class FrontStatus:
    """The front of all kinds together.

    Attributes:
        answers: answers with content by outcome: `local`, `hit`, `revalidated`, `stale`, `miss` (see `FrontAnswered`).
        refusals: refused requests by reason.
        from_upstream: bytes of content that were read from upstreams.
        to_clients: bytes of content that were sent to clients.
        cache_bytes: bytes of content in the cache.
        cache_entries: blobs and manifests in the cache.
        evictions: blobs and manifests that left the cache.
        cache_error: why content could not be kept or evicted the last time; "" if it could.
        list_errors: why an allow list is not in use, by file; the one before it is, unless `list_missing`.
        list_missing: whether there is no usable list at all, so that only `local` is served.
        cache_limit: bytes that the cache may have; 0 before it is known.
    """

    answers: Mapping[str, int] = field(default_factory=dict)
    refusals: Mapping[str, int] = field(default_factory=dict)
    from_upstream: int = 0
    to_clients: int = 0
    cache_bytes: int = 0
    cache_entries: int = 0
    evictions: int = 0
    cache_error: str = ""
    list_errors: Mapping[str, str] = field(default_factory=dict)
    list_missing: bool = False
    cache_limit: int = 0

    def answered(self) -> str:
        """Return the counts of answers: `12 from mirrors, 3 read from upstream`."""
        return ", ".join(f"{count} {_OUTCOMES.get(word, word)}" for word, count in self.answers.items()) or "none"

    def refused(self) -> str:
        """Return the counts of refusals: `2 denied, 1 pulls`."""
        return ", ".join(f"{count} {word}" for word, count in self.refusals.items()) or "none"

    def list_troubles(self) -> list[str]:
        """Return a sentence for each list that is refused."""
        use = "nothing can be pulled through" if self.list_missing else "the one before it stays in use"
        return [f"an allow list was refused, {use}: {error}" for error in self.list_errors.values()]


class FrontTally:
    """Counts; listens to events by being called with them."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._answers, self._refusals, self._bytes = Counter[str](), Counter[str](), Counter[str]()
        self._evictions = 0

    def __call__(self, event: events.Event) -> None:
        """Count `event`."""
        match event:
            case events.FrontAnswered(outcome=outcome):
                self._answers[outcome] += 1
            case events.FrontRefused(reason=reason):
                self._refusals[reason] += 1
            case events.FrontBytes(_, direction, size):
                self._bytes[direction] += size
            case events.Evicted(entries, _):
                self._evictions += entries
            case _:
                pass

    def status(self, standings: Iterable[FrontStanding]) -> FrontStatus:
        """Return the totals, with how the open fronts stand."""
        found = tuple(standings)
        return FrontStatus(
            dict(sorted(self._answers.items())),
            dict(sorted(self._refusals.items())),
            self._bytes["from_upstream"],
            self._bytes["to_clients"],
            sum(one.cache_bytes for one in found),
            sum(one.cache_entries for one in found),
            self._evictions,
            next((one.cache_error for one in found if one.cache_error), ""),
            {file: error for one in found for file, error in one.list_errors.items()},
            any(one.list_missing for one in found),
            sum(one.cache_limit for one in found),
        )
