"""The status for people and machines: the last run, the state and the next run of each mirror. Pure.

`status_document` is plain JSON; `docs/reference` describes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from mirrord.model.about import Imprint
from mirrord.model.history import LastRun, Noted
from mirrord.model.run import Result
from mirrord.report.desks import IssueDeskStatus
from mirrord.report.documents import Document, adapter
from mirrord.report.front import FrontStatus
from mirrord.report.moments import At, VerifiedStatus
from mirrord.report.replicas import ReplicaStatus

_NOTHING = Noted()
_LITTLE: Final = 50  # less than one part in so many is next to nothing
Condition = Literal["failing", "stale", "new", "deferred", "ok", "denied"]
HEALTHS: Final[tuple[Condition, ...]] = get_args(Condition)
"""The words of `TargetStatus.health`, the worst first."""


@dataclass(frozen=True, slots=True)
class Sending:
    """What a run that has not ended does at one target.

    Attributes:
        steps: number of steps to do.
        done: steps that have ended well.
        failed: steps that were refused or failed.
        sent: bytes sent so far.
        total: bytes of the steps whose size is known so far; what is there already is not sent.
        rate: bytes a second, over the last ten seconds; null before the first byte.
        left: seconds until the end at the slower of this rate and the source's, an estimate; null if that is unknown.
    """

    steps: int
    done: int = 0
    failed: int = 0
    sent: int = 0
    total: int = 0
    rate: int | None = None
    left: int | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A run that has not ended.

    Attributes:
        trigger: what started it: `schedule`, `command`, `publish`, `restore`, `prune`, `takedown`, `repair`,
            `recovery` (a repair without the source).
        started: when it began.
        steps: number of steps to do; null until the plan is made.
        done: steps that have ended well.
        failed: steps that were refused or failed.
        sent: bytes sent so far, to all targets.
        total: bytes of the steps whose size is known so far; what is there already is not sent.
        rate: bytes a second, over the last ten seconds; null before the first byte.
        left: seconds until the end at the slower of both rates, an estimate; null if that is unknown.
        targets: what it does at each target, by name; empty until the plan is made.
        read: bytes read from the source so far; they may wait here before they are sent.
        read_rate: bytes read a second, over the last ten seconds; null before the first byte.
        replica: that runs it, where that is another one than the one that says so; else empty.
    """

    trigger: str
    started: At
    steps: int | None = None
    done: int = 0
    failed: int = 0
    sent: int = 0
    total: int = 0
    rate: int | None = None
    left: int | None = None
    targets: Mapping[str, Sending] = field(default_factory=dict)
    read: int = 0
    read_rate: int | None = None
    replica: str = ""

    @property
    def reading(self) -> bool:
        """Whether it has read, and sends nothing now or has sent next to nothing of it."""
        return self.read > 0 and (not self.rate or self.sent * _LITTLE < self.read)


@dataclass(frozen=True, slots=True)
class ErrorStatus:
    """An error.

    Attributes:
        code: its code, see exit-codes.md.
        message: one sentence.
        permanent: whether retrying will not help.
    """

    code: str
    message: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """One target of one mirror.

    Attributes:
        name: its name.
        result: of the last run; null if it never ran. `deferred` means a rate limit.
        verified: what the last verification found; null if there was none.
        deferred_until: when a deferred run continues; null if none is, or if it waits for its next regular time.
        last_success: end of the last successful run.
        last_attempt: end of the last run.
        consecutive_failures: failed or partial runs since the last successful one.
        failing_since: end of the first of them, or null.
        last_error: error of the last run, or null.
        items: number of items known to be there; for a mirror, at any of its targets.
        last_run: what the last run did there, in items; null for a mirror.
        troubles: why items were refused or failed, one sentence for each of the first 20 causes.
        health: `failing`: the last runs failed in whole or in part; `stale`: the last success is too long ago, see
            `stale_after`; `new`: no run has succeeded yet; `deferred`: the last run stopped at a rate limit; `ok`. The
            first that applies. Of a mirror that was taken down always `denied`.
        place: address of the target; for `local` where clients get what it has; empty for a mirror.
        link: URL of a page about it for people; empty where none is known, and for a mirror.
        behind: number of items that it should have and had not at the end of the last run; for a mirror, the sum.
        behind_since: since when the oldest of them is behind, or null.
        lag: seconds since then, in whole minutes; 0 if nothing is behind, null before the first run.
        size: known bytes of its items, each digest once; for a mirror, where that is most.
        rate: bytes that the last run sent there a second, or null; null for a mirror.
    """

    name: str
    result: Result | None = None
    last_success: At | None = None
    last_attempt: At | None = None
    consecutive_failures: int = 0
    last_error: ErrorStatus | None = None
    items: int = 0
    last_run: LastRun | None = None
    troubles: tuple[str, ...] = ()
    health: Condition = "new"
    place: str = ""
    link: str = ""
    behind: int = 0
    behind_since: At | None = None
    failing_since: At | None = None
    lag: int | None = None
    size: int = 0
    rate: int | None = None
    deferred_until: At | None = None
    verified: VerifiedStatus | None = None


@dataclass(frozen=True, slots=True)
class MirrorStatus(TargetStatus):
    """One mirror.

    Attributes:
        kind: kind of artifact.
        state: `new`: it never ran.
        problems: items that the last run left out because they are wrong upstream: their `count`, and the `first` 20,
            a sentence each. They do not change the result.
        remarks: likewise other notes, such as corrected values, a tag that was not moved, or a restored Git ref.
        schedule: `every 6 h`, or the fields of `cron` and their time zone; empty: it runs on demand.
        next_run: time of the next run by schedule, or of one that was deferred; null without a daemon.
        running: the run that has not ended, or null.
        targets: its targets.
        address: address in `local`: a URL for `helm repo add` or `git clone`, for images a reference without tag; empty
            when `local` is not a target.
        source: where it reads.
        stale_after: seconds after its last success, without one after its first run, at which it is stale; null for
            never.
        stale_at: when it is stale, or has been since; null for never, and before the first run.
        denied: why it was taken down, as `settings.denied` says; it does not run. Empty for all others.
    """

    kind: str = ""
    state: Literal["running", "idle", "new"] = "new"
    problems: Noted = _NOTHING
    remarks: Noted = _NOTHING
    schedule: str = ""
    next_run: At | None = None
    running: Running | None = None
    targets: tuple[TargetStatus, ...] = ()
    address: str = ""
    source: str = ""
    stale_after: float | None = None
    stale_at: At | None = None
    denied: str = ""


@dataclass(frozen=True, slots=True)
class ReceiverStatus:
    """A receiver of notifications.

    Attributes:
        name: its name.
        kind: the service.
        host: where messages go; the rest of the address is a secret.
        on: what is reported to it.
        mirrors: names and globs of the mirrors that are reported.
        waiting: notices that it has not got yet.
        last_sent: when it last got a message, or null.
        last_error: why the last attempt failed; empty after a success.
    """

    name: str
    kind: str
    host: str
    on: tuple[str, ...]
    mirrors: tuple[str, ...]
    waiting: int = 0
    last_sent: At | None = None
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The whole document.

    Attributes:
        version: of mirrord.
        state: `offline`: no daemon runs (`mirrord status`).
        now: when this was written.
        started: when the daemon started.
        configuration_error: error of the last reload, or empty.
        mirrors: one entry a mirror, in the order of the configuration.
        front: what clients pulled through since the start; null without a daemon, and where no kind can be.
        certificate_error: why changed files of `settings.tls` are not in use, or empty.
        notify: receivers of notifications, in the order of the configuration.
        issues: repositories in whose issues people ask for images.
        about: where rights holders write to (`takedown`), and the disclaimer by language; both may be empty.
        asks: number of images that were asked for and have not ended: `queued`, `deferred` while a host limits the
            rate, and `running`; empty without `asking`.
        replicas: the processes that share the record, by name; empty where there is one only.
        replica: which of them says this; empty where there is one only.
        replicas_at: as of when that is, and what is said of runs at other replicas: it is older than `now` while this
            one does not reach the record; null where there is one only.
        waiting: number of runs that are due, and that no replica has begun.
        storage_error: what is wrong with the state directory or the record, or empty.
        bucket_error: why the bucket of `local` cannot be used, or empty.
        totals: number of mirrors by `health`, and of those that run (`running`).
    """

    version: str
    state: Literal["ready", "stopping", "offline"]
    now: At
    started: At | None
    configuration_error: str
    mirrors: tuple[MirrorStatus, ...]
    front: FrontStatus | None = None
    certificate_error: str = ""
    totals: Mapping[str, int] = field(default_factory=dict)
    notify: tuple[ReceiverStatus, ...] = ()
    issues: tuple[IssueDeskStatus, ...] = ()
    about: Imprint = field(default_factory=Imprint)
    asks: Mapping[str, int] = field(default_factory=dict)
    replicas: tuple[ReplicaStatus, ...] = ()
    replica: str = ""
    replicas_at: At | None = None
    waiting: int = 0
    storage_error: str = ""
    bucket_error: str = ""


def status_document(status: Status) -> Document:
    """Return a status as a JSON document."""
    document: Document = adapter(Status).dump_python(status, mode="json", exclude={"mirrors"})
    return {**document, "mirrors": [mirror_document(mirror) for mirror in status.mirrors]}


def mirror_document(mirror: MirrorStatus) -> Document:
    """Return the status of a mirror as a JSON document; troubles are beside `last_run`, not in it."""
    left = {"last_run": {"troubles"}}
    document: Document = adapter(MirrorStatus).dump_python(
        mirror, mode="json", exclude={**left, "targets": {"__all__": left}}
    )
    return document


def counted(last: LastRun | None) -> str:
    """Format the counts of a run: `3 written · 1 deleted · 3221 up to date`."""
    if last is None:
        return ""
    words = {"done": "written", "deleted": "deleted", "kept": "up to date", "refused": "refused", "failed": "failed"}
    return " · ".join(f"{count} {word}" for key, word in words.items() if (count := getattr(last, key)))
