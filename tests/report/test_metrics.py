"""The series of mirrors, hosts and the state directory: which there are, how many, and when they go."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mirrord import events as ev
from mirrord.config.load import load_folder
from mirrord.daemon.areas import AREAS, areas
from mirrord.model.history import Standing
from mirrord.model.plan import Action, Plan
from mirrord.model.run import Outcome, Receipt
from mirrord.report.desks import IssueDeskStatus
from mirrord.report.metrics import Metrics
from mirrord.report.status import ReceiverStatus
from mirrord.syncer.port import load_syncers
from tests.report.test_report import STEP, T0, make_run, mirror

MANY = 100_000


def series(metrics: Metrics, part: str = "") -> dict[str, float]:
    lines = [line.removeprefix("mirrord_") for line in metrics.text({}).decode().splitlines() if part in line]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_a_mirror_is_in_progress_until_its_last_run_ends() -> None:
    """Of images that people ask for several runs are under way; a run that nobody saw begin takes none away."""
    metrics = Metrics("1")
    metrics.follow([mirror()], [], T0)
    begun, ended = ev.RunStarted("m", "image", "asked"), ev.RunFinished(make_run(name="m"))
    seen, told = list[float](), list[ev.Event]([ended, begun, begun, ended, ended])
    for event in told:
        metrics(event)
        seen.append(series(metrics)['sync_in_progress{mirror="m"}'])
    assert seen == [0, 1, 1, 1, 0]


def test_number_of_series_is_constant() -> None:
    """A hundred thousand tags, digests, hosts and unknown mirrors make no new series (bad input 82)."""
    metrics = Metrics("1")
    metrics.follow([mirror()], [], T0, ["docker.io"])

    def busy(start: int, count: int) -> None:
        for n in range(start, start + count):
            step, host = replace(STEP, item=f"v{n}", digest=f"sha256:{n}", names=(f"v{n}",)), f"h{n}.example"
            for event in (
                ev.StepDone("m", Receipt(step, Outcome.DONE)),
                *(ev.BytesSent("m/a", 1), ev.BytesSent(f"m/target{n}", 1), ev.BytesRead(f"m/target{n}", 1)),
                ev.RequestDone(host, "GET", 200 if n % 2 else 799, 0.1),
                *(ev.Retrying(host, "server", 1.0), ev.RateLimit(host, n, n), ev.TrustRefused(host, "realm")),
                *(ev.RunStarted(f"m{n}", "image", "schedule"), ev.RunSkipped(f"m{n}", "overlap")),
                *(ev.FrontAnswered(host, "blob", "miss"), ev.FrontBytes(host, "to_clients", n)),
                *(ev.FrontRefused("pulls", f"10.0.{n}", f"team/app{n}", f"v{n}"), ev.ListRead(f"{n}.txt", n)),
                ev.FrontFailed(host, f"{host}/a:v{n}", f"a{n}", "stalled", f"{n}"),
            ):
                metrics(event)

    busy(0, 100)
    for name in ("m", "n"):
        metrics(ev.RunFinished(make_run(name=name)))
    before = set(series(metrics))
    busy(100, MANY)
    metrics.circuits([f"h{n}.example" for n in range(MANY)])
    new = set(series(metrics)) - before
    assert len(new) == 65
    assert {name.partition("{")[0] for name in new} == {"upstream_circuit_open"}
    assert len([name for name in before if name.startswith("upstream_ratelimit_remaining")]) == 65


def test_series_of_removed_mirrors_go() -> None:
    """A mirror that is no longer configured leaves no series behind; a target neither, nor a kind that it had."""
    metrics = Metrics("1")
    known = [Standing("m", "b", T0, T0, behind=1, behind_since=T0), Standing("n", "", T0, T0), Standing("n", "a", T0)]
    scheduled = replace(mirror("n"), interval=60.0, stale=180.0)
    metrics.follow([mirror("m", "a", "b"), scheduled], known, T0)
    metrics.text({"n": T0})
    plan = Plan("n", "image", T0, (STEP,), ())
    for event in (ev.Planned(plan, {}), ev.RunFinished(make_run(name="n")), ev.RunSkipped("n", "overlap")):
        metrics(event)
    assert {name.partition("{")[0] for name in series(metrics, 'mirror="n"')} >= {
        *("mirror_info", "sync_interval_seconds", "sync_stale_after_seconds", "sync_last_success_timestamp_seconds"),
        *("sync_runs_total", "sync_runs_skipped_total", "sync_duration_seconds_bucket", "items_planned_total"),
    }
    assert len(series(metrics, 'target="b"')) == 5
    metrics.follow([replace(mirror("m", "a"), kind="git")], known, T0)
    assert series(metrics, 'mirror="n"') == series(metrics, 'target="b"') == series(metrics, 'kind="image"') == {}
    assert series(metrics, "mirror_info") == {'mirror_info{kind="git",mirror="m"}': 1}
    metrics(ev.RunFinished(make_run(name="n")))
    assert series(metrics, 'mirror="n"') == {}


def test_what_targets_lack() -> None:
    """The number of items behind and since when, items and bytes, of the mirror and of each target."""
    metrics = Metrics("1")
    behind = Standing("m", "a", T0, T0, items=7, size=70, behind=2, behind_since=T0)
    whole = replace(behind, target="", items=9, size=90)
    metrics.follow([mirror()], [whole, behind], T0)
    assert series(metrics, 'target="a"') == {
        'sync_last_success_timestamp_seconds{mirror="m",target="a"}': T0.timestamp(),
        'sync_items{mirror="m",target="a"}': 7,
        'sync_content_bytes{mirror="m",target="a"}': 70,
        'sync_behind_items{mirror="m",target="a"}': 2,
        'sync_behind_since_timestamp_seconds{mirror="m",target="a"}': T0.timestamp(),
    }
    assert series(metrics, "sync_items")['sync_items{mirror="m",target=""}'] == 9
    metrics.mirrors.remember([replace(behind, behind=0, behind_since=None)])
    assert series(metrics, "behind_since") == {
        'sync_behind_since_timestamp_seconds{mirror="m",target=""}': T0.timestamp()
    }
    assert series(metrics, "behind_items")['sync_behind_items{mirror="m",target="a"}'] == 0


@pytest.mark.parametrize(
    ("timing", "interval", "stale"),
    [
        ("every: 6h", 6 * 3600, 18 * 3600),
        ("every: 10m, stale: 2h", 600, 7200),
        ("cron: '17 3 * * 1'", 7 * 86400, 21 * 86400),
        ("", None, None),
        ("stale: 1d", None, 86400),
    ],
)
def test_interval_of_a_schedule(tmp_path: Path, timing: str, interval: float | None, stale: float | None) -> None:
    """Alerts know of each mirror how often it runs, and from which age on it is stale; a reload changes that."""
    text = "mirrors: [{name: m, kind: git, from: 'https://git.example/a.git', to: [local], %s}]\n"

    def shown(timing: str) -> dict[str, float]:
        (tmp_path / "a.yaml").write_text(text % timing)
        metrics.follow(load_folder(tmp_path, load_syncers(), {}).mirrors, [], T0)
        return {**series(metrics, "sync_interval_seconds{"), **series(metrics, "sync_stale_after_seconds{")}

    metrics = Metrics("1")
    expected = {'sync_interval_seconds{mirror="m"}': interval, 'sync_stale_after_seconds{mirror="m"}': stale}
    assert shown(timing) == {name: value for name, value in expected.items() if value is not None}
    assert set(shown("every: 1h").values()) == {3600, 3 * 3600}
    assert shown("") == {}


def test_deletions_and_refusals() -> None:
    """What was deleted is counted in items, what a rule forbids whether the plan says so or the execution."""
    metrics = Metrics("1")
    metrics.follow([mirror()], [], T0)
    steps = [replace(STEP, action=action) for action in (Action.DELETE, Action.COPY, Action.COPY, Action.REFUSE)]
    outcomes = (Outcome.DONE, Outcome.DONE, Outcome.REFUSED)
    receipts = tuple(Receipt(*pair) for pair in zip(steps, outcomes, strict=False))
    run = replace(make_run(), plan=Plan("m", "image", T0, tuple(steps), ()), receipts=receipts)
    metrics(ev.RunFinished(run))
    found = {name.partition("{")[0]: value for name, value in series(metrics, "items_").items()}
    expected = {"items_copied_total": 2, "items_deleted_total": 3, "items_failed_total": 1, "items_refused_total": 2}
    assert found == {**expected, "items_skipped_total": 1}


def test_host_and_process() -> None:
    """Quota, resting upstreams, the certificate and parts of the state are told; without TLS no certificate is."""
    metrics = Metrics("1")
    metrics.follow([], [], T0, ["docker.io", "quay.io"])
    assert series(metrics, "certificate") == {}
    for event in (ev.RateLimit("docker.io", 60, 100), ev.RateLimit("quay.io", 5)):
        metrics(event)
    metrics.circuits(["elsewhere.example"])  # which only runs ask
    assert series(metrics, "upstream_circuit_open")['upstream_circuit_open{host="elsewhere.example"}'] == 1
    metrics.circuits(["quay.io"])
    metrics.certificate("settings.tls", T0 + timedelta(days=9), "bad")
    metrics.areas({"blobs": 5})
    metrics.follow([], [], T0, ["quay.io"])
    assert series(metrics, "upstream") == {
        'upstream_ratelimit_remaining{host="docker.io"}': 60,
        'upstream_ratelimit_remaining{host="quay.io"}': 5,
        'upstream_ratelimit_limit{host="docker.io"}': 100,
        'upstream_circuit_open{host="quay.io"}': 1,
        'upstream_circuit_open{host="elsewhere.example"}': 0,
    }
    assert series(metrics, "certificate") == {
        'certificate_not_after_timestamp_seconds{name="settings.tls"}': (T0 + timedelta(days=9)).timestamp(),
        'certificate_refused{name="settings.tls"}': 1,
    }
    assert series(metrics, "storage_bytes") == {'storage_bytes{area="blobs"}': 5}


def test_areas(tmp_path: Path) -> None:
    """Each part of the state is measured in blocks, a file with two names once; links lead nowhere."""
    for name, size in (("mirrord.db", 5000), ("mirrord.db-wal", 1), ("blobs/sha256/00/x", 9000), ("lock", 3)):
        (file := tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes([1]) * size)
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "x").hardlink_to(tmp_path / "blobs/sha256/00/x")
    (tmp_path / "git").symlink_to("/usr")

    def disk(*names: str) -> int:
        return sum((tmp_path / name).lstat().st_blocks * 512 for name in names)

    assert areas(tmp_path) == {
        **dict.fromkeys(AREAS, 0),
        "blobs": disk("blobs", "blobs/sha256", "blobs/sha256/00", "blobs/sha256/00/x"),
        "database": disk("mirrord.db", "mirrord.db-wal"),
        "other": disk("lock"),
        "spool": disk("spool"),
    }
    assert areas(tmp_path / "gone") == {**dict.fromkeys(AREAS, 0), "database": 0, "other": 0}


def test_repositories_in_whose_issues_people_ask() -> None:
    """What is open, and whose forge cannot be asked; a repository that a reload removed has no series."""
    one, other = IssueDeskStatus("github/a/b", open=3), IssueDeskStatus("gitee/a/b", last_error="status 401")
    metrics = Metrics("1")
    metrics.desks([one, other])
    assert series(metrics, "issues") == {
        'issues_open{repository="github/a/b"}': 3,
        'issues_open{repository="gitee/a/b"}': 0,
        'issues_failing{repository="github/a/b"}': 0,
        'issues_failing{repository="gitee/a/b"}': 1,
    }
    metrics.desks([one])
    assert series(metrics, "issues") == {
        'issues_open{repository="github/a/b"}': 3,
        'issues_failing{repository="github/a/b"}': 0,
    }


def test_receivers_of_notifications() -> None:
    """Who cannot be reached is told until a message was sent; a receiver that a reload removed has no series."""
    ops, night = (ReceiverStatus(name, "webhook", "h.example", (), ()) for name in ("ops", "night"))
    metrics = Metrics("1")
    for receiver in ("ops", "night"):
        metrics(ev.Notified(receiver, "failed", 1))
    metrics.receivers([replace(ops, last_error="no connection"), night])
    assert series(metrics, "notifications") == {
        'notifications_total{receiver="ops",result="failed"}': 1,
        'notifications_total{receiver="night",result="failed"}': 1,
        'notifications_failing{receiver="ops"}': 1,
        'notifications_failing{receiver="night"}': 0,
    }
    metrics.receivers([ops])
    assert series(metrics, "notifications") == {
        'notifications_total{receiver="ops",result="failed"}': 1,
        'notifications_failing{receiver="ops"}': 0,
    }
