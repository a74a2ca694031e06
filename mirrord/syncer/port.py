"""The port: what a syncer must offer, and what it may offer besides.

A syncer is a folder under `mirrord.syncers` (or anywhere) and one line in the entry-point group
`mirrord.syncers.v1`, whose name is the kind and whose value is an object that fulfils `Syncer`.
The contract suite `mirrord.testing.contract` holds every installed one to these promises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from mirrord.model.memory import Memory
from mirrord.model.plan import Plan, Step
from mirrord.model.run import Receipt
from mirrord.syncer.values import Backup, Mirror, Publication, Services

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mirrord.wire.host import HostBook

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


@runtime_checkable
class Lints(Protocol):
    """A syncer that depends on programs of the machine."""

    async def remarks(self, mirrors: int) -> Sequence[str]:
        """Say what is wrong with them, a sentence each, to whoever has that many mirrors of this kind."""
        ...

    def unheeded(self, mirror: Mirror, book: HostBook) -> Sequence[str]:
        """Say which keys under `hosts:` those programs cannot heed for this mirror, a sentence each; no I/O."""
        ...
