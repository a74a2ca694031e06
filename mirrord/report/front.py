"""What the front did since the start: counted from events, shown by `/status`, the page and `mirrord status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from mirrord import events
from mirrord.model.objects import SharedStanding
from mirrord.report.moments import At
from mirrord.report.top import TopNames
from mirrord.syncer.serving import FrontStanding

_OUTCOMES: Final = {
    "local": "from mirrors",
    "hit": "from the cache",
    "revalidated": "from the cache after upstream said that the tag has not moved",
    "stale": "from the cache because upstream did not answer",
    "miss": "read from upstream",
}


SHOWN: Final = 20
"""Images and refused names that are shown."""
_ROOM: Final = 200  # names that are counted at a time
_HOSTS: Final = 100  # upstreams that are counted
_HITS: Final = ("local", "hit", "revalidated", "stale")


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """One upstream of the front.

    Attributes:
        answers: answers with content by outcome, as for the front.
        failures: answers for which it failed.
        from_upstream: bytes of content that were read from it.
        to_clients: bytes of its content that were sent to clients.
        remaining: requests of its quota that were left when it last said so, or null.
        limit: its whole quota; 0 if unknown.
    """

    answers: Mapping[str, int] = field(default_factory=dict)
    failures: int = 0
    from_upstream: int = 0
    to_clients: int = 0
    remaining: int | None = None
    limit: int = 0

    @property
    def hits(self) -> float | None:
        """The share of the answers that needed no content of it, 0 to 1; None without answers."""
        return hit_rate(self.answers)


def hit_rate(answers: Mapping[str, int]) -> float | None:
    """Return the share of the answers that needed no content of an upstream, 0 to 1; None without answers."""
    total = sum(answers.values())
    return sum(answers.get(outcome, 0) for outcome in _HITS) / total if total else None


@dataclass(frozen=True, slots=True)
class SharedCacheStatus:
    """What replicas share of their caches in the bucket, as one of them counted it last; the same at each of them.

    Attributes:
        counted: when that was; null before the first time, half an hour at most.
        bytes: of the content then; it may have as much as `cache_limit`.
        entries: blobs and manifests.
        evictions: blobs and manifests that all replicas removed from it so far.
        evicted_bytes: their bytes.
        error: why this replica does not use it, or could not tend it the last time; "" if it can.
    """

    counted: At | None = None
    bytes: int = 0
    entries: int = 0
    evictions: int = 0
    evicted_bytes: int = 0
    error: str = ""


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
        upstreams: what was pulled through of each upstream, and how much of its quota is left.
        top: the repositories of which most manifests were asked for, with the number, which may be a little too high.
        refused_names: what was refused most often, `REASON REPOSITORY`, likewise.
        shared: what replicas share of their caches; null without `settings.blobs`.
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
    upstreams: Mapping[str, UpstreamStatus] = field(default_factory=dict)
    top: Mapping[str, int] = field(default_factory=dict)
    refused_names: Mapping[str, int] = field(default_factory=dict)
    shared: SharedCacheStatus | None = None

    @property
    def hits(self) -> float | None:
        """The share of the answers that needed no content of an upstream, 0 to 1; None without answers."""
        return hit_rate(self.answers)

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


def in_use(front: FrontStatus | None) -> bool:
    """Whether `/front` has something to show: a cache, or clients that asked for something."""
    return front is not None and bool(front.answers or front.refusals or front.cache_entries or front.cache_limit)


class FrontTally:
    """Counts; listens to events by being called with them."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._answers, self._refusals, self._bytes = Counter[str](), Counter[str](), Counter[str]()
        self._evictions = 0
        self._top, self._refused = TopNames(_ROOM), TopNames(_ROOM)
        self._hosts: dict[str, _Upstream] = {}

    def __call__(self, event: events.Event) -> None:
        """Count `event`."""
        match event:
            case events.FrontAnswered(upstream, kind, outcome, repository):
                self._answers[outcome] += 1
                self._upstream(upstream).answers[outcome] += 1
                if kind == "manifest" and repository:
                    self._top.add(repository)
            case events.FrontRefused(reason, _, repository):
                self._refusals[reason] += 1
                self._refused.add(f"{reason} {repository}")
            case events.FrontBytes(upstream, direction, size):
                self._bytes[direction] += size
                self._upstream(upstream).bytes[direction] += size
            case events.FrontFailed(upstream=upstream):
                self._upstream(upstream).failures += 1
            case events.RateLimit(host, remaining, limit):
                self._upstream(host).quota = (remaining, limit)
            case events.Evicted(entries, _):
                self._evictions += entries
            case _:
                pass

    def _upstream(self, host: str) -> _Upstream:
        found = self._hosts.get(host)
        if found is None:
            found = _Upstream()
            if host and len(self._hosts) < _HOSTS:  # more are counted in the totals alone
                self._hosts[host] = found
        return found

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
            {host: one.status() for host, one in sorted(self._hosts.items())},
            dict(self._top.first(SHOWN)),
            dict(self._refused.first(SHOWN)),
            next((_shared(one.shared) for one in found if one.shared), None),
        )


def _shared(one: SharedStanding) -> SharedCacheStatus:
    counted = datetime.fromtimestamp(one.counted, UTC) if one.counted else None
    return SharedCacheStatus(counted, one.size, one.entries, one.evictions, one.evicted, one.error)


@dataclass(slots=True)
class _Upstream:
    """What is counted of one upstream."""

    answers: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    failures: int = 0
    quota: tuple[int, int] | None = None

    def status(self) -> UpstreamStatus:
        """Return the numbers."""
        left, limit = self.quota or (None, 0)
        read, sent = self.bytes["from_upstream"], self.bytes["to_clients"]
        return UpstreamStatus(dict(sorted(self.answers.items())), self.failures, read, sent, left, limit)
