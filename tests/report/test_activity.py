"""What runs now, as events say it: steps, bytes, rate and time left."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mirrord.events import BytesSent, Planned, StepDone, StepSized
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt
from mirrord.report.activity import Activity
from mirrord.report.status import Running, Sending
from mirrord.report.tally import Tally

T0 = datetime(2026, 11, 21, tzinfo=UTC)
MIB = 1 << 20


class Now:
    """The monotonic clock of these tests, in seconds."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    clock = Now()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


def done(item: str, sent: int = 0, outcome: Outcome = Outcome.DONE, target: str = "a") -> StepDone:
    return StepDone("m", Receipt(Step(Action.COPY, item, "", target, (item,), ""), outcome, sent=sent))


def test_the_rate_of_the_last_seconds(now: Now) -> None:
    """It is measured from the first byte on, over at most ten seconds, falls when nothing goes, and needs a byte."""
    tally = Tally(1)
    assert tally.pace is None
    now.seconds = 1060.0  # a minute of planning and reading counts for nothing
    for _ in range(4):
        tally.take(BytesSent("m/a", MIB))
        now.seconds += 0.5
    assert tally.pace == 2 * MIB
    for _ in range(100):
        now.seconds += 1
        tally.take(BytesSent("m/a", 5 * MIB))
    assert tally.pace == pytest.approx(5 * MIB, rel=0.12)
    now.seconds += 5
    assert tally.pace == pytest.approx(2.5 * MIB, rel=0.12)
    now.seconds += 6
    assert tally.pace == 0


def test_time_left_by_bytes(now: Now) -> None:
    """Bytes that are missing by the rate; steps of unknown size count as average ones, what is there as nothing."""
    tally = Tally(4)
    assert tally.left is None
    for item in ("v1", "v2"):
        tally.take(StepSized("m/a", item, 40 * MIB))
    assert tally.left is None  # no byte has gone yet
    now.seconds += 1
    tally.take(BytesSent("m/a", 10 * MIB))
    now.seconds += 1
    assert tally.left == (80 - 10 + 2 * 40) / 10
    tally.take(BytesSent("m/a", 10 * MIB))
    tally.take(done("v1", 20 * MIB))  # half of it was there
    assert tally.pace == 20 * MIB
    assert tally.left == (40 + 2 * 40 / 2) / 20
    for item in ("v2", "v3", "v4"):
        tally.take(done(item))
    assert tally.left == 0


def test_the_first_bytes_say_nothing_of_the_time_left(now: Now) -> None:
    """A config that went while layers are awaited makes no hours of a minute: the time is unknown until more went."""
    tally = Tally(1)
    tally.take(StepSized("m/a", "v1", 50 * MIB))
    tally.take(BytesSent("m/a", 300))
    now.seconds += 5
    assert (tally.pace, tally.left) == (60, None)
    tally.take(BytesSent("m/a", MIB - 300))
    assert tally.left == 49 * MIB / (MIB / 5)


def test_time_left_by_steps(now: Now) -> None:
    """Where no size is known the ended steps are the measure; failed ones have ended, too."""
    tally = Tally(5, began=now.seconds)
    now.seconds += 30
    tally.take(done("a"))
    tally.take(done("b", outcome=Outcome.FAILED))
    assert (tally.good, tally.bad, tally.left) == (1, 1, 45)


def test_running_mirrors(now: Now) -> None:
    """Each running mirror has its steps and bytes, in all and by target, from its plan on; then nothing is left of it.

    The time left is the longest of its targets, and unknown if it is of one of them.
    """
    activity = Activity()
    activity.begin("m", "schedule", T0)
    activity.begin("n", "command", T0)
    assert activity.running() == {"m": Running("schedule", T0), "n": Running("command", T0)}
    activity(Planned(Plan("m", "image", T0), {"a": 2, "b": 1}))
    activity(Planned(Plan("other", "image", T0), {"a": 2}))
    for event in (
        *(StepSized("m/a", "v1", 6 * MIB), StepSized("m/b", "v1", 2 * MIB), BytesSent("m/a", MIB)),
        *(BytesSent("gone/a", MIB), BytesSent("m/gone", MIB), BytesSent("m", MIB), BytesSent("n/a", MIB)),
    ):
        activity(event)
    now.seconds += 2
    found = activity.running()["m"]
    assert found.targets == {
        "a": Sending(2, 0, 0, MIB, 6 * MIB, MIB // 2, round((5 + 6) / 0.5)),
        "b": Sending(1, 0, 0, 0, 2 * MIB, None, None),
    }
    assert (found.steps, found.sent, found.total, found.rate, found.left) == (3, MIB, 8 * MIB, MIB // 2, None)
    activity(done("v1", target="b"))
    activity(done("v1", outcome=Outcome.REFUSED))
    found = activity.running()["m"]
    assert (found.done, found.failed, found.targets["b"].left) == (1, 1, 0)
    assert found.left == found.targets["a"].left
    activity.end("m")
    activity(BytesSent("m/a", MIB))
    assert activity.running() == {"n": Running("command", T0)}
