"""How far a target is: by the steps of its plan, and by bytes where those are known."""

from __future__ import annotations

import pytest

from mirrord.events import BytesSent, StepDone, StepSized
from mirrord.model.plan import Action, Step
from mirrord.model.run import Outcome, Receipt
from mirrord.report.tally import Tally

MIB = 1 << 20


def done(item: str, outcome: Outcome = Outcome.DONE) -> StepDone:
    return StepDone("app", Receipt(Step(Action.COPY, item, "", "one", (item,), ""), outcome))


def shares(tally: Tally, *events: BytesSent | StepSized | StepDone) -> list[float]:
    found = []
    for event in events:
        tally.take(event)
        found.append(round(tally.share, 2))
    return found


def test_one_image_is_told_in_bytes() -> None:
    """Of one image whose size is known the share of its bytes; 100 % only when it has its name."""
    sized, quarter = StepSized("app/one", "v1", 4 * MIB), BytesSent("app/one", MIB)
    assert shares(Tally(1), quarter, sized, quarter, quarter, quarter, done("v1")) == [0, 0.25, 0.5, 0.75, 0.99, 1]


def test_what_is_there_already_is_not_waited_for() -> None:
    """An image of which most is there ends at 100 %, whatever was sent; bytes that go twice pass no end."""
    sized, half = StepSized("app/one", "v1", 2 * MIB), BytesSent("app/one", MIB)
    assert shares(Tally(1), sized, done("v1")) == [0, 1]
    assert shares(Tally(1), sized, half, half, half, done("v1")) == [0, 0.5, 0.99, 0.99, 1]


def test_steps_count_where_bytes_are_unknown() -> None:
    """Charts and refs have no size before they go: the share of the steps, failed ones too, which never falls."""
    tally = Tally(4)
    assert shares(tally, done("a"), BytesSent("app/one", MIB), done("b", Outcome.FAILED)) == [0.25, 0.25, 0.5]
    assert shares(tally, StepSized("app/one", "c", 100 * MIB), done("c"), done("d")) == [0.5, 0.75, 1]
    assert tally.steps == "4/4, 1 failed"


def test_the_rate_is_the_average(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes by the seconds from the plan to the last byte, in the unit of sizes; it stays when no more goes."""
    tally, now = Tally(2, began=100.0), [104.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    assert tally.rate == ""
    tally.take(BytesSent("app/one", 8 * MIB))
    assert tally.rate == "2.0 MiB/s"
    now[0] = 160.0
    tally.take(done("v1"))
    assert tally.rate == "2.0 MiB/s"
