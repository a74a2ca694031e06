"""The low port through which every room tells what happens.

Logs, metrics and progress bars listen here. Rooms emit values and know no listener; a listener
must be quick, must not raise and must not call back into the room.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mirrord.model import Plan, Receipt, Run


@dataclass(frozen=True, slots=True)
class RequestDone:
    """One HTTP exchange ended; `status` is 0 when no answer came."""

    host: str
    method: str
    status: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Retrying:
    """A request is tried again after `delay` seconds; `reason` is an error code."""

    host: str
    reason: str
    delay: float


@dataclass(frozen=True, slots=True)
class TrustRefused:
    """`wire.trust` refused to send a secret or to dial; `reason` is a stable word."""

    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A host told its budget (`ratelimit-remaining`)."""

    host: str
    remaining: int


@dataclass(frozen=True, slots=True)
class BytesRead:
    """`count` content bytes came from the source for `digest`, `total` bytes in all."""

    digest: str
    count: int
    total: int


@dataclass(frozen=True, slots=True)
class BytesSent:
    """`count` content bytes of `digest` went to `target`, `total` bytes in all."""

    target: str
    digest: str
    count: int
    total: int


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A pass over a mirror began."""

    mirror: str
    kind: str
    trigger: str


@dataclass(frozen=True, slots=True)
class Planned:
    """The whole plan is known; doing begins."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step ended."""

    mirror: str
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A pass ended."""

    run: Run


@dataclass(frozen=True, slots=True)
class RunSkipped:
    """A tick found the mirror still running, or held back."""

    mirror: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A new configuration was validated and taken (`error` is "") or refused."""

    error: str = ""


Event = (
    RequestDone
    | Retrying
    | TrustRefused
    | RateLimit
    | BytesRead
    | BytesSent
    | RunStarted
    | Planned
    | StepDone
    | RunFinished
    | RunSkipped
    | Reloaded
)

Listener = Callable[[Event], None]


@dataclass(slots=True)
class Events:
    """Hands each event to all listeners, in the order in which they came."""

    _listeners: list[Listener] = field(default_factory=list)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; returns what takes it away again."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def emit(self, event: Event) -> None:
        """Tell everybody."""
        for listener in tuple(self._listeners):
            listener(event)
