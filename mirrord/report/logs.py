"""The only door to structlog: one line an event, JSON for machines or text for people, on standard output.

Every text passes redaction, loses its control characters and is cut at 4 kB, whoever wrote it: an upstream
can neither forge a line nor bring a secret into one. A full disk or a closed pipe behind standard output
loses lines and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

import structlog  # noqa: TID251 - this is the door

from mirrord import events
from mirrord.model.remote import LeaseLost, LeaseTakenOver, RunCutOff, SharedCacheFailed
from mirrord.model.request import AskEnded
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.report.log_values import clean

SELDOM = timedelta(minutes=1)
"""Least time between two lines about failures of one upstream, or refusals of one client, for one reason."""
_ASKED = {"failed": "warning", "refused": "debug"}
_REVIEWED = {"pointed": "info", "odd": "warning", "refused": "warning"}
_MOST_REFUSALS = 1000  # lines about refused clients in that time
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


@dataclass(frozen=True, slots=True)
class Line:
    """One log line before its time is added: level, event name, fields."""

    level: str
    name: str
    fields: dict[str, object] = field(default_factory=dict)


def line(event: events.Event) -> Line | None:  # noqa: C901, PLR0911 - one case an event reads best in one place
    """Return what to write about `event`, or None."""
    match event:
        case events.RunFinished(run):
            return _summary(run)
        case events.StepDone(mirror, receipt):
            return _step(mirror, receipt)
        case events.RunStarted(mirror, kind, trigger, fence, doubtful):
            lease = {"fence": fence, "doubtful": doubtful} if fence else {}
            return Line("info", "run.started", {"mirror": mirror, "kind": kind, "trigger": trigger, **lease})
        case events.Planned(plan):
            fields = {"mirror": plan.mirror, "steps": len(plan.steps), "active": len(plan.active)}
            fields |= {"problems": len(plan.problems), "left_out": plan.problems, "missing": plan.missing}
            return Line("warning" if plan.missing else "info", "run.planned", fields)
        case events.RunSkipped(mirror, reason):
            return Line("info", "run.skipped", {"mirror": mirror, "reason": reason})
        case events.Reloaded(error):
            problems = "; ".join(error.splitlines())
            return Line("error", "reload.refused", {"error": problems}) if error else Line("info", "reload.done")
        case events.AnswerBroken(path, error):
            return Line("warning", "answer.broken", {"path": path, "error": error})
        case events.TrustRefused(host, reason):
            return Line("warning", "trust.refused", {"host": host, "reason": reason})
        case events.Retrying(host, reason, delay):
            return Line("info", "http.retry", {"host": host, "reason": reason, "delay": round(delay, 3)})
        case events.RequestDone(host, method, status, seconds):
            fields = {"host": host, "method": method, "status": status, "seconds": round(seconds, 3)}
            return Line("debug", "http.request", fields)
        case events.RateLimit(host, remaining):
            return Line("debug", "http.rate_limit", {"host": host, "remaining": remaining})
        case _:
            return _other(event)


def _notified(event: events.Notified) -> Line | None:
    fields: dict[str, object] = {"receiver": event.receiver, "notices": event.notices}
    if not event.error:
        return Line("info", "notify.sent", fields)
    failed = fields | {"result": event.result, "error": event.error}
    return None if event.again else Line("warning", "notify.failed", failed)


def _other(event: events.Event) -> Line | None:  # noqa: PLR0911 - one for each event
    match event:
        case events.ListRead(file, lines, error):
            read = Line("info", "list.read", {"file": file, "lines": lines})
            return Line("error", "list.refused", {"file": file, "error": error, "lines": lines}) if error else read
        case events.Evicted(entries, size):
            return Line("info", "cache.evicted", {"entries": entries, "bytes": size})
        case events.FrontFailed(upstream, reference, called, reason, error):
            failed: dict[str, object] = {"upstream": upstream, "reference": reference, "called": called}
            return Line("warning", "front.failed", failed | {"reason": reason, "error": error})
        case events.FrontDone():
            fields = event._asdict()
            fields["bytes"] = fields.pop("size")
            return Line("debug", "front.answered", fields)
        case events.FrontRefused():
            return Line("info", "front.refused", dict(event._asdict()))
        case AskEnded(result, reason, seconds, image, who):
            asked: dict[str, object] = {"image": image, "who": who, "result": result, "reason": reason}
            asked["seconds"] = round(seconds, 3)
            return Line(_ASKED.get(result, "info"), "ask.ended", asked)
        case events.Reviewed():
            fields = event._asdict() | {"seconds": round(event.seconds, 3), "images": dict(event.images)}
            return Line(_REVIEWED.get(event.outcome, "debug"), "webhook.answered", fields)
        case events.Notified():
            return _notified(event)
        case _:
            return _shared(event)


def _shared(event: events.Event) -> Line | None:
    match event:
        case LeaseLost(mirror):
            return Line("warning", "lease.lost", {"mirror": mirror})
        case LeaseTakenOver(mirror):
            return Line("warning", "lease.taken_over", {"mirror": mirror})
        case RunCutOff():
            cut: dict[str, object] = event._asdict() | {"started": event.started.isoformat()}
            return Line("warning", "run.cut_off", cut | {"seconds": round(event.seconds, 3)})
        case SharedCacheFailed(message):
            return Line("warning", "cache.failed", {"message": message})
        case _:  # transferred bytes: metrics count them
            return None


def _seldom(event: events.Event) -> tuple[str, str] | None:
    """Return what an event is about that strangers may bring about as often as they like."""
    match event:
        case events.FrontFailed():
            return event.upstream, event.reason
        case events.Reviewed(outcome="odd" | "refused" as outcome):
            return "webhook", outcome
        case _:
            return None


def _step(mirror: str, receipt: Receipt) -> Line:
    step = receipt.step
    fields: dict[str, object] = {"mirror": mirror, "target": step.target, "item": step.item}
    fields |= {"digest": step.digest, "outcome": receipt.outcome.value, "sent": receipt.sent}
    if receipt.problem:
        fields["problem"] = receipt.problem
    if receipt.good and not receipt.problem:
        return Line("info" if receipt.outcome is Outcome.DONE else "debug", "step.done", fields)
    if not receipt.bad:
        return Line("warning", "step.done" if receipt.good else "step.left_out", fields)
    return Line("warning", "step.failed", fields | {"error_code": receipt.code, "error": receipt.detail})


def _summary(run: Run) -> Line:
    fields: dict[str, object] = {"mirror": run.mirror, "kind": run.kind, "trigger": run.trigger}
    seconds = (run.finished - run.started).total_seconds()
    fields |= {"result": run.result.value, "seconds": round(seconds, 3), "read": run.read, "sent": run.sent}
    fields |= {"steps": dict(sorted(run.counts.items())), "problems": len(run.problems)}
    if run.error:
        fields |= {"error_code": run.code, "error": run.error}
    elif run.plan and run.plan.missing:
        fields |= {"error_code": run.plan.missing_code, "error": run.plan.first_missing}
    return Line("warning" if run.result in (Result.FAILED, Result.PARTIAL) else "info", "run.finished", fields)


class Logs:
    """Writes lines; listens to events by being called with them."""

    def __init__(
        self, stream: TextIO, now: Callable[[], datetime], *, style: str = "json", level: str = "info"
    ) -> None:
        """Write to `stream` as `json` or `text`, nothing below `level` (`debug`, `info`, `warning`, `error`)."""
        self.lost = 0  # lines that could not be written
        self._now, self._refusals = now, _Refusals(now)
        self._failures: dict[tuple[str, str], tuple[datetime, int]] = {}  # the last line, and those left out since

        def stamp(_: object, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
            time = now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            return {"time": time, "level": fields.pop("level"), "event": fields.pop("event"), **fields}

        def text(_: object, __: str, fields: MutableMapping[str, Any]) -> str:
            time, level, event = fields.pop("time"), fields.pop("level"), fields.pop("event")
            rest = " ".join(f"{key}={value}" for key, value in fields.items() if value not in ("", None))
            return f"{time} {level:<7} {event:<14} {rest}".rstrip()

        self._logger: Any = structlog.wrap_logger(
            _Writer(stream, self),
            processors=[
                structlog.processors.add_log_level,
                stamp,
                lambda _, __, fields: {key: clean(value) for key, value in fields.items()},
                structlog.processors.JSONRenderer(ensure_ascii=False) if style == "json" else text,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
            cache_logger_on_first_use=False,
        )

    def __call__(self, event: events.Event) -> None:
        """Write the line for `event`, if it has one; at most one in `SELDOM` for each upstream or client and reason."""
        if isinstance(event, events.FrontRefused) and not self._refusals.first(event.client, event.reason):
            return
        entry = line(event)
        if entry is None:
            return
        if key := _seldom(event):
            left_out = self._left_out(key)
            if left_out is None:
                return
            entry.fields["left_out"] = left_out
        self.write(entry.level, entry.name, **entry.fields)

    def _left_out(self, key: tuple[str, str]) -> int | None:
        """Return how many lines were left out since the last one, or None where this one is left out, too."""
        now = self._now()
        at, count = self._failures.get(key, (None, 0))
        if at is not None and timedelta(0) <= now - at < SELDOM:
            self._failures[key] = at, count + 1
            return None
        self._failures[key] = now, 0
        return count

    def write(self, level: str, name: str, **fields: object) -> None:
        """Write one line; `name` is one of `log_names.NAMES`."""
        getattr(self._logger, level)(name, **fields)

    def adopt(self) -> Callable[[], None]:
        """Take over what libraries report by `logging`, from warnings up; returns what ends that."""
        handler = _Libraries(self)
        root = logging.getLogger()
        root.addHandler(handler)
        return lambda: root.removeHandler(handler)


class _Refusals:
    """Bounds the lines about refused clients, who may ask as often as they like."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now, self._until = now, dict[tuple[str, str], datetime]()

    def first(self, client: str, reason: str) -> bool:
        """Whether a refusal is the first a minute of this client for this reason, and one of the first thousand."""
        now, key = self._now(), (client, reason)
        if self._until.get(key, now) > now:
            return False
        self._until.pop(key, None)  # to the end of the order
        if len(self._until) >= _MOST_REFUSALS:
            oldest = next(iter(self._until))
            if self._until[oldest] > now:
                return False
            del self._until[oldest]
        self._until[key] = now + SELDOM
        return True


class _Writer:
    """What structlog writes through."""

    def __init__(self, stream: TextIO, owner: Logs) -> None:
        self._stream = stream
        self._owner = owner

    def msg(self, message: str) -> None:
        try:
            self._stream.write(message + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # full, or closed
            self._owner.lost += 1

    debug = info = warning = error = msg


class _Libraries(logging.Handler):
    """Brings warnings of libraries into our log, without their tracebacks: those may hold anything."""

    def __init__(self, logs: Logs) -> None:
        super().__init__(logging.WARNING)
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            message += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        level = "error" if record.levelno >= logging.ERROR else "warning"
        self._logs.write(level, "library", logger=record.name, message=message)
