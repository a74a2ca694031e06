"""The values that a syncer receives and returns."""

from __future__ import annotations

import shlex
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mirrord.model.digest import Digest
from mirrord.model.ledger import LedgerEntry, Settled
from mirrord.model.memory import NO_MEMORY, Memory
from mirrord.model.origin import ConfigOrigin
from mirrord.names.book import NameBook

if TYPE_CHECKING:
    from mirrord.blobs.pool import SpoolPool
    from mirrord.blobs.repositories import Repositories
    from mirrord.blobs.shared_cache import SharedCache
    from mirrord.blobs.store import BlobStore
    from mirrord.blobs.uses import ContentUses
    from mirrord.events import Events
    from mirrord.model.keep import Keep
    from mirrord.model.verification import Verifying
    from mirrord.names.denied import Denied
    from mirrord.wire.http.client import Http

_Made = TypeVar("_Made")

LOCAL = "local"
"""Name of the built-in target of every kind: stored and served by mirrord."""


class BlobLocations:
    """A bounded cache for the life of the process; a wrong entry costs one request."""

    def __init__(self, most: int = 100_000) -> None:
        """Cache at most `most` pairs of host and digest; the default takes about 30 MB."""
        self._most = most
        self._seen: OrderedDict[tuple[str, Digest], str] = OrderedDict()

    def saw(self, host: str, digest: Digest, repository: str) -> None:
        """Note that `repository` at `host` has `digest`."""
        self._seen[host, digest] = repository
        self._seen.move_to_end((host, digest))
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)

    def other(self, host: str, digest: Digest, repository: str) -> str | None:
        """Return another repository at `host` that had `digest`, or None."""
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
    page: str = ""  # URL of its web page, in which `{name}` and `{mirror}` stand for names; "" for what the kind knows


@dataclass(frozen=True, slots=True)
class Usage:
    """One command by which a client uses what a target has."""

    tool: str  # the program, such as `docker`
    command: str  # one line for a shell, quoted

    @classmethod
    def of(cls, *words: str) -> Usage:
        """Make the command of its words; the first one is the program."""
        return cls(words[0], shlex.join(words))


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a mirror runs; exactly one of `every` and `cron` is set."""

    every: float | None = None  # seconds between runs
    cron: str | None = None  # five fields
    timezone: str = "UTC"  # IANA name of the time zone of `cron`
    jitter: float = 0.0  # at most this many seconds are added at random to each start


@dataclass(frozen=True, slots=True)
class Mirror:
    """One entry of `mirrors:`, validated."""

    name: str  # `[a-z0-9][a-z0-9-]*`
    kind: str
    spec: Any  # the syncer's own part (as its `spec` reads it): `from` and what it adds
    targets: tuple[Target, ...]  # at least one, names unique
    schedule: Schedule | None = None  # None means on command only
    deadline: float = 6 * 3600.0  # seconds after which a run is cancelled
    trust: float = 12 * 3600.0  # seconds for which a digest recorded at a target is trusted without asking again
    interval: float | None = None  # longest seconds between two scheduled starts; None without a schedule
    stale: float | None = None  # seconds after its last success at which the mirror is stale; None means never
    keep: Keep | None = None  # what stays of it in `local`; None for everything
    names: NameBook = field(default_factory=NameBook)  # what names mean, and what images are called by default
    allow: bool = False  # this run overrides the guard against accidents at the source (`sync --allow`)
    named: bool = False  # a person asked for it by its name: what was added to its content is looked for at once
    explain: bool = False  # the plan says of each tag of the source whether it is mirrored (`plan --explain`)
    publication: Publication | None = None  # what this run publishes instead of the mirror's own source, or None
    verifying: Verifying | None = None  # None means with the usual values, on command only
    origin: ConfigOrigin = field(default_factory=ConfigOrigin, compare=False)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a mirror reads and writes.

    Attributes:
        source: the origin, in canonical spelling, without its query.
        targets: the address of each target by name, likewise; `local/NAME` for the built-in one.
        served: where clients get what mirrord itself has of it: a URL, for images a reference; "" without `local`.
        pages: the URL of a page about each target for people, by name; without those of which none is known.
    """

    source: str = ""
    targets: Mapping[str, str] = field(default_factory=dict)
    served: str = ""
    pages: Mapping[str, str] = field(default_factory=dict)

    def shown(self, target: str) -> str:
        """Return the address of a target for people; for the built-in one, where clients get what it has."""
        return self.served if target == LOCAL and self.served else self.targets.get(target, "")


@dataclass(frozen=True, slots=True)
class FrontRules:
    """One entry of `front:`, validated: what clients may pull through a kind's front.

    Attributes:
        keys: the kind's own part (as the model of its `PullThrough` reads it).
        upstreams: the hosts that may be asked, and for each whether with the credentials of `hosts:`.
        origin: where it was written; a relative path in it is below the folder of that file.
        places: where its values were written, by their keys, `front.image.allow[0]`.
    """

    keys: Any
    upstreams: Mapping[str, bool]
    origin: ConfigOrigin = field(default_factory=ConfigOrigin, compare=False)
    places: Mapping[str, ConfigOrigin] = field(default_factory=dict, compare=False)

    def place(self, key: str) -> str:
        """Return `FILE:LINE: KEY`."""
        return f"{self.places.get(key, self.origin)}: {key}"


@dataclass(frozen=True, slots=True)
class MirrorParts:
    """What a mirror of many sources consists of, as far as the configuration and files on this machine say.

    Attributes:
        mirrors: a mirror of each source; its `origin` is where the source is named.
        problems: what is left out because it is wrong, `file:line: what; what to write instead`.
        notices: what is needless, or cannot be read on this machine.
    """

    mirrors: Sequence[Mirror] = ()
    problems: Sequence[str] = ()
    notices: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Publication:
    """A request to publish one build now (`mirrord publish`)."""

    source: str  # `oci:DIR`, `docker-archive:FILE` or a reference
    names: tuple[str, ...]  # its names at every target, the fixed one first
    if_newest: bool = False  # moving names are left alone where they point to a newer build
    number: int = 0  # sequence number among the publishes to the mirror, by acceptance; 0 until then
    accepted: datetime | None = None  # time of acceptance


@dataclass(frozen=True, slots=True)
class PruneWish:
    """What a `mirrord prune` may remove besides what the mirror wrote itself and can bring back."""

    adopt: bool = False  # also what somebody else wrote
    irrecoverable: bool = False  # also what could not be brought back


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup of what a run overwrote or deleted."""

    name: str  # its name for a restore, unique in its mirror; "" if nothing was kept
    item: str  # the item
    digest: str  # its digest
    why: str  # one clause: when and how it was replaced
    where: str = ""  # one clause: where its content can be read now; "" if that is certain


class Facts(Protocol):
    """Facts that a kind stores for the next run: losing them costs requests, or delays a deletion by a run."""

    async def recall(self, mirror: str, name: str) -> Mapping[str, str]:
        """Return the facts of a mirror under `name`; empty if there are none.

        Raises:
            StorageError: it cannot be read.
        """

    async def note(self, mirror: str, name: str, facts: Mapping[str, str]) -> None:
        """Replace the facts under `name`, durably; unchanged facts cost no write.

        Raises:
            StorageError: they cannot be written; the old facts remain.
        """


class Ledger(Protocol):
    """Records which names a run moves; bound to its mirror and run."""

    def moving(
        self, target: str, names: Mapping[str, tuple[str | None, str | None]]
    ) -> AbstractAsyncContextManager[dict[str, Settled]]:
        """Record moves of names at a target before they happen, and their outcomes when the context ends.

        The outcome is done, except where the yielded dictionary has another one. If the context ends with an error, the
        moves that are not in it stay open until they are checked.

        Args:
            target: its name in the configuration.
            names: name → its digest now and after the move (None for none).
        """

    async def newest(self) -> Mapping[tuple[str, str], LedgerEntry]:
        """Return by target and name the newest move at the target's present address, unless it was undone.

        Raises:
            StorageError: it cannot be read.
        """

    async def memory(self, mirror: str) -> Memory:
        """Return what the record knows of a mirror, this one or another. Raises as `newest`."""


class NoLedger:
    """A ledger without state, which records nothing and knows nothing."""

    def moving(self, *_: object) -> AbstractAsyncContextManager[dict[str, Settled]]:
        """Record nothing."""
        return nullcontext({})

    async def newest(self) -> Mapping[tuple[str, str], LedgerEntry]:
        """Return nothing."""
        return {}

    async def memory(self, mirror: str) -> Memory:  # noqa: ARG002 - the port's signature
        """Return nothing."""
        return NO_MEMORY


@dataclass(frozen=True, slots=True)
class Services:
    """The services for syncers; built by the composition root, the same for all runs."""

    http: Http  # the only way to other machines
    spools: SpoolPool  # blobs in transfer: read once, write N
    events: Events  # listeners
    scratch: Path  # an existing folder for temporary files; emptied at start
    blobs: BlobStore | None = None  # content of the `local` targets by digest, or None without state
    repositories: Repositories | None = None  # names of the `local` targets, or None without state
    keep: Path | None = None  # an existing permanent folder with a subfolder per kind, or None without state
    uses: ContentUses | None = None  # when clients asked for content of `local`
    shared: Callable[[str], SharedCache] | None = None  # opens what replicas share of the cache of a kind; or None
    away: Callable[[], str] = str  # why the bucket of `local` is known to be out of reach; "" where it is not
    # which repositories at a host have a blob, for mounts
    locations: BlobLocations = field(default_factory=BlobLocations)
    # the configured mirrors by kind, for fronts; replaced by a reload
    mirrors: Mapping[str, Sequence[Mirror]] = field(default_factory=dict)
    # what clients may pull through, by kind, and what names mean; replaced by a reload
    fronts: Mapping[str, FrontRules] = field(default_factory=dict)
    names: NameBook = field(default_factory=NameBook)
    objection: str = ""  # what follows the reason of a takedown in answers; replaced by a reload
    denied: Denied | None = None  # what was taken down, None for nothing; replaced by a reload and by a takedown
    # the way of fronts to upstreams, without our credentials but where `front:` opts in; None outside of the daemon
    upstreams: Http | None = None
    facts: Facts | None = None  # facts stored between runs, or None without state
    ledger: Ledger = field(default_factory=NoLedger)  # where a run records its moves
    # what kinds share between runs (`once`), for the life of the process, across reloads
    made: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, make: Callable[[Services], _Made]) -> _Made:
        """Return the result of the first call of `make`, cached in these services."""
        if make not in self.made:
            self.made[make] = make(self)
        made: _Made = self.made[make]
        return made
