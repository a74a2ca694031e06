"""One status for people and machines: what each mirror did last, how it stands, when it runs next. Pure.

The result is a plain JSON document; `docs/reference` describes it. Times are RFC 3339 in UTC, or null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypedDict, cast

from mirrord.errors import kind_of
from mirrord.report.standing import LastRun, Noted, Standing
from mirrord.syncer.values import Mirror


@dataclass(frozen=True, slots=True)
class Running:
    """A run under way.

    Attributes:
        trigger: who asked for it.
        started: UTC.
        steps: steps that have something to do; None until the plan is known.
        done: steps that ended well.
        failed: steps that did not.
    """

    trigger: str
    started: datetime
    steps: int | None = None
    done: int = 0
    failed: int = 0


class ErrorStatus(TypedDict):
    """What went wrong; `permanent` means that waiting will not mend it."""

    code: str
    message: str
    permanent: bool


class RunningStatus(TypedDict):
    """A run under way; `steps` is null until its plan is known."""

    trigger: str
    started: str
    steps: int | None
    done: int
    failed: int


class NotedStatus(TypedDict):
    """Sentences of the last look: how many, and the first of them."""

    count: int
    first: list[str]


class LastRunStatus(TypedDict):
    """What the last run did, in items."""

    done: int
    deleted: int
    kept: int
    refused: int
    failed: int


class TargetStatus(TypedDict):
    """One target of one mirror; `last_run` is null for the mirror as a whole."""

    name: str
    result: str | None
    last_success: str | None
    last_attempt: str | None
    consecutive_failures: int
    last_error: ErrorStatus | None
    items: int
    last_run: LastRunStatus | None
    troubles: list[str]


class MirrorStatus(TargetStatus):
    """One mirror; `state` is `running`, `idle`, or `new` when it never ran."""

    kind: str
    state: str
    problems: NotedStatus
    remarks: NotedStatus
    next_run: str | None
    running: RunningStatus | None
    targets: list[TargetStatus]


class Status(TypedDict):
    """The whole document; `state` is `ready`, `stopping` or `offline` (asked without a daemon)."""

    version: str
    state: str
    now: str
    started: str | None
    configuration_error: str
    mirrors: list[MirrorStatus]


@dataclass(frozen=True, slots=True)
class StatusInput:
    """What a status is made of.

    Attributes:
        version: of mirrord.
        now: UTC.
        mirrors: all that are configured.
        standing: from the record; entries of mirrors that are no longer configured are left out.
        running: by mirror.
        next_runs: by mirror; a mirror without a schedule has none.
        started: when the daemon began, or None when there is none.
        stopping: it was asked to end.
        configuration_error: why the last reload was refused, or "".
    """

    version: str
    now: datetime
    mirrors: Sequence[Mirror]
    standing: Iterable[Standing] = ()
    running: Mapping[str, Running] | None = None
    next_runs: Mapping[str, datetime] | None = None
    started: datetime | None = None
    stopping: bool = False
    configuration_error: str = ""


def status(facts: StatusInput) -> Status:
    """Put the facts together."""
    standing = {(entry.mirror, entry.target): entry for entry in facts.standing}
    state = "offline" if facts.started is None else "stopping" if facts.stopping else "ready"
    return {
        "version": facts.version,
        "state": state,
        "now": _iso(facts.now),
        "started": _maybe(facts.started),
        "configuration_error": facts.configuration_error,
        "mirrors": [_mirror(mirror, standing, facts) for mirror in facts.mirrors],
    }


def _mirror(mirror: Mirror, standing: Mapping[tuple[str, str], Standing], facts: StatusInput) -> MirrorStatus:
    whole = standing.get((mirror.name, ""))
    running = (facts.running or {}).get(mirror.name)
    own = _target(mirror.name, whole)
    targets = [_target(target.name, standing.get((mirror.name, target.name))) for target in mirror.targets]
    return {
        **own,
        # Not all that is counted at a target is remembered one by one.
        "items": max([own["items"], *(target["items"] for target in targets)]),
        "kind": mirror.kind,
        "state": "running" if running else "idle" if whole else "new",
        "problems": _noted(whole.problems if whole else None),
        "remarks": _noted(whole.remarks if whole else None),
        "next_run": _maybe((facts.next_runs or {}).get(mirror.name)),
        "running": _running(running),
        "targets": targets,
    }


def _target(name: str, standing: Standing | None) -> TargetStatus:
    error: ErrorStatus | None = None
    if standing is not None and standing.error:
        error = {"code": standing.code, "message": standing.error, "permanent": not kind_of(standing.code).passing}
    last = standing.last if standing else None
    return {
        "name": name,
        "result": standing.result.value if standing and standing.result else None,
        "last_success": _maybe(standing.last_success if standing else None),
        "last_attempt": _maybe(standing.last_attempt if standing else None),
        "consecutive_failures": standing.failures if standing else 0,
        "last_error": error,
        "items": max(standing.items, last.done + last.kept if last else 0) if standing else 0,
        "last_run": _last_run(last),
        "troubles": list(last.troubles) if last else [],
    }


def _noted(noted: Noted | None) -> NotedStatus:
    return {"count": noted.count, "first": list(noted.first)} if noted else {"count": 0, "first": []}


def _last_run(last: LastRun | None) -> LastRunStatus | None:
    if last is None:
        return None
    return {
        "done": last.done,
        "deleted": last.deleted,
        "kept": last.kept,
        "refused": last.refused,
        "failed": last.failed,
    }


def told(last: LastRunStatus | None) -> str:
    """Return counts for people: `3 written · 1 deleted · 3221 up to date`."""
    words = {"done": "written", "deleted": "deleted", "kept": "up to date", "refused": "refused", "failed": "failed"}
    counts = cast("Mapping[str, int]", last or {})
    return " · ".join(f"{counts[key]} {word}" for key, word in words.items() if counts.get(key))


def _running(running: Running | None) -> RunningStatus | None:
    if running is None:
        return None
    return {
        "trigger": running.trigger,
        "started": _iso(running.started),
        "steps": running.steps,
        "done": running.done,
        "failed": running.failed,
    }


def _maybe(at: datetime | None) -> str | None:
    return None if at is None else _iso(at)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
