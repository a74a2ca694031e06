"""What is told: health verdicts, the status document, log lines and metrics."""

from __future__ import annotations

import io
import json
import logging
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from mirrord import events as ev
from mirrord.model.history import LastRun, Noted, Standing
from mirrord.model.plan import Action, Plan, Step, TagVerdict
from mirrord.model.remote import RunCutOff
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.report import health
from mirrord.report.board import Board
from mirrord.report.documents import (
    PIECE,
    Gathering,
    adapter,
    event_document,
    event_from,
    pieces,
    plan_document,
    run_document,
)
from mirrord.report.health import Health
from mirrord.report.log_names import NAMES
from mirrord.report.logs import Logs, line
from mirrord.report.metrics import Metrics
from mirrord.report.status import Running, Status, status_document
from mirrord.serve.pages.static import asset
from mirrord.syncer.values import Mirror, Target
from mirrord.wire.secret import Secret
from tests.support.overview import overview as page

T0 = datetime(2026, 11, 21, 1, 2, 3, 456789, tzinfo=UTC)
STEP = Step(Action.COPY, "v1", "sha256:1", "a", ("v1", "main"), "not there", 10, "g", frozenset({"v1"}), count=3)


def make_run(outcome: Outcome = Outcome.DONE, name: str = "m", **more: object) -> Run:
    receipt = Receipt(STEP, outcome, "refused" if outcome is Outcome.FAILED else "", "", 5, 1, 0.5)
    plan = Plan(name, "image", T0, (STEP,), ())
    return Run(name, "image", "schedule", T0, T0 + timedelta(seconds=9), plan, (receipt,), 7, **more)  # type: ignore[arg-type]  # fields by keyword


class Anything(BaseModel):
    pass


def mirror(name: str = "m", *targets: str) -> Mirror:
    return Mirror(name, "image", Anything(), tuple(Target(t, "image", t, Anything()) for t in targets or ("a", "b")))


def second(status: Status) -> Status:
    """Return a status with times to the second, as documents have them."""
    document = adapter(Status).dump_python(status, mode="json")
    found: Status = adapter(Status).validate_python(json.loads(json.dumps(document)))
    return found


EVENTS: list[ev.Event] = [
    ev.RequestDone("docker.io", "GET", 200, 0.25),
    ev.Retrying("docker.io", "server", 1.5),
    ev.TrustRefused("docker.io", "realm"),
    ev.RateLimit("docker.io", 99, 100),
    ev.BytesRead("m/a", 10),
    ev.BytesSent("m/a", 10),
    ev.StepSized("m/a", "v1", 20),
    ev.RunStarted("m", "image", "schedule"),
    ev.Planned(
        Plan("m", "image", T0, (STEP,), ("v2: unreadable",), ("v3: is not there",), ("v4: put right",)), {"a": 1}
    ),
    ev.StepDone("m", Receipt(STEP, Outcome.DONE)),
    ev.StepDone("m", Receipt(STEP, Outcome.FAILED, "refused", "denied")),
    ev.StepDone("m", Receipt(STEP, Outcome.LEFT_OUT, problem="v1: is no image")),
    ev.RunFinished(make_run()),
    RunCutOff("m", "image", "command", T0, 12.5, "one"),
    ev.RunSkipped("m", "overlap"),
    ev.Reloaded(),
    ev.Reloaded("x.yaml:1: bad"),
    ev.FrontAnswered("docker.io", "blob", "miss"),
    ev.FrontRefused("not_allowed"),
    ev.FrontFailed("docker.io", "docker.io/a/b:v1", "hub.example/a/b", "stalled", "docker.io: no headers"),
    ev.FrontBytes("docker.io", "from_upstream", 10),
    ev.Evicted(2, 30),
    ev.ListRead("/etc/mirrord/allows.txt", 3),
    ev.ListRead("/etc/mirrord/allows.txt", 0, "allows.txt:1: bad"),
]


@pytest.mark.parametrize(
    ("now", "live", "ready", "reason"),
    [
        pytest.param(Health(), True, True, "ok", id="well"),
        pytest.param(Health(tick_age=31), False, True, "not ticked for 31 s", id="loop"),
        pytest.param(Health(overdue=("m",)), False, True, "cancelled at the deadline: m", id="overdue"),
        pytest.param(Health(storage="disk full"), True, False, "disk full", id="storage"),
        pytest.param(Health(scheduled=False), True, False, "not running", id="schedule"),
        pytest.param(Health(stopping=True), True, False, "shutting down", id="stopping"),
    ],
)
def test_verdicts(now: Health, live: bool, ready: bool, reason: str) -> None:
    """Each trouble fails exactly the probe that can mend it, with its reason."""
    verdicts = health.live(now), health.ready(now)
    assert tuple(verdict.good for verdict in verdicts) == (live, ready)
    assert reason in " ".join(verdict.reason for verdict in verdicts)
    assert "[-]" in (verdicts[0].verbose() + verdicts[1].verbose()) or reason == "ok"


def test_checks_by_name() -> None:
    """`?verbose` names every check; whoever answers has loaded its configuration and swept before."""
    assert health.ready(Health(storage="disk full")).verbose().splitlines() == [
        "[+]configuration ok",
        "[+]sweep ok",
        "[-]storage disk full",
        "[+]schedule ok",
        "[+]stopping ok",
        "failed",
    ]
    without = health.ready(Health(front="an allow list was refused"))
    assert (without.good, without.reason) == (True, "ok")  # what `local` has is served
    assert without.without(["schedule"]).verbose().splitlines()[-2:] == ["[!]front an allow list was refused", "passed"]
    assert health.started(Health()).verbose() == "[+]configuration ok\n[+]sweep ok\npassed\n"


def test_excluded_check() -> None:
    """A check that is excluded has no say."""
    assert health.ready(Health(storage="full")).without(["storage"]).good


def test_status_document() -> None:
    """The status holds every configured mirror and target, known to the record or not, and nothing else."""
    standing = [
        Standing(
            "m",
            "",
            T0,
            T0,
            2,
            Result.PARTIAL,
            "unreachable",
            "v1: refused",
            3,
            problems=Noted(30, ("v2: is no image",)),
        ),
        Standing("m", "a", T0, T0, 0, Result.SUCCESS, items=3),
        Standing("gone", "", T0, T0),
    ]
    running = {"m": Running("command", T0, 4, 1, 1)}
    board = Board(standing)
    now = board.status("1", T0, [mirror(), mirror("new", "local")], running=running, next_runs={"m": T0}, started=T0)
    document = json.loads(json.dumps(status_document(now)))
    assert adapter(Status).validate_python(document) == second(now)
    assert [entry["name"] for entry in document["mirrors"]] == ["m", "new"]
    m, new = document["mirrors"]
    assert (m["state"], m["items"], m["consecutive_failures"], m["next_run"]) == (
        "running",
        3,
        2,
        "2026-11-21T01:02:03Z",
    )
    assert m["problems"] == {"count": 30, "first": ["v2: is no image"]}
    assert m["remarks"] == new["problems"] == {"count": 0, "first": []}
    assert m["last_error"] == {"code": "unreachable", "message": "v1: refused", "permanent": False}
    assert [(t["name"], t["last_success"]) for t in m["targets"]] == [("a", "2026-11-21T01:02:03Z"), ("b", None)]
    told = {"trigger": "command", "started": "2026-11-21T01:02:03Z", "steps": 4, "done": 1, "failed": 1}
    assert m["running"] == {
        **told,
        "sent": 0,
        "total": 0,
        "rate": None,
        "left": None,
        "targets": {},
        "read": 0,
        "read_rate": None,
        "replica": "",
    }
    assert (new["state"], new["last_success"], new["last_error"]) == ("new", None, None)
    assert document["state"] == "ready"
    assert Board().status("1", T0, []).state == "offline"


def test_page_escapes() -> None:
    """Nothing from outside becomes markup (bad input 81), and the page asks for nothing from elsewhere."""
    standing = [Standing("m", "", T0, T0, 2, Result.FAILED, "content", "<script>alert('x')</script>")]
    text = page(Board(standing).status("1", T0, [mirror("m", "<b>")], started=T0, configuration_error="<img src=x>"))
    assert re.findall(r"<script[^>]*>", text) == [f'<script src="{asset("page.js")}" defer>']
    assert "&lt;script&gt;" in text
    assert "<img src=x" not in text
    assert "<b>&lt;b&gt;</b>" in text
    assert "://" not in text


def test_page_tells_problems() -> None:
    """The page counts what was left out beside the mirror's items, and does not call it an error."""
    standing = [Standing("m", "", T0, T0, 0, Result.SUCCESS, problems=Noted(1, ("v2: is no image",)))]
    text = page(Board(standing).status("1", T0, [mirror("m", "a")]))
    assert ">1 problem at the source</p>" in text
    assert 'class="row ok"' in text


def test_left_out_is_a_line_of_its_own() -> None:
    """What is wrong upstream is told as left out; what was written without its companion as done, with the problem."""
    left = line(ev.StepDone("m", Receipt(STEP, Outcome.LEFT_OUT, problem="v1: is no image")))
    done = line(ev.StepDone("m", Receipt(STEP, Outcome.DONE, problem="v1: without its .prov")))
    assert left is not None
    assert done is not None
    assert (left.level, left.name, left.fields["problem"]) == ("warning", "step.left_out", "v1: is no image")
    assert (done.level, done.name, done.fields["problem"]) == ("warning", "step.done", "v1: without its .prov")


def test_page_counts() -> None:
    """The page shows what the last run did at each target; without a mirror it says how to begin."""
    standing = [Standing("m", "a", T0, T0, result=Result.SUCCESS, last=LastRun(3, 1, 3221, 1))]
    text = page(Board(standing).status("1", T0, [mirror("m", "a")]))
    assert "3 written · 1 deleted · 3,221 up to date · 1 refused" in text
    assert 'class="trouble"' not in text  # nothing failed
    empty = page(Board().status("1", T0, []))
    assert "mirrord init" in empty
    assert "mirrord init" not in text


TOLD = [event for event in EVENTS if not isinstance(event, ev.RunFinished)]  # that one comes with its run, in pieces


@pytest.mark.parametrize("event", TOLD, ids=lambda event: type(event).__name__)
def test_events_round_trip(event: ev.Event) -> None:
    """What goes over the control socket comes out as the same value; the lists of a plan come with its run."""
    told = event_from(json.loads(json.dumps(event_document(event))))
    if isinstance(event, ev.Planned):
        event = event._replace(plan=replace(event.plan, steps=(), problems=(), missing=(), remarks=()))
    assert told == event


@pytest.mark.parametrize("count", [0, 1, PIECE, PIECE + 1, 5 * PIECE])
def test_pieces_are_short_and_make_the_whole(count: int) -> None:
    """Runs and plans of any length go over the control socket in short documents, and are themselves again there."""
    steps = tuple(replace(STEP, item=f"v{number}\udcff") for number in range(count))
    texts = tuple(f"v{number}: " + "x" * 900 for number in range(count))
    verdicts = tuple(TagVerdict(f"v{number}", chosen=bool(number % 2), why=text) for number, text in enumerate(texts))
    plan = Plan("m", "image", T0, steps, texts, texts[:3], texts[:4], verdicts, decisions=object())
    receipts = tuple(Receipt(step, Outcome.DONE, left=("a",)) for step in (*steps[: count // 2], STEP))
    run = replace(make_run(), plan=replace(plan, decisions=None), receipts=receipts)
    failed = make_run(Outcome.FAILED, error="x", code="server")
    without = Run("m", "image", "start", T0, T0, error="x", code="denied")
    gathering = Gathering()
    written = [json.dumps(one) for value in (run, plan, failed, without) for one in pieces(value)]
    for text in written:
        gathering.take(json.loads(text))
    first, second, *others = gathering.wholes
    assert adapter(Plan).validate_python(second) == plan
    assert [adapter(Run).validate_python(whole) for whole in (first, *others)] == [run, failed, without]
    assert max(map(len, written)) < 1_000_000


def test_documents_for_machines() -> None:
    """A run is told with what follows from its fields, its plan and its receipts, and without what only we remember."""
    document = json.loads(json.dumps(run_document(make_run())))
    assert list(document["counts"].items()) == [("done", 1)]
    assert (document["result"], document["started"]) == ("success", "2026-11-21T01:02:03.456789Z")
    assert (document["plan"]["at"], document["plan"]["kind"]) == (document["started"], "image")
    step: dict[str, object] = {
        "action": "copy",
        "item": "v1",
        "digest": "sha256:1",
        "target": "a",
        "names": ["v1", "main"],
    }
    step |= {"reason": "not there", "size": 10, "group": "g", "stays": ["v1"], "left": [], "unless_newer": False}
    step |= {"confirmed": False, "passing": False, "count": 3, "signer": "", "origin": ""}
    assert document["plan"]["steps"] == [step] == [receipt["step"] for receipt in document["receipts"]]
    assert plan_document(make_run().plan or Plan("", "", T0)) == document["plan"]
    assert {*document} == {
        *("mirror", "kind", "trigger", "result", "started", "finished", "read", "error", "code", "counts"),
        *("problems", "remarks", "plan", "receipts", "until"),
    }


@pytest.mark.parametrize("style", ["json", "text"])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_one_line_an_event(event: ev.Event, style: str) -> None:
    """Every event is at most one line, with a name from the list; bytes on their way are none."""
    stream = io.StringIO()
    Logs(stream, lambda: T0, style=style, level="debug")(event)
    lines = stream.getvalue().splitlines()
    entry = line(event)
    assert len(lines) == (entry is not None)
    if entry is not None:
        assert entry.name in NAMES
        assert lines[0].startswith(
            "2026-11-21T01:02:03.456Z" if style == "text" else '{"time": "2026-11-21T01:02:03.456Z"'
        )


def test_summary_line() -> None:
    """The one line of a run says how it went, in numbers, and is a warning only when somebody should act."""
    stream = io.StringIO()
    logs = Logs(stream, lambda: T0)
    logs(ev.RunFinished(make_run()))
    logs(ev.RunFinished(make_run(Outcome.FAILED, error="source is gone", code="missing")))
    good, bad = (json.loads(text) for text in stream.getvalue().splitlines())
    assert (good["level"], good["event"], good["result"], good["seconds"]) == ("info", "run.finished", "success", 9.0)
    assert (good["read"], good["sent"], good["steps"]) == (7, 5, {"done": 1})
    assert (bad["level"], bad["error_code"], bad["error"]) == ("warning", "missing", "source is gone")
    run = make_run()
    logs(ev.RunFinished(replace(run, plan=Plan(run.mirror, run.kind, T0, missing=("v1: gone", "v2: gone")))))
    lacks = json.loads(stream.getvalue().splitlines()[-1])
    assert (lacks["level"], lacks["error_code"], lacks["error"]) == (
        "warning",
        "content",
        "v1: gone; and 1 more missing",
    )


@pytest.mark.parametrize("style", ["json", "text"])
@pytest.mark.parametrize(
    "hostile",
    ["a\nlevel=error event=forged", "\x1b[31mred\x1b[0m", "a\r\x00b", "x" * 1_000_000, "\u2028next\u202eturned"],
    ids=["83-newline", "83-ansi", "83-nul", "83-megabyte", "83-unicode"],
)
def test_lines_cannot_be_forged(hostile: str, style: str) -> None:
    """Text from outside stays in its line, without control characters, and short."""
    stream = io.StringIO()
    Logs(stream, lambda: T0, style=style)(ev.RunSkipped("m", hostile))
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert len(text) < 5000
    assert not set("\x1b\r\x00\u2028\u202e") & set(text)


def test_secrets_stay_out() -> None:
    """A canary secret is in no line, wherever it comes from (bad input 14)."""
    canary = Secret("canary-7d1f0e55c2")
    stream = io.StringIO()
    logs = Logs(stream, lambda: T0)
    undo = logs.adopt()
    try:
        logs(ev.Reloaded(f"https://u:{canary.reveal()}@h/"))
        logs(ev.Planned(Plan("m", "image", T0, (), (f"token={canary.reveal()}",)), {}))
        logging.getLogger("library").warning("got %s", canary.reveal())
        logs(ev.RunSkipped("m", "x" * 4090 + canary.reveal()))
    finally:
        undo()
    assert "canary" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 4


def test_problems_of_a_refused_configuration_are_readable() -> None:
    """Several of them stand in one line of the log, parted by semicolons."""
    stream = io.StringIO()
    Logs(stream, lambda: T0)(ev.Reloaded("a.yaml:1: bad\nb.yaml:2: worse"))
    assert "a.yaml:1: bad; b.yaml:2: worse" in stream.getvalue()


def test_full_disk_loses_lines_only() -> None:
    """When standard output cannot be written to, nothing is raised and the loss is counted."""
    with open("/dev/full", "wb", buffering=0) as device:  # noqa: PTH123 - a device
        stream = io.TextIOWrapper(device, write_through=True)
        logs = Logs(stream, lambda: T0)
        logs(ev.Reloaded())
        logs(ev.Reloaded())
        assert logs.lost == 2
        stream.detach()


def test_the_fence_of_a_run() -> None:
    """With replicas the log has the fence of each run, and whether it doubts the record; without, nothing of that."""
    told = [line(ev.RunStarted("m", "image", "schedule", *lease)) for lease in ((), (7, True))]
    about = {"mirror": "m", "kind": "image", "trigger": "schedule"}
    assert [one.fields for one in told if one] == [about, {**about, "fence": 7, "doubtful": True}]


def test_levels() -> None:
    """Below the level nothing is written."""
    stream = io.StringIO()
    logs = Logs(stream, lambda: T0, level="warning")
    logs(ev.RunStarted("m", "image", "schedule"))
    assert not stream.getvalue()
    logs(ev.TrustRefused("h", "realm"))
    assert "trust.refused" in stream.getvalue()


def series(metrics: Metrics) -> dict[str, float]:
    lines = [text for text in metrics.text({"m": T0}).decode().splitlines() if not text.startswith("#")]
    return {name: float(value) for name, value in (text.rsplit(" ", 1) for text in lines)}


def test_metrics_of_a_run() -> None:
    """A run is counted under the names that operators know."""
    metrics = Metrics("1.2")
    metrics.follow([mirror()], [Standing("m", "a", T0, T0), Standing("m", "", T0, T0, 4, problems=Noted(2))], T0)
    for event in EVENTS:
        metrics(event)
    found = series(metrics)
    assert found['mirrord_build_info{version="1.2"}'] == 1
    assert found['mirrord_sync_runs_total{kind="image",mirror="m",result="success"}'] == 1
    assert found['mirrord_sync_last_success_timestamp_seconds{mirror="m",target="a"}'] == T0.timestamp()
    assert found['mirrord_sync_runs_skipped_total{mirror="m",reason="overlap"}'] == 1
    assert found['mirrord_sync_consecutive_failures{mirror="m"}'] == 0
    assert found['mirrord_sync_problems{mirror="m"}'] == 2
    assert found['mirrord_sync_next_run_timestamp_seconds{mirror="m"}'] == T0.timestamp()
    assert found['mirrord_transfer_bytes_total{direction="read",target=""}'] == 10
    assert found['mirrord_transfer_bytes_total{direction="sent",target="a"}'] == 10
    assert found['mirrord_upstream_requests_total{code="200",host="docker.io"}'] == 1
    assert found['mirrord_upstream_ratelimit_remaining{host="docker.io"}'] == 99
    assert found['mirrord_trust_refused_total{reason="realm"}'] == 1
    assert found["mirrord_config_last_reload_successful"] == 0
    assert found["mirrord_config_last_reload_success_timestamp_seconds"] == T0.timestamp()


def test_next_runs_follow_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a mirror runs next is set where it changed, and only there, and goes with the schedule."""
    metrics = Metrics("1")
    metrics.follow([mirror("m"), mirror("n")], [], T0)
    late = T0 + timedelta(hours=1)
    name = "mirrord_sync_next_run_timestamp_seconds"
    touched: list[str] = []
    labels = metrics.mirrors.next_run.labels

    def counted(*names: str) -> Any:
        touched.extend(names)
        return labels(*names)

    monkeypatch.setattr(metrics.mirrors.next_run, "labels", counted)
    for next_runs, changed in (({"m": T0, "n": T0}, ["m", "n"]), ({"m": T0, "n": late}, ["n"]), ({"n": late}, [])):
        touched.clear()
        text = metrics.text(next_runs).decode()
        found = {line.split('"')[1]: float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)}
        assert found == {mirror: at.timestamp() for mirror, at in next_runs.items()}
        assert touched == changed
    assert "_created" not in text


def test_every_metric_has_the_prefix() -> None:
    """Our own series begin with `mirrord_`; the process's own keep the names that dashboards expect."""
    names = {name.partition("{")[0] for name in series(Metrics("1"))}
    assert {name for name in names if not name.startswith("mirrord_")} <= {
        name for name in names if name.startswith(("process_", "python_"))
    }
