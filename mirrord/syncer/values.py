"""The values that a syncer is given and returns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mirrord.model.digest import Digest
from mirrord.model.ledger import Settled
from mirrord.model.origin import ConfigOrigin

if TYPE_CHECKING:
    from mirrord.blobs.pool import SpoolPool
    from mirrord.blobs.repositories import Repositories
    from mirrord.blobs.store import BlobStore
    from mirrord.events import Events
    from mirrord.wire.http.client import Http

_Made = TypeVar("_Made")

LOCAL = "local"
"""Name of the built-in target of every kind: kept by mirrord and served by it."""


class BlobLocations:
    """A bounded memory, for the life of the process: a wrong guess costs one request, no harm."""

    def __init__(self, most: int = 100_000) -> None:
        """Remember at most `most` pairs of host and digest; the default takes about 30 MB."""
        self._most = most
        self._seen: OrderedDict[tuple[str, Digest], str] = OrderedDict()

    def saw(self, host: str, digest: Digest, repository: str) -> None:
        """Remember that `repository` at `host` holds `digest`."""
        self._seen[host, digest] = repository
        self._seen.move_to_end((host, digest))
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)

    def other(self, host: str, digest: Digest, repository: str) -> str | None:
        """Return another repository at `host` that held `digest`, or None."""
        found = self._seen.get((host, digest))
        return found if found != repository else None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a mirror writes."""

    name: str  # its name in the configuration, `local` for the built-in one
    kind: str
    to: str  # where, in the syncer's own grammar; `local` for the built-in one
    options: Any  # the validated remainder (as the syncer's `target_spec` reads it)
    origin: ConfigOrigin = field(default_factory=ConfigOrigin, compare=False)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a mirror runs; exactly one of `every` and `cron` is set."""

    every: float | None = None  # seconds between runs
    cron: str | None = None  # five fields
    timezone: str = "UTC"  # IANA name in which `cron` is meant
    jitter: float = 0.0  # at most this many seconds are added at random to each start


@dataclass(frozen=True, slots=True)
class Mirror:
    """One entry of `mirrors:`, validated."""

    name: str  # `[a-z0-9][a-z0-9-]*`
    kind: str
    spec: Any  # the syncer's own part (as its `spec` reads it): `from` and what it adds
    targets: tuple[Target, ...]  # at least one, names unique
    schedule: Schedule | None = None  # None means only when asked
    deadline: float = 6 * 3600.0  # seconds after which a run is cancelled
    trust: float = 12 * 3600.0  # seconds for which a digest recorded at a target is trusted without asking again
    allow: bool = False  # this one run goes on in spite of the guard against accidents at the source (`sync --allow`)
    publication: Publication | None = None  # what this one run publishes instead of the mirror's own source, or None
    origin: ConfigOrigin = field(default_factory=ConfigOrigin, compare=False)


@dataclass(frozen=True, slots=True)
class Publication:
    """A request to publish one build now (`mirrord publish`)."""

    source: str  # `oci:DIR`, `docker-archive:FILE` or a reference
    names: tuple[str, ...]  # what to call it at every target, the one that stays first
    if_newest: bool = False  # names that move are left alone where they stand for something newer
    number: int = 0  # of all publishes to the mirror, in the order in which they were accepted; 0 until then
    accepted: datetime | None = None  # when that was


@dataclass(frozen=True, slots=True)
class Backup:
    """Something that a run overwrote or deleted."""

    name: str  # what people call it, to bring it back; unique in its mirror; "" when nothing was kept of it
    item: str  # the item that it was
    digest: str  # its content then
    why: str  # one clause: when, and what became of it


class Facts(Protocol):
    """What a kind must find again at the next run: losing it costs requests, or a deletion that waits a run."""

    async def recall(self, mirror: str, name: str) -> Mapping[str, str]:
        """Return what was noted of a mirror under `name`; nothing when that never was.

        Raises:
            StorageError: it cannot be read.
        """

    async def note(self, mirror: str, name: str, facts: Mapping[str, str]) -> None:
        """Replace what is noted under `name`, durably; costs no write when that is noted already.

        Raises:
            StorageError: it cannot be written; what was noted before is still there.
        """


class Ledger(Protocol):
    """Where is written down which names a run moves; bound to its mirror and to the run."""

    def moving(
        self, target: str, names: Mapping[str, tuple[str | None, str | None]]
    ) -> AbstractAsyncContextManager[dict[str, Settled]]:
        """Write down that names are moved at a target, before they are, and when the context ends what came of it.

        All of them are done then, but for those of which the given dictionary says something else. When the context
        ends with an error, what it does not mention stays open until somebody has looked.

        Args:
            target: its name in the configuration.
            names: name → what it stands for now, and what it shall stand for (None for nothing).
        """


class NoLedger:
    """Where nothing is written down, since there is no state."""

    def moving(self, *_: object) -> AbstractAsyncContextManager[dict[str, Settled]]:
        """Write down nothing."""
        return nullcontext({})


@dataclass(frozen=True, slots=True)
class Services:
    """What a syncer may use of the program; built by the composition root, the same for all runs."""

    http: Http  # the only way to other machines
    spools: SpoolPool  # read once, write N: blobs on their way
    events: Events  # tell what happens
    scratch: Path  # an existing folder for temporary files; swept at start
    blobs: BlobStore | None = None  # content of the `local` targets by digest, or None where there is no state
    repositories: Repositories | None = None  # names of the `local` targets, or None where there is no state
    # an existing folder that lasts, or None where there is no state; each kind has its own folder below it
    keep: Path | None = None
    # which repositories at a host hold a blob, for mounts
    locations: BlobLocations = field(default_factory=BlobLocations)
    # what is configured, by kind, for fronts; a run has its own mirror. New after a reload.
    mirrors: Mapping[str, Sequence[Mirror]] = field(default_factory=dict)
    facts: Facts | None = None  # what is remembered between runs, or None where there is no state
    ledger: Ledger = field(default_factory=NoLedger)  # where a run writes down what it moves
    # what kinds share between runs (`once`); lasts as long as the program, over reloads of the configuration
    made: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, make: Callable[[Services], _Made]) -> _Made:
        """Return what `make` made when it was first asked for; only these services know of it."""
        if make not in self.made:
            self.made[make] = make(self)
        made: _Made = self.made[make]
        return made
