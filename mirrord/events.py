"""The low port through which every room reports what happens.

Logs, metrics and progress bars listen here. Emitters know no listener; a listener must be quick,
must not raise and must not call back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mirrord.model.plan import Plan
from mirrord.model.remote import BucketAsked, LeaseLost, LeaseTakenOver, RunCutOff, RunElsewhere, SharedCacheFailed
from mirrord.model.request import AskEnded, ImageAsked
from mirrord.model.run import Receipt, Run


class RequestDone(NamedTuple):
    """One HTTP exchange ended; `status` is 0 when no answer came."""

    host: str
    method: str
    status: int
    seconds: float


class Retrying(NamedTuple):
    """A request is retried after `delay` seconds; `reason` is an error code."""

    host: str
    reason: str
    delay: float


class TrustRefused(NamedTuple):
    """`wire.trust` refused to send a secret or to dial; `reason` is a stable word."""

    host: str
    reason: str


class RateLimit(NamedTuple):
    """A host reported the rest of its quota (`ratelimit-remaining`), and mostly its whole (`ratelimit-limit`)."""

    host: str
    remaining: int
    limit: int = 0  # 0: unknown


class BytesRead(NamedTuple):
    """`fresh` content bytes were read from the source for `target` (see `BytesSent`), the first that needed them."""

    target: str
    fresh: int


class BytesSent(NamedTuple):
    """`fresh` content bytes were sent to `target`.

    `target` is `<mirror>/<target>` in a run of a mirror, and the place as it was typed in a copy without one.
    """

    target: str
    fresh: int


class StepSized(NamedTuple):
    """The size of a step is known: at most `total` content bytes go to `target` (see `BytesSent`)."""

    target: str
    item: str
    total: int


class RunStarted(NamedTuple):
    """A pass over a mirror began; where there are replicas, with this `fence`, and `doubtful` (`RunLease`)."""

    mirror: str
    kind: str
    trigger: str
    fence: int = 0
    doubtful: bool = False


class Planned(NamedTuple):
    """The plan is made, and its execution begins. `work` is the number of active steps by target."""

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
    """A scheduled run did not start: the mirror was still running, mirrord is stopping, or the database is away."""

    mirror: str
    reason: str


class Reloaded(NamedTuple):
    """A new configuration is in use (`error` is ""), or was refused."""

    error: str = ""


class AnswerBroken(NamedTuple):
    """An answer to a client ended early, and not by the client; `path` is the requested path."""

    path: str
    error: str


class FrontAnswered(NamedTuple):
    """A front answered a client with content.

    Attributes:
        upstream: the host whose content it is, one of those in `front:`; "" for a name of `local`.
        kind: `manifest` or `blob`.
        outcome: `local`: a mirror has it; `hit`: from the cache without a request upstream; `revalidated`: from the
            cache, and upstream said that it is the same; `stale`: from the cache, since upstream did not answer;
            `miss`: read from upstream.
        repository: at its upstream, or in `local`.
    """

    upstream: str
    kind: str
    outcome: str
    repository: str = ""


class FrontRefused(NamedTuple):
    """A front refused a client.

    Attributes:
        reason: a stable word, such as `not_allowed`, `denied` or `pulls`.
        client: who is refused, as limits count: an address, an IPv6 network, or `token NAME`.
        repository: what it asked for.
        reference: the tag or digest.
    """

    reason: str
    client: str = ""
    repository: str = ""
    reference: str = ""


class FrontDone(NamedTuple):
    """An answer of a front has ended, whole or not; emitted only where `Events.detailed`.

    Attributes:
        client: who asked, as limits count: an address, an IPv6 network, or `token NAME`.
        repository: at its upstream, or in `local`.
        reference: a tag or digest, or `list`.
        status: the status of the answer.
        outcome: as in `FrontAnswered`, or `reason` of `FrontRefused`, or `missing`; "" for lists and bad requests.
        size: bytes of the body that were really sent.
    """

    client: str
    repository: str
    reference: str
    status: int
    outcome: str
    size: int


class FrontFailed(NamedTuple):
    """An upstream of a front failed for a client, which got an error, or what is in the cache.

    Attributes:
        upstream: the registry, one of those in `front:`.
        reference: what was asked of it.
        called: the repository as the client named it.
        reason: an error code.
        error: what happened.
    """

    upstream: str
    reference: str
    called: str
    reason: str
    error: str


class FrontBytes(NamedTuple):
    """A front read `size` bytes of content `from_upstream`, or sent them `to_clients` (`direction`)."""

    upstream: str
    direction: str
    size: int


class Evicted(NamedTuple):
    """So many blobs and manifests (`entries`), `size` bytes in all, left the cache of a front."""

    entries: int
    size: int


class ListRead(NamedTuple):
    """An allow list of `lines` lines is in use; with an `error` it is the one before `file`, which was refused."""

    file: str
    lines: int
    error: str = ""


class Notified(NamedTuple):
    """A message to a receiver of notifications was sent, or was not.

    Attributes:
        receiver: its name.
        result: `sent`; `failed`: it is sent again later; `refused`: likewise, but somebody has to act first; `dropped`:
            it could not be sent for so long that it was given up.
        notices: how many are in it.
        error: why not, or "".
        again: whether the same error was emitted before, since the last message that was sent.
    """

    receiver: str
    result: str
    notices: int
    error: str = ""
    again: bool = False


class Reviewed(NamedTuple):
    """An admission review of Kubernetes was answered.

    Attributes:
        outcome: `pointed`; `unchanged`; `ignored`: somebody opted out; `odd`: not as Kubernetes writes it; `refused`:
            no review at all.
        seconds: until the answer.
        images: how many of its images were `pointed`, `direct`, or stay for which reason.
        pod: `namespace/name`, as far as it is known.
        warnings: what the author of the Pod is told.
    """

    outcome: str
    seconds: float
    images: Mapping[str, int]
    pod: str = ""
    warnings: Sequence[str] = ()


Traffic = RequestDone | Retrying | TrustRefused | RateLimit | BytesRead | BytesSent | StepSized
RemoteEvent = LeaseLost | LeaseTakenOver | RunCutOff | BucketAsked | RunElsewhere | SharedCacheFailed
FrontEvent = FrontAnswered | FrontRefused | FrontDone | FrontFailed | FrontBytes | Evicted | ListRead
Event = (
    Traffic
    | RunStarted
    | Planned
    | StepDone
    | RunFinished
    | RunSkipped
    | Reloaded
    | AnswerBroken
    | Notified
    | Reviewed
    | ImageAsked
    | AskEnded
    | FrontEvent
    | RemoteEvent
)
Listener = Callable[[Event], None]


@dataclass(slots=True)
class Events:
    """Passes each event to all listeners, in the order in which they were added.

    Attributes:
        detailed: whether somebody listens to `FrontDone`, which costs something for each request.
    """

    detailed: bool = False
    _listeners: list[Listener] = field(default_factory=list)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; return a function that removes it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def emit(self, event: Event) -> None:
        """Pass an event to all listeners."""
        for listener in tuple(self._listeners):
            listener(event)
