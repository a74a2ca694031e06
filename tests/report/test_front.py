"""What the front did, in numbers: from events to `/status`, series, log lines and the page."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from mirrord import events as ev
from mirrord.model.objects import SharedStanding
from mirrord.model.remote import SharedCacheFailed
from mirrord.report.board import Board
from mirrord.report.front import FrontStatus, FrontTally, SharedCacheStatus, UpstreamStatus
from mirrord.report.logs import Logs
from mirrord.report.metrics import Metrics
from mirrord.report.status import Status, status_document
from mirrord.syncer.serving import FrontStanding
from tests.support.overview import overview

T0 = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)
HAPPENED: list[ev.Event] = [
    ev.FrontAnswered("docker.io", "manifest", "miss", "docker.io/a/b"),
    ev.FrontAnswered("docker.io", "blob", "miss", "docker.io/a/b"),
    ev.FrontAnswered("docker.io", "blob", "hit"),
    ev.FrontAnswered("quay.io", "manifest", "stale"),
    ev.FrontAnswered("", "blob", "local"),
    ev.FrontRefused("not_allowed"),
    ev.FrontRefused("not_allowed"),
    ev.FrontRefused("pulls", "10.0.0.1", "x.example/y", "v1"),
    ev.RateLimit("docker.io", 76, 100),
    ev.FrontFailed("docker.io", "docker.io/a/b:v1", "hub.example/a/b", "stalled", "no headers"),
    ev.FrontFailed("evil.example", "evil.example/a/b:v1", "a/b", "denied", "status 403"),
    ev.FrontBytes("docker.io", "from_upstream", 1000),
    ev.FrontBytes("docker.io", "to_clients", 3000),
    ev.FrontBytes("", "to_clients", 500),
    ev.Evicted(2, 300),
    ev.Evicted(1, 30),
]
STANDINGS = (
    FrontStanding(3 * 2**20, 12, list_errors={"/etc/allows.txt": "/etc/allows.txt:3: bad"}),
    FrontStanding(
        2**20,
        1,
        cache_error="the disk is full",
        cache_limit=2**31,
        shared=SharedStanding(int(T0.timestamp()), 5000, 7, 2, 900, "uses/b is damaged"),
    ),
)
TOTALS = FrontStatus(
    answers={"hit": 1, "local": 1, "miss": 2, "stale": 1},
    refusals={"not_allowed": 2, "pulls": 1},
    from_upstream=1000,
    to_clients=3500,
    cache_bytes=4 * 2**20,
    cache_entries=13,
    evictions=3,
    cache_error="the disk is full",
    list_errors={"/etc/allows.txt": "/etc/allows.txt:3: bad"},
    cache_limit=2**31,
    upstreams={
        "docker.io": UpstreamStatus({"hit": 1, "miss": 2}, 1, 1000, 3000, 76, 100),
        "evil.example": UpstreamStatus(failures=1),
        "quay.io": UpstreamStatus({"stale": 1}),
    },
    top={"docker.io/a/b": 1},
    refused_names={"not_allowed ": 2, "pulls x.example/y": 1},
    shared=SharedCacheStatus(T0, 5000, 7, 2, 900, "uses/b is damaged"),
)


def test_totals() -> None:
    """`/status` has what all fronts did and how they stand; other events count for nothing."""
    tally = FrontTally()
    for event in (*HAPPENED, ev.Reloaded(), ev.BytesRead("m/a", 10)):
        tally(event)
    assert tally.status(STANDINGS) == TOTALS
    document = status_document(Board().status("1", T0, [], started=T0, front=TOTALS))
    assert json.loads(json.dumps(document))["front"]["answers"] == {"hit": 1, "local": 1, "miss": 2, "stale": 1}
    assert [*document][-1] == "mirrors"
    assert status_document(Board().status("1", T0, []))["front"] is None


def test_series() -> None:
    """Labels are upstreams that are listed, and "other"; those of an upstream go with it."""
    metrics = Metrics("1")
    metrics.follow([], [], T0, ["docker.io"])
    for event in HAPPENED:
        metrics(event)
    metrics.cached(TOTALS)
    text = metrics.text({}).decode().splitlines()
    counted = [line.removeprefix("mirrord_front_") for line in text if line.startswith("mirrord_front_")]
    assert sorted(counted) == [
        'answers_total{kind="blob",outcome="hit",upstream="docker.io"} 1.0',
        'answers_total{kind="blob",outcome="local",upstream=""} 1.0',
        'answers_total{kind="blob",outcome="miss",upstream="docker.io"} 1.0',
        'answers_total{kind="manifest",outcome="miss",upstream="docker.io"} 1.0',
        'answers_total{kind="manifest",outcome="stale",upstream="other"} 1.0',
        'bytes_total{direction="from_upstream",upstream="docker.io"} 1000.0',
        'bytes_total{direction="to_clients",upstream=""} 500.0',
        'bytes_total{direction="to_clients",upstream="docker.io"} 3000.0',
        "cache_bytes 4.194304e+06",
        "cache_entries 13.0",
        "cache_failing 1.0",
        "cache_limit_bytes 2.147483648e+09",
        "evicted_bytes_total 330.0",
        "evictions_total 3.0",
        'failures_total{reason="denied",upstream="other"} 1.0',
        'failures_total{reason="stalled",upstream="docker.io"} 1.0',
        "lists_refused 1.0",
        'refusals_total{reason="not_allowed"} 2.0',
        'refusals_total{reason="pulls"} 1.0',
        "shared_bytes 5000.0",
        "shared_counted_timestamp_seconds 1.795222923e+09",
        "shared_entries 7.0",
        "shared_evicted_bytes 900.0",
        "shared_evictions 2.0",
        "shared_failing 1.0",
    ]
    metrics.follow([], [], T0, ["quay.io"])
    assert 'upstream="docker.io"' not in metrics.text({}).decode()


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (ev.ListRead("a.txt", 3), {"level": "info", "event": "list.read", "file": "a.txt", "lines": 3}),
        (
            ev.ListRead("a.txt", 0, "a.txt: allows nothing"),
            {"level": "error", "event": "list.refused", "file": "a.txt", "error": "a.txt: allows nothing", "lines": 0},
        ),
        (SharedCacheFailed("damaged"), {"level": "warning", "event": "cache.failed", "message": "damaged"}),
        (ev.Evicted(2, 30), {"level": "info", "event": "cache.evicted", "entries": 2, "bytes": 30}),
        (
            ev.FrontRefused("pulls", "token a", "quay.io/a/b", "v1"),
            {
                "level": "info",
                "event": "front.refused",
                "reason": "pulls",
                "client": "token a",
                "repository": "quay.io/a/b",
                "reference": "v1",
            },
        ),
        (
            ev.FrontDone("192.0.2.1", "quay.io/a/b", "v1", 200, "hit", 7),
            {
                "level": "debug",
                "event": "front.answered",
                "client": "192.0.2.1",
                "repository": "quay.io/a/b",
                "reference": "v1",
                "status": 200,
                "outcome": "hit",
                "bytes": 7,
            },
        ),
    ],
)
def test_log_lines(event: ev.Event, line: dict[str, object]) -> None:
    """A list that is refused is an error; an answer says who got what at level `debug`, a refusal who was refused."""
    stream = io.StringIO()
    Logs(stream, lambda: T0, level="debug")(event)
    written = json.loads(stream.getvalue())
    del written["time"]
    assert written == line


def test_refusals_are_bounded() -> None:
    """Each client and reason is one line a minute, and all together a thousand: refused clients ask again at once."""
    now = T0
    stream = io.StringIO()
    logs = Logs(stream, lambda: now, level="info")

    def lines() -> int:
        count = stream.getvalue().count("front.refused")
        stream.truncate(stream.seek(0))
        return count

    for _ in range(3):
        logs(ev.FrontRefused("pulls", "192.0.2.1", "a/b", "v1"))
        logs(ev.FrontRefused("denied", "192.0.2.1", "a/b", "v1"))
        logs(ev.FrontRefused("pulls", "token a", "a/b", "v1"))
    assert lines() == 3
    for number in range(5000):
        logs(ev.FrontRefused("pulls", f"10.0.{number // 250}.{number % 250}", "a/b", "v1"))
    assert lines() == 997
    now += timedelta(seconds=60)
    logs(ev.FrontRefused("pulls", "192.0.2.1", "a/b", "v1"))
    logs(ev.FrontRefused("pulls", "198.51.100.1", "a/b", "v1"))
    assert lines() == 2


def shown(front: FrontStatus | None) -> str:
    """Return the page."""
    return overview(Status("1", "ready", T0, T0, "", (), front))


def test_page() -> None:
    """The page leads to that of the front once it was used, and warns of its troubles; nothing of it is markup."""
    link = '<a href="/front">Registry front</a>'
    assert [link in shown(front) for front in (None, FrontStatus(), TOTALS)] == [False, False, True]
    assert link in shown(FrontStatus(cache_limit=64)), "the way to a front that nobody has used yet is missing"
    text = shown(TOTALS)
    warnings = re.findall(r'<p class="warning stale"(?! id="busy").*?<span>(.*?)</span></p>', text)
    assert warnings == [
        "The cache of the registry front cannot be used: the disk is full",
        "What replicas share of the registry front&#39;s cache is not used or tended: uses/b is damaged",
        "An allow list was refused, the one before it stays in use: /etc/allows.txt:3: bad",
    ]
    missing = shown(FrontStatus(list_errors={"x": "x: gone"}, list_missing=True))
    assert "An allow list was refused, nothing can be pulled through: x: gone</span>" in missing
    assert "<i>" not in shown(FrontStatus(list_errors={"x": "<i>x</i>"}))


def test_failures_are_written_once_a_minute() -> None:
    """Of the failures of one upstream for one reason one a minute is written, with the number of those left out."""
    stream, now = io.StringIO(), [T0]
    logs = Logs(stream, lambda: now[0])

    def fail(upstream: str, reason: str) -> list[int]:
        logs(ev.FrontFailed(upstream, f"{upstream}/a/b:v1", "hub.example/a/b", reason, "status 403"))
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        stream.seek(0)
        stream.truncate()
        return [line["left_out"] for line in lines]

    assert fail("docker.io", "denied") == [0]
    assert [fail("docker.io", "denied") for _ in range(3)] == [[], [], []]
    assert (fail("docker.io", "stalled"), fail("quay.io", "denied")) == ([0], [0])
    now[0] += timedelta(seconds=59)
    assert fail("docker.io", "denied") == []
    now[0] += timedelta(seconds=1)
    assert (fail("docker.io", "denied"), fail("docker.io", "denied")) == ([4], [])
