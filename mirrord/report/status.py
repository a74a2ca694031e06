"""The status for people and machines: the last run, the state and the next run of each mirror. Pure.

`status_document` is plain JSON; `docs/reference` describes it. Times are RFC 3339 in UTC, or null.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import PlainSerializer

from mirrord.errors import kind_of
from mirrord.model.history import LastRun, Noted, Standing
from mirrord.model.run import Result
from mirrord.report.documents import Document, adapter
from mirrord.report.front import FrontStatus
from mirrord.syncer.values import Mirror, Schedule

_NO_RUN: Mapping[str, Running] = MappingProxyType({})
_NO_TIME: Mapping[str, datetime] = MappingProxyType({})
_NO_ADDRESS: Mapping[str, str] = MappingProxyType({})
_NOTHING = Noted()


def rfc3339(at: datetime | None) -> str | None:
    """Format a time in UTC, to the second."""
    return None if at is None else at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


At = Annotated[datetime, PlainSerializer(rfc3339, when_used="json")]


@dataclass(frozen=True, slots=True)
class Running:
    """A run that has not ended; `steps` counts the steps to do, and is None until the plan is known."""

    trigger: str
    started: At
    steps: int | None = None
    done: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class ErrorStatus:
    """An error; `permanent` means that retrying will not help."""

    code: str
    message: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """One target of one mirror; `last_run` is None for the mirror as a whole."""

    name: str
    result: Result | None = None
    last_success: At | None = None
    last_attempt: At | None = None
    consecutive_failures: int = 0
    last_error: ErrorStatus | None = None
    items: int = 0
    last_run: LastRun | None = None
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MirrorStatus(TargetStatus):
    """One mirror; `state` is `running`, `idle`, or `new` when it never ran.

    `address` is where clients get what mirrord itself has of it: a URL, for images a reference; "" without `local`.
    """

    kind: str = ""
    state: str = "new"
    problems: Noted = _NOTHING
    remarks: Noted = _NOTHING
    schedule: str = ""
    next_run: At | None = None
    running: Running | None = None
    targets: tuple[TargetStatus, ...] = ()
    address: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The whole document; `state` is `ready`, `stopping` or `offline` (asked without a daemon).

    `front` is None without a daemon, and where no kind can be pulled through.
    """

    version: str
    state: str
    now: At
    started: At | None
    configuration_error: str
    mirrors: tuple[MirrorStatus, ...]
    front: FrontStatus | None = None
    certificate_error: str = ""  # why the changed files of `settings.tls` are not in use


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


class Board:
    """The state of all mirrors in memory. `learn` updates it, and only changed mirrors are built anew."""

    def __init__(self, standing: Iterable[Standing] = ()) -> None:
        """Begin with the state in the record."""
        self._known: dict[str, Mapping[str, Standing]] = {}
        self._made: Mapping[str, tuple[_Sources, MirrorStatus]] = {}
        self.learn(standing)

    def known(self, mirror: str) -> Mapping[str, Standing]:
        """Return the state of a mirror ("") and of its targets, by the target's name."""
        return self._known.get(mirror, {})

    def learn(self, standing: Iterable[Standing]) -> None:
        """Take the current state of these mirrors, each with all its targets."""
        found = defaultdict[str, dict[str, Standing]](dict)
        for entry in standing:
            found[entry.mirror][entry.target] = entry
        self._known |= found

    def status(
        self,
        version: str,
        now: datetime,
        mirrors: Iterable[Mirror],
        *,
        running: Mapping[str, Running] = _NO_RUN,
        next_runs: Mapping[str, datetime] = _NO_TIME,
        addresses: Mapping[str, str] = _NO_ADDRESS,
        started: datetime | None = None,
        stopping: bool = False,
        configuration_error: str = "",
        front: FrontStatus | None = None,
    ) -> Status:
        """Say how these mirrors stand; `running`, `next_runs`, `addresses` are by mirror. May be called in any thread.

        Of a mirror of which nothing changed it is the very value of before. `started` is when the daemon began, or
        None when there is none; `configuration_error` why the last reload was refused, or "".
        """
        before, made = self._made, dict[str, tuple[_Sources, MirrorStatus]]()
        for mirror in mirrors:
            name = mirror.name
            sources = (
                mirror,
                self.known(name),
                running.get(name),
                next_runs.get(name),
                addresses.get(name, ""),
            )
            found = before.get(name)
            made[name] = (sources, found[1] if found and found[0] == sources else _mirror(*sources))
        self._made = made
        state = "offline" if started is None else "stopping" if stopping else "ready"
        found_all = tuple(one for _, one in made.values())
        return Status(version, state, now, started, configuration_error, found_all, front)


_Sources = tuple[Mirror, Mapping[str, Standing], Running | None, datetime | None, str]
"""Everything that the status of a mirror is made from."""


def _mirror(
    mirror: Mirror,
    known: Mapping[str, Standing],
    running: Running | None,
    next_run: datetime | None,
    address: str,
) -> MirrorStatus:
    whole = known.get("")
    targets = tuple(TargetStatus(target.name, **_fields(known.get(target.name))) for target in mirror.targets)
    own = MirrorStatus(
        mirror.name,
        **_fields(whole),
        kind=mirror.kind,
        state="running" if running else "idle" if whole else "new",
        problems=whole.problems if whole else Noted(),
        remarks=whole.remarks if whole else Noted(),
        schedule=scheduled(mirror.schedule),
        next_run=next_run,
        running=running,
        targets=targets,
        address=address,
    )
    # Not every counted item is remembered by name.
    return replace(own, items=max([own.items, *(target.items for target in targets)]))


def _fields(standing: Standing | None) -> dict[str, Any]:
    if standing is None:
        return {}
    last = standing.last
    error = ErrorStatus(standing.code, standing.error, not kind_of(standing.code).passing) if standing.error else None
    return {
        "result": standing.result,
        "last_success": standing.last_success,
        "last_attempt": standing.last_attempt,
        "consecutive_failures": standing.failures,
        "last_error": error,
        "items": standing.items,
        "last_run": last,
        "troubles": last.troubles if last else (),
    }


def scheduled(schedule: Schedule | None) -> str:
    """Format a schedule: `every 6 h`, `17 3 * * * UTC`, or "" for none."""
    if schedule is None:
        return ""
    if schedule.every is None:
        return f"{schedule.cron} {schedule.timezone}"
    seconds = round(schedule.every)
    unit, length = next((unit for unit in UNITS if not seconds % unit[1]), ("s", 1))
    return f"every {seconds // length} {unit}"


UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60))
"""Units of time with their seconds, the longest first."""


def counted(last: LastRun | None) -> str:
    """Format the counts of a run: `3 written · 1 deleted · 3221 up to date`."""
    if last is None:
        return ""
    words = {"done": "written", "deleted": "deleted", "kept": "up to date", "refused": "refused", "failed": "failed"}
    return " · ".join(f"{count} {word}" for key, word in words.items() if (count := getattr(last, key)))
