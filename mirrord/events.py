"""The low port through which every room tells what happens.

Logs, metrics and progress bars listen here. Rooms emit values and know no listener; a listener
must be quick, must not raise and must not call back into the room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mirrord.model.plan import Plan
from mirrord.model.run import Receipt, Run


class RequestDone(NamedTuple):
    """One HTTP exchange ended; `status` is 0 when no answer came."""

    host: str
    method: str
    status: int
    seconds: float


class Retrying(NamedTuple):
    """A request is tried again after `delay` seconds; `reason` is an error code."""

    host: str
    reason: str
    delay: float


class TrustRefused(NamedTuple):
    """`wire.trust` refused to send a secret or to dial; `reason` is a stable word."""

    host: str
    reason: str


class RateLimit(NamedTuple):
    """A host told its budget (`ratelimit-remaining`)."""

    host: str
    remaining: int


class BytesRead(NamedTuple):
    """`fresh` content bytes came from the source, for `target`, as in `BytesSent`, that asked for them first."""

    target: str
    fresh: int


class BytesSent(NamedTuple):
    """`fresh` content bytes went to `target`.

    `target` is `<mirror>/<target>` in a run of a mirror, and the place as it was typed in a copy without one.
    """

    target: str
    fresh: int


class StepSized(NamedTuple):
    """All that a step needs is known: at most `total` content bytes have to go to `target`, as in `BytesSent`."""

    target: str
    item: str
    total: int


class RunStarted(NamedTuple):
    """A pass over a mirror began."""

    mirror: str
    kind: str
    trigger: str


class Planned(NamedTuple):
    """The whole plan is known; doing begins. `work` has, by target, how many steps do something."""

    plan: Plan
    work: Mapping[str, int]


class StepDone(NamedTuple):
    """A step ended."""

    mirror: str
    receipt: Receipt


class RunFinished(NamedTuple):
    """A pass ended."""

    run: Run


class RunSkipped(NamedTuple):
    """A tick found the mirror still running, or held back."""

    mirror: str
    reason: str


class Reloaded(NamedTuple):
    """A new configuration was validated and taken (`error` is "") or refused."""

    error: str = ""


class AnswerBroken(NamedTuple):
    """An answer to a client broke off in the middle, and not by the client; `path` is what was asked for."""

    path: str
    error: str


Traffic = RequestDone | Retrying | TrustRefused | RateLimit | BytesRead | BytesSent | StepSized
Event = Traffic | RunStarted | Planned | StepDone | RunFinished | RunSkipped | Reloaded | AnswerBroken
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
