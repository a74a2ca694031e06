"""What runs now, as events say it: steps, bytes, rates and time left."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mirrord.events import BytesRead, BytesSent, Planned, StepDone, StepSized
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt
from mirrord.report.activity import Activity
from mirrord.report.status import Running, Sending
from mirrord.report.tally import Flow, Tally

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
    flow = Flow()
    assert flow.pace is None
    now.seconds = 1060.0  # a minute of planning and reading counts for nothing
    for _ in range(4):
        flow.add(MIB)
        now.seconds += 0.5
    assert flow.pace == 2 * MIB
    assert flow.count == 4 * MIB
    for _ in range(100):
        now.seconds += 1
        flow.add(5 * MIB)
    assert flow.pace == pytest.approx(5 * MIB, rel=0.12)
    now.seconds += 5
    assert flow.pace == pytest.approx(2.5 * MIB, rel=0.12)
    now.seconds += 6
    assert flow.pace == 0


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
    assert tally.out.pace == 20 * MIB
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
    assert (tally.out.pace, tally.left) == (60, None)
    tally.take(BytesSent("m/a", MIB - 300))
    assert tally.left == 49 * MIB / (MIB / 5)


def test_time_left_by_the_slower_of_reading_and_sending(now: Now) -> None:
    """What is read gives a time left before a byte is sent; then the slower way counts, while something is to be read.

    A target that got more than was read has the rest from elsewhere: what is still to be read is unknown.
    """
    tally = Tally(1)
    tally.take(StepSized("m/a", "v1", 50 * MIB))
    tally.source.add(MIB - 1)
    now.seconds += 2
    assert tally.left is None  # too little
    tally.source.add(9 * MIB + 1)
    assert tally.left == 40 / 5
    tally.take(BytesSent("m/a", 10 * MIB))
    assert tally.left == 40 / 5  # it goes out at 10 MiB/s
    tally.source.add(40 * MIB)
    now.seconds += 2
    assert tally.left == 40 / 5  # nothing is to be read; it goes out at 5 MiB/s
    tally.take(BytesSent("m/a", 39 * MIB))
    assert tally.left == pytest.approx(1 / (49 / 2))
    fed = Tally(1)
    fed.take(StepSized("m/a", "v1", 50 * MIB))
    fed.source.add(2 * MIB)
    fed.take(BytesSent("m/a", 30 * MIB))
    now.seconds += 2
    assert fed.left == 20 / 15  # by reading it were 48 s


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
    for place in ("n/a", "gone/a", "n"):
        activity(BytesRead(place, 5))
    assert activity.running()["n"] == Running("command", T0, read=10, read_rate=10)
    activity(Planned(Plan("m", "image", T0), {"a": 2, "b": 1}))
    activity(Planned(Plan("other", "image", T0), {"a": 2}))
    for event in (
        *(StepSized("m/a", "v1", 6 * MIB), StepSized("m/b", "v1", 2 * MIB), BytesSent("m/a", MIB)),
        *(BytesSent("gone/a", MIB), BytesSent("m/gone", MIB), BytesSent("m", MIB), BytesSent("n/a", MIB)),
        *(BytesRead("m/a", 1000), BytesRead("m/b", 24)),
    ):
        activity(event)
    now.seconds += 2
    found = activity.running()["m"]
    assert found.targets == {
        "a": Sending(2, 0, 0, MIB, 6 * MIB, MIB // 2, round((5 + 6) / 0.5)),
        "b": Sending(1, 0, 0, 0, 2 * MIB, None, None),
    }
    assert (found.steps, found.sent, found.total, found.rate, found.left) == (3, MIB, 8 * MIB, MIB // 2, None)
    assert (found.read, found.read_rate, found.reading) == (1024, 512, False)
    activity(done("v1", target="b"))
    activity(done("v1", outcome=Outcome.REFUSED))
    found = activity.running()["m"]
    assert (found.done, found.failed, found.targets["b"].left) == (1, 1, 0)
    assert found.left == found.targets["a"].left
    activity.end("m")
    activity(BytesSent("m/a", MIB))
    assert activity.running() == {"n": Running("command", T0, read=10, read_rate=5)}


def test_runs_of_one_mirror_beside_each_other(now: Now) -> None:
    """They are shown as one, with the steps of all of them, until the last one has ended."""
    activity = Activity()
    for number in (1, 2):
        activity.begin("m", "asked", T0)
        activity(Planned(Plan("m", "image", T0), {"a": number}))
    activity(done("v1"))
    assert (found := activity.running()["m"]).targets["a"].steps == 3
    assert (found.steps, found.done) == (3, 1)
    activity.end("m")
    assert activity.running()["m"] == found
    activity.end("m")
    activity.end("m")
    assert activity.running() == {}


def test_a_run_that_reads_and_has_sent_nothing(now: Now) -> None:
    """A slow source: bytes read, their rate and the time left are known; a config that was sent is next to nothing."""
    activity = Activity()
    activity.begin("m", "command", T0)
    activity(Planned(Plan("m", "image", T0), {"a": 1, "b": 1}))
    for target in ("a", "b"):
        activity(StepSized(f"m/{target}", "v1", 114 * MIB))
        activity(BytesSent(f"m/{target}", 300))
    for _ in range(40):
        activity(BytesRead("m/a", MIB))
        now.seconds += 1
    found = activity.running()["m"]
    assert (found.sent, found.total, found.rate) == (600, 228 * MIB, 0)
    assert (found.read, found.read_rate, found.reading, found.left) == (40 * MIB, MIB, True, 74)
    activity(BytesSent("m/a", 30 * MIB))
    assert not activity.running()["m"].reading
    now.seconds += 11
    found = activity.running()["m"]
    assert (found.read_rate, found.reading, found.left) == (0, True, None)  # all stands still
