"""The port: what a syncer must offer, what it may offer, and the loader that finds it.

A syncer is a folder under `mirrord.syncers` (or anywhere) and one line in the entry-point group
`mirrord.syncers.v1`, whose name is the kind and whose value is an object that fulfils `Syncer`.
The contract suite `mirrord.testing.contract` holds every installed one to these promises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from mirrord.blobs.locations import BlobLocations
from mirrord.errors import ConfigError
from mirrord.memory import Memory
from mirrord.model import Plan, Receipt, Step
from mirrord.origin import ConfigOrigin

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pydantic import BaseModel

    from mirrord.blobs.pool import SpoolPool
    from mirrord.blobs.repositories import Repositories
    from mirrord.blobs.store import BlobStore
    from mirrord.events import Events
    from mirrord.wire.http.client import Http

GROUP = "mirrord.syncers.v1"
LOCAL = "local"
"""Name of the built-in target of every kind: kept by mirrord and served by it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a mirror writes.

    Attributes:
        name: its name in the configuration, `local` for the built-in one.
        kind: artifact kind.
        to: where, in the syncer's own grammar; `local` for the built-in one.
        options: the validated remainder (an instance of the syncer's `target_spec`).
        origin: where it was written.
    """

    name: str
    kind: str
    to: str
    options: BaseModel
    origin: ConfigOrigin = field(default_factory=ConfigOrigin, compare=False)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a mirror runs; exactly one of `every` and `cron` is set.

    Attributes:
        every: seconds between runs, or None.
        cron: five fields, or None.
        timezone: IANA name in which `cron` is meant.
        jitter: at most this many seconds are added at random to each start.
    """

    every: float | None = None
    cron: str | None = None
    timezone: str = "UTC"
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Mirror:
    """One entry of `mirrors:`, validated.

    Attributes:
        name: `[a-z0-9][a-z0-9-]*`.
        kind: artifact kind.
        spec: the syncer's own part (an instance of its `spec`): `from` and what it adds.
        targets: at least one, names unique.
        schedule: None means only when asked.
        deadline: seconds after which a run is cancelled.
        trust: seconds for which a digest recorded at a target is trusted without asking again.
        allow: this one run goes on in spite of the guard against accidents at the source (`sync --allow`).
        publication: what this one run publishes instead of the mirror's own source, or None.
        origin: where it was written.
    """

    name: str
    kind: str
    spec: BaseModel
    targets: tuple[Target, ...]
    schedule: Schedule | None = None
    deadline: float = 6 * 3600.0
    trust: float = 12 * 3600.0
    allow: bool = False
    publication: Publication | None = None
    origin: ConfigOrigin = field(default_factory=ConfigOrigin, compare=False)


@dataclass(frozen=True, slots=True)
class Services:
    """What a syncer may use of the program; built by the composition root, the same for all runs.

    Attributes:
        http: the only way to other machines.
        spools: read once, write N: blobs on their way.
        blobs: content of the `local` targets by digest, or None where there is no state.
        repositories: names of the `local` targets, or None where there is no state.
        keep: an existing folder that lasts, or None where there is no state; each kind has its own folder below it.
        locations: which repositories at a host hold a blob, for mounts.
        scratch: an existing folder for temporary files; swept at start.
        events: tell what happens.
    """

    http: Http
    spools: SpoolPool
    events: Events
    scratch: Path
    blobs: BlobStore | None = None
    repositories: Repositories | None = None
    keep: Path | None = None
    locations: BlobLocations = field(default_factory=BlobLocations)


Tell = Callable[[Receipt], None]
"""Hears how a step ended."""


class Survey(Protocol):
    """What a syncer found at the source and at the targets; opaque to everybody else."""


@runtime_checkable
class Session(Protocol):
    """One run in progress; holds what its batches share."""

    async def execute(self, batch: Sequence[Step], tell: Tell) -> None:
        """Do the steps of one group; tell one receipt each, as soon as its step has ended.

        MUST NOT raise for what befalls a single target: that is a receipt. Raises `MirrordError`
        when the whole batch cannot be done (the source is gone). MUST be cancellable at every
        await, and then leave no target half published.
        """
        ...

    @property
    def read(self) -> int:
        """Content bytes read from the source so far."""
        ...


@runtime_checkable
class Syncer(Protocol):
    """What every artifact kind offers. Implementations are stateless and share one instance.

    Attributes:
        kind: the word in `kind:`; equals the entry point's name.
        spec: pydantic model of a mirror's own keys (`from` and more); frozen, `extra="forbid"`.
        target_spec: pydantic model of a target's own keys besides `kind` and `to`.
    """

    @property
    def kind(self) -> str:
        """Return the word in `kind:`."""
        ...

    @property
    def spec(self) -> type[BaseModel]:
        """Return the model of a mirror's own keys."""
        ...

    @property
    def target_spec(self) -> type[BaseModel]:
        """Return the model of a target's own keys."""
        ...

    def places(self, mirror: Mirror) -> tuple[str, Mapping[str, str]]:
        """Return the origin and, by target name, where it goes; canonical, for people and cross-checks.

        MUST be pure, and MUST raise `ConfigError` for an origin or a target that it cannot parse.
        """
        ...

    async def survey(self, mirror: Mirror, services: Services, memory: Memory, now: datetime) -> Survey:
        """Look at the source and at the targets, reading as little as possible; writes nothing."""
        ...

    def plan(self, mirror: Mirror, survey: Any, now: datetime) -> Plan:
        """Decide every step, each with its reason, once a run. MUST be pure and deterministic.

        What `open` needs besides the steps goes into `Plan.decisions`.
        """
        ...

    def open(self, mirror: Mirror, plan: Plan, services: Services) -> AbstractAsyncContextManager[Session]:
        """Begin to execute what `plan` decided; leaving the context releases everything, also after an error."""
        ...


@dataclass(frozen=True, slots=True)
class Publication:
    """A request to publish one build now (`mirrord publish`).

    Attributes:
        source: `oci:DIR`, `docker-archive:FILE` or a reference.
        names: what to call it at every target, the one that stays first.
        if_newest: names that move are left alone where they stand for something newer.
        number: of all publishes to the mirror, in the order in which they were accepted; 0 until then.
        accepted: when that was.
    """

    source: str
    names: tuple[str, ...]
    if_newest: bool = False
    number: int = 0
    accepted: datetime | None = None


@runtime_checkable
class Publishes(Protocol):
    """A syncer that can publish one build under given names."""

    def publishing(self, mirror: Mirror, publication: Publication) -> Mirror:
        """Return `mirror` with its source replaced; the rest of the corridor stays the same."""
        ...


@runtime_checkable
class Measures(Protocol):
    """A syncer that can say how many bytes the steps of a plan would move, when asking for that costs requests."""

    async def measured(self, mirror: Mirror, plan: Plan, services: Services) -> Plan:
        """Return the plan with sizes, as far as they can be had; for people who look at plans, not for runs."""
        ...


@dataclass(frozen=True, slots=True)
class Backup:
    """Something that a run overwrote or deleted.

    Attributes:
        name: what people call it, to bring it back; unique in its mirror; "" when nothing was kept of it.
        item: the item that it was.
        digest: its content then.
        why: one clause: when, and what became of it.
    """

    name: str
    item: str
    digest: str
    why: str


@runtime_checkable
class Restores(Protocol):
    """A syncer that keeps what its runs overwrite and delete."""

    async def backups(self, mirror: Mirror, services: Services) -> Sequence[Backup]:
        """List what was overwritten or deleted, the newest first, and what was brought back and overrides upstream."""
        ...

    async def restore(self, mirror: Mirror, services: Services, name: str, *, release: bool) -> None:
        """Let a backup override upstream from the next run on, or with `release` no longer.

        Raises:
            UsageError: there is none of that name.
        """
        ...


def load_syncers() -> Mapping[str, Syncer]:
    """Find all installed syncers.

    Raises:
        ConfigError: one does not fulfil the port; names the entry point and what it lacks.
    """
    from importlib.metadata import entry_points  # noqa: PLC0415 - costs 20 ms, and `mirrord copy` loads nothing

    return {entry.name: _load(entry) for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name)}


def _load(entry: EntryPoint) -> Syncer:
    syncer = entry.load()
    wanted = ("kind", "spec", "target_spec", "places", "survey", "plan", "open")
    missing = [name for name in wanted if not hasattr(syncer, name)]
    if missing:
        message = f"syncer {entry.name} ({entry.value}) lacks {', '.join(missing)}"
        raise ConfigError(message)
    if syncer.kind != entry.name:
        kinds = f"says kind {syncer.kind!r}, its entry point says {entry.name!r}"
        message = f"syncer {entry.value} {kinds}; make them equal"
        raise ConfigError(message)
    return syncer  # type: ignore[no-any-return]  # checked just above, as far as a loader can
