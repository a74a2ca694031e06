"""What is reported to receivers and when, and how it is written."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mirrord.model.notice import Notice, Occasion
from mirrord.model.run import Result
from mirrord.report.notices import (
    BUDGET_RESTS,
    CODES,
    MOST,
    Correspondence,
    Reported,
    budget_notices,
    mirror_notices,
)
from mirrord.report.schemas import notification_schema
from mirrord.report.status import ErrorStatus, MirrorStatus
from mirrord.report.words import words
from mirrord.wire.secret import Secret

SCHEMA = Path(__file__).parents[2] / "docs/reference/notification.schema.json"
T = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ALL = frozenset(Occasion)


def state(result: Result | None, code: str = "", at: datetime = T, **more: Any) -> MirrorStatus:
    """Return the status of a mirror after a run."""
    error = ErrorStatus(code, f"the reason of {code}", permanent=False) if code else None
    bad = result in (Result.FAILED, Result.PARTIAL)
    fields: dict[str, Any] = {
        "kind": "image",
        "source": "quay.io/a/app",
        "consecutive_failures": int(bad),
        "last_error": error,
    } | more
    return MirrorStatus("app", result, last_attempt=at, **fields)


def walk(*states: MirrorStatus, on: Collection[Occasion] = ALL) -> Sequence[tuple[str, str]]:
    """Return occasion and code of what is reported as a mirror goes through these states, an hour each."""
    reported: Reported | None = None
    found = []
    for number, one in enumerate(states):
        at = T + number * HOUR
        notices, reported = mirror_notices(replace(one, last_attempt=at), reported, on, at)
        found += [(notice.occasion.value, notice.code) for notice in notices]
        if reported:  # as the record keeps it
            assert Reported.read(reported.written()) == reported
    return found


GOOD, SAME = state(Result.SUCCESS), state(Result.NOOP)
DEAD, DENIED, PARTLY = (
    state(Result.FAILED, "unreachable"),
    state(Result.FAILED, "denied"),
    state(Result.PARTIAL, "denied"),
)
GUARD, WAITS = state(Result.FAILED, "guard"), state(Result.DEFERRED, "throttled")
HELD = state(Result.PARTIAL, "guard")
STOPPED, NEW = state(Result.INTERRUPTED, "interrupted"), state(None)
STALE = state(Result.NOOP, last_success=T - 9 * HOUR, stale_at=T - HOUR)
NEVER = replace(WAITS, last_success=None, stale_at=T - HOUR)
DEAD_STALE = replace(DEAD, last_success=T - 9 * HOUR, stale_at=T - HOUR)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([NEW, GOOD, SAME, GOOD], []),
        ([DEAD, DEAD, DEAD, GOOD, SAME], [("failure", "unreachable"), ("recovery", "")]),
        ([DEAD, DENIED, DENIED, SAME], [("failure", "unreachable"), ("failure", "denied"), ("recovery", "")]),
        ([DEAD, DENIED, DEAD, DENIED], [("failure", "unreachable"), ("failure", "denied")]),
        ([DENIED, PARTLY, DENIED], [("failure", "denied")]),
        ([DEAD, GOOD, DEAD], [("failure", "unreachable"), ("recovery", ""), ("failure", "unreachable")]),
        ([DEAD, STOPPED, DEAD, STOPPED, GOOD], [("failure", "unreachable"), ("recovery", "")]),
        ([STOPPED, STOPPED, GOOD], []),
        ([GUARD, GUARD, GOOD], [("guard", "guard"), ("recovery", "")]),
        ([HELD, HELD, GOOD, HELD], [("guard", "guard"), ("recovery", ""), ("guard", "guard")]),
        ([PARTLY, HELD, PARTLY, HELD], [("failure", "denied"), ("guard", "guard")]),
        ([WAITS, WAITS, GOOD, WAITS], [("budget", "throttled"), ("budget", "throttled")]),
        ([WAITS, DEAD, GOOD], [("budget", "throttled"), ("failure", "unreachable"), ("recovery", "")]),
        ([STALE, STALE, GOOD], [("stale", ""), ("recovery", "")]),
        ([WAITS, NEVER, NEVER, GOOD], [("budget", "throttled"), ("stale", ""), ("recovery", "")]),
        ([DEAD, DEAD_STALE, DEAD_STALE, GOOD], [("failure", "unreachable"), ("stale", ""), ("recovery", "")]),
        ([DEAD_STALE, GOOD], [("failure", "unreachable"), ("stale", ""), ("recovery", "")]),
    ],
)
def test_each_thing_is_reported_once(states: Sequence[MirrorStatus], expected: Sequence[tuple[str, str]]) -> None:
    """A failure is reported until its code changes or it is over; interruptions say nothing; budgets fill up alone."""
    assert walk(*states) == expected


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ({Occasion.FAILURE}, ["failure"]),
        ({Occasion.STALE, Occasion.RECOVERY}, ["stale", "recovery"]),
        ({Occasion.STALE}, ["stale"]),
        ({Occasion.GUARD, Occasion.RECOVERY}, []),
        ({Occasion.FAILURE, Occasion.RECOVERY}, ["failure", "recovery"]),
    ],
)
def test_only_what_a_receiver_wants(on: Collection[Occasion], expected: Sequence[str]) -> None:
    """What is not in `on` is not reported, nor is the recovery of it."""
    assert [occasion for occasion, _ in walk(DEAD, DEAD_STALE, GOOD, on=on)] == expected


def test_a_recovery_says_since_when_it_was_broken() -> None:
    """The time is that of the first failed run, also if that could be reported only later."""
    broken = T - 5 * HOUR
    notices, reported = mirror_notices(replace(DEAD, failing_since=broken), None, ALL, T)
    assert [one.since for one in notices] == [broken]
    (recovery,), left = mirror_notices(replace(GOOD, last_attempt=T + HOUR), reported, ALL, T + HOUR)
    assert (recovery.since, recovery.at, left) == (broken, T + HOUR, None)
    said = Correspondence("ops", words("en")).message([recovery], T + HOUR).lines
    assert said == ["app works again; it was broken for 6 h, since 2026-11-27 07:00:00 UTC"]


def test_remembered_codes_are_bounded() -> None:
    """However many codes a failure goes through, the record keeps the last ones."""
    reported: Reported | None = None
    for number in range(CODES + 5):
        _, reported = mirror_notices(state(Result.FAILED, f"code{number}"), reported, ALL, T)
    assert reported is not None
    assert reported.codes == tuple(f"code{number}" for number in range(5, CODES + 5))


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", '{"since": 1}', '{"since": "2026-01-01T00:00:00", "codes": [], "stale": false}', "x"],
)
def test_what_cannot_be_read_is_as_if_never_reported(text: str) -> None:
    """A damaged entry of the record is no error."""
    assert Reported.read(text) is None


def test_a_host_without_requests_is_reported_now_and_then() -> None:
    """A budget that is used up many times a day is reported once in six hours."""
    (notice,), reported = budget_notices("docker.io", None, T)
    assert (notice.occasion, notice.subject) == (Occasion.BUDGET, "docker.io")
    assert budget_notices("docker.io", reported, T + BUDGET_RESTS - timedelta(seconds=1)) == ((), reported)
    assert len(budget_notices("docker.io", reported, T + BUDGET_RESTS)[0]) == 1


def notice(occasion: Occasion, subject: str = "app", **more: Any) -> Notice:
    fields: dict[str, Any] = {"since": T - HOUR, "kind": "image", "source": "quay.io/a/app"} | more
    return Notice(occasion, subject, T, **fields)


ONE_OF_EACH = [
    notice(Occasion.RECOVERY, "fine"),
    notice(Occasion.BUDGET, "docker.io", kind="", source="", code="throttled"),
    notice(Occasion.STALE, "old"),
    notice(Occasion.FAILURE, "dead", code="unreachable", error="quay.io: no connection"),
    notice(Occasion.GUARD, "saved", code="guard", error="upstream lost 9 of 10 branches"),
]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_most_important_comes_first(language: str) -> None:
    """Guards and failures come before what is stale, budgets and recoveries; every line names its subject."""
    message = Correspondence("ops", words(language), "https://m.example.org").message(ONE_OF_EACH, T)
    subjects = ["saved", "dead", "old", "docker.io", "fine"]
    assert all(subject in line for subject, line in zip(subjects, message.lines, strict=True))
    assert [one["subject"] for one in message.document["notices"]] == subjects  # type: ignore[attr-defined]  # JSON
    assert "https://m.example.org" in message.title
    assert message.more(180) == {"en": "and 180 more", "zh": "另有 180 条"}[language]


def test_a_few_notices_have_advice() -> None:
    """Up to five notices say what to do, with the name of the mirror; of many each is one short line."""
    en = Correspondence("ops", words("en"))
    (line,) = en.message([notice(Occasion.GUARD, "saved", code="guard", error="it shrank")], T).lines
    assert line == (
        "saved: stopped by a guard before anything was lost: it shrank"
        " → The source lost more than a change explains. If that is meant, run `mirrord sync saved --allow`."
    )
    many = en.message([notice(Occasion.FAILURE, f"m{one}", code="denied", error="no") for one in range(6)], T)
    assert many.title == "mirrord: 6 mirrors fail"
    assert many.lines[0] == "m0 fails since 2026-11-27 11:00:00 UTC: no (denied)"


def test_a_message_that_is_sent_again_has_the_same_id() -> None:
    """The id follows from receiver and notices alone; another failure of the same mirror has another one."""
    ops, night = (Correspondence(name, words("en")) for name in ("ops", "night"))
    first = ops.message(ONE_OF_EACH, T)
    again = ops.message([*reversed(ONE_OF_EACH)], T + HOUR)
    assert first.id == again.id == first.document["id"]
    assert again.document["sent"] == "2026-11-27T13:00:00Z"
    later = [replace(one, at=T + HOUR) for one in ONE_OF_EACH]
    assert len({first.id, night.message(ONE_OF_EACH, T).id, ops.message(later, T).id, ops.trial(T).id}) == 4


def test_errors_are_cut_and_redacted() -> None:
    """An error of 10 kB is cut, and a secret in it is none of the receiver's business."""
    secret = Secret("hunter2-hunter2")
    error = ErrorStatus("denied", f"https://user:{secret.reveal()}@quay.io " + "x" * 10_000, permanent=True)
    (found,), _ = mirror_notices(replace(DEAD, last_error=error), None, ALL, T)
    assert secret.reveal() not in found.error
    assert len(found.error) == 501


def test_the_schema_is_made_from_the_model() -> None:
    """docs/reference/notification.schema.json is a schema, and that of the values that are sent."""
    wanted = json.dumps(notification_schema(), indent=2) + "\n"
    if os.environ.get("MIRRORD_WRITE_DOCS"):
        SCHEMA.write_text(wanted)
    assert SCHEMA.read_text() == wanted
    jsonschema.Draft202012Validator.check_schema(notification_schema())


@pytest.mark.parametrize("language", ["en", "zh"])
def test_documents_follow_the_schema(language: str) -> None:
    """What a webhook gets, also as a test, is valid; of very many notices it has the first, and says how many."""
    ops = Correspondence("ops", words(language))
    many = ops.message([notice(Occasion.FAILURE, f"m{one:04}", code="x") for one in range(MOST + 7)], T)
    for message in (ops.message(ONE_OF_EACH, T), ops.trial(T), many):
        jsonschema.validate(message.document, json.loads(SCHEMA.read_text()))
    assert many.document["count"] == MOST + 7
    assert len(many.document["notices"]) == MOST  # type: ignore[arg-type]  # JSON
