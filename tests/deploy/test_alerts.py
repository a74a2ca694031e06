"""The alerts of deploy/prometheus, judged by Prometheus' own promtool: they load, and fire when they should."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from mirrord.cli.grammar import COMMANDS
from mirrord.report.metrics import Metrics
from mirrord.testing import require
from mirrord.testing.running import run
from tests.support.alerts import RULES, rules

BY_NAME = {rule["alert"]: rule for rule in rules()}
WELL, ILL = 'job="mirrord",instance="well"', 'job="mirrord",instance="ill"'
DAY = 86400
FAR = 60 * DAY
SAMPLES = "x6000"  # one a minute: more than four days
# What two daemons with the same mirrors say, by the name of a series and its labels: samples in promtool's notation.
# The second one has everything that can be wrong. Nothing of the first may fire, however old the state of the second.


def always(value: float) -> str:
    return f"{value}{SAMPLES}"


SERIES: dict[str, tuple[str | None, str | None]] = {
    "build_info": (always(1), None),
    'sync_interval_seconds{mirror="a"}': (always(3600), always(3600)),
    'sync_stale_after_seconds{mirror="a"}': (always(10800), always(10800)),
    'sync_last_success_timestamp_seconds{mirror="a",target=""}': (f"0+60{SAMPLES}", always(0)),
    'sync_last_success_timestamp_seconds{mirror="a",target="east"}': (f"0+60{SAMPLES}", f"0+60{SAMPLES}"),
    'sync_last_success_timestamp_seconds{mirror="a",target="west"}': (f"0+60{SAMPLES}", always(0)),
    'sync_in_progress{mirror="a"}': (always(0), always(0)),
    'sync_consecutive_failures{mirror="a"}': (f"0x9 2{SAMPLES}", f"0x9 3{SAMPLES}"),
    'sync_problems{mirror="a"}': (always(0), always(2)),
    'sync_runs_skipped_total{mirror="a",reason="overlap"}': (f"0x60 2{SAMPLES}", f"0+1x5 6{SAMPLES}"),
    # It runs for ever, so it is stale, and not late.
    'sync_interval_seconds{mirror="slow"}': (always(3600), always(3600)),
    'sync_last_success_timestamp_seconds{mirror="slow",target=""}': (always(0), always(0)),
    'sync_in_progress{mirror="slow"}': (always(1), always(1)),
    # Without a schedule it is never old.
    'sync_last_success_timestamp_seconds{mirror="on-demand",target=""}': (always(0), always(0)),
    'sync_interval_seconds{mirror="new"}': (f"60x1000 _{SAMPLES}", always(60)),
    'verify_drift_items{mirror="a",target=""}': (always(0), always(2)),
    'verify_drift_items{mirror="a",target="west"}': (always(0), f"0x9 2x60 0{SAMPLES}"),
    'verify_interval_seconds{mirror="a",level="deep"}': (always(3600), always(3600)),
    'verify_last_timestamp_seconds{mirror="a",target="",level="names"}': (f"0+60{SAMPLES}", f"0+60{SAMPLES}"),
    'verify_last_timestamp_seconds{mirror="a",target="",level="deep"}': (
        f"0+60{SAMPLES}",
        f"0x190 12000+60{SAMPLES}",
    ),
    'verify_last_timestamp_seconds{mirror="a",target="west",level="deep"}': (f"0+60{SAMPLES}", always(0)),
    'verify_interval_seconds{mirror="new",level="bytes"}': (f"60x1000 _{SAMPLES}", always(60)),
    'verify_last_timestamp_seconds{mirror="new",target="",level="deep"}': (always(FAR), always(FAR)),
    'verify_last_timestamp_seconds{mirror="on-demand",target="",level="deep"}': (always(0), always(0)),
    'upstream_ratelimit_limit{host="hub.example"}': (always(100), always(100)),
    'upstream_ratelimit_remaining{host="hub.example"}': (always(10), f"50x9 9{SAMPLES}"),
    'upstream_ratelimit_remaining{host="quiet.example"}': (always(0), always(0)),
    'upstream_ratelimit_limit{host="quiet.example"}': (always(100), always(100)),
    'upstream_requests_total{host="hub.example",code="200"}': (f"0+1{SAMPLES}", f"0+1{SAMPLES}"),
    'upstream_requests_total{host="hub.example",code="429"}': (f"0x60 9{SAMPLES}", f"0+1{SAMPLES}"),
    'trust_refused_total{reason="realm"}': (None, f"_x10 1{SAMPLES}"),
    'front_failures_total{upstream="hub.example",reason="unreachable"}': (f"0+2{SAMPLES}", f"0+6{SAMPLES}"),
    'front_failures_total{upstream="hub.example",reason="throttled"}': (f"0+2{SAMPLES}", f"0+3{SAMPLES}"),
    'upstream_circuit_open{host="hub.example"}': (f"0x9 1 0{SAMPLES}", f"0x9 1{SAMPLES}"),
    'front_answers_total{upstream="hub.example",kind="blob",outcome="hit"}': (f"0+90{SAMPLES}", f"0+90{SAMPLES}"),
    'front_answers_total{upstream="hub.example",kind="manifest",outcome="stale"}': (f"0+4{SAMPLES}", f"0+5{SAMPLES}"),
    "front_lists_refused": (f"0 1 1 0{SAMPLES}", f"0 1{SAMPLES}"),
    "front_cache_failing": (f"0 1 0{SAMPLES}", f"0 1{SAMPLES}"),
    "state_failing": (f"0 1 0{SAMPLES}", f"0 1{SAMPLES}"),
    "storage_size_bytes": (always(100_000_000_000), always(100_000_000_000)),
    "storage_free_bytes": (f"90000000000-1000000{SAMPLES}", f"30500000000-25000000x1060 4000000000{SAMPLES}"),
    "config_last_reload_successful": (f"1 0 0 1{SAMPLES}", f"1 0{SAMPLES}"),
    'notifications_failing{receiver="ops"}': (f"0x9 1x14 0{SAMPLES}", f"0x9 1{SAMPLES}"),
    'certificate_not_after_timestamp_seconds{name="settings.tls"}': (
        always(FAR),
        f"{15 * DAY}x1500 {3 * DAY}{SAMPLES}",
    ),
    'certificate_refused{name="settings.tls"}': (f"0 1 0{SAMPLES}", f"0 1{SAMPLES}"),
    "log_lines_lost": (always(7), f"0x9 5{SAMPLES}"),
    'replica_up{replica="a"}': (always(1), always(1)),
    'replica_up{replica="b"}': (None, f"1x9 0{SAMPLES}"),
    'replica_leading{replica="a"}': (None, f"1x9 0{SAMPLES}"),
    "queue_oldest_seconds": (always(0), f"0+60{SAMPLES}"),
    "replica_configurations": (always(1), f"1x9 2{SAMPLES}"),
    "bucket_failing": (f"0 1 0{SAMPLES}", f"0 1{SAMPLES}"),
    "event_loop_lag_seconds": (f"0.1x9 2 0.1{SAMPLES}", f"0.1x9 2{SAMPLES}"),
}


@dataclass(frozen=True)
class Case:
    """When an alert fires for the daemon that is ill: the first minute, what it is about, and what it says."""

    alert: str
    start: int
    labels: dict[str, str] = field(default_factory=dict)
    value: str = ""
    end: int | None = None
    shared: bool = False  # whether it is about all replicas


A, HUB, UPSTREAM, TLS = {"mirror": "a"}, {"host": "hub.example"}, {"upstream": "hub.example"}, {"name": "settings.tls"}
CASES = [
    Case("MirrordMirrorLate", 136, A, "2h 16m 0s"),
    Case("MirrordMirrorStale", 181, A, "3h 1m 0s"),
    Case("MirrordTargetStale", 181, {**A, "target": "west"}, "3h 1m 0s"),
    Case("MirrordMirrorNew", 1440, {"mirror": "new"}),
    Case("MirrordMirrorFailing", 10, A, "3"),
    Case("MirrordUpstreamWrong", 4320, A, "2"),
    Case("MirrordRunsOverlap", 3, A, end=365),
    Case("MirrordDriftFound", 10, {**A, "target": "west"}, "2", end=71),
    Case("MirrordVerificationLate", 181, {**A, "level": "deep"}, "3h 1m 0s", end=200),
    Case("MirrordVerificationMissing", 1440, {"mirror": "new", "level": "bytes"}),
    Case("MirrordUpstreamBudgetLow", 20, HUB, "9"),
    Case("MirrordUpstreamThrottles", 26, HUB),
    Case("MirrordSecretNotSent", 10, {"reason": "realm"}, end=75),
    Case("MirrordUpstreamFailsClients", 26, UPSTREAM),
    Case("MirrordUpstreamRests", 15, HUB),
    Case("MirrordStaleAnswers", 16, UPSTREAM),
    Case("MirrordAllowListRefused", 6),
    Case("MirrordCacheFailing", 11),
    Case("MirrordStateFails", 3),
    Case("MirrordDiskFull", 1026, value="4.517Gi"),
    Case("MirrordDiskWillFill", 81, end=1500),
    Case("MirrordConfigurationRefused", 6),
    Case("MirrordNotificationsFail", 25, {"receiver": "ops"}),
    Case("MirrordCertificateExpires", 1441, TLS, "13d 23h 59m 0s"),
    Case("MirrordCertificateExpired", 2881, TLS),
    Case("MirrordCertificateRefused", 6, TLS),
    Case("MirrordLogLinesLost", 10, end=26),
    Case("MirrordEventLoopSlow", 12, value="618.2ms"),
    Case("MirrordReplicaDead", 15, {"replica": "b"}, shared=True),
    Case("MirrordNobodyLeads", 15, shared=True),
    Case("MirrordRunsWait", 31, value="31m 0s", shared=True),
    Case("MirrordReplicasDiffer", 25, value="2", shared=True),
    Case("MirrordBucketAway", 3),
]


ILL_ONE = {"instance": "ill"}


def world() -> list[dict[str, str]]:
    found = []
    for name, both in SERIES.items():
        for instance, values in zip((WELL, ILL), both, strict=True):
            text = f"{name[:-1]},{instance}}}" if "{" in name else f"{name}{{{instance}}}"
            if values is not None:
                found.append({"series": f"mirrord_{text}", "values": values})
    return found


def rendered(text: str, case: Case) -> str:
    """Return what a template says, with the value as Prometheus formats it."""
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: case.labels[found[1]], text)
    return re.sub(r"\{\{ \$value[^}]*\}\}", case.value, text)


def fired(case: Case, minute: int, *, silent: bool = False) -> dict[str, Any]:
    """Expect the alert at that time for the daemon that is ill, and no other; or that it is silent."""
    rule = BY_NAME[case.alert]
    found = {
        "exp_labels": {**rule["labels"], "job": "mirrord", **({} if case.shared else ILL_ONE), **case.labels},
        "exp_annotations": {name: rendered(text, case) for name, text in rule["annotations"].items()},
    }
    return {"eval_time": f"{minute}m", "alertname": case.alert, "exp_alerts": [] if silent else [found]}


async def judged(folder: Path, series: list[dict[str, str]], expected: list[dict[str, Any]]) -> None:
    require("promtool")
    tests = [{"interval": "1m", "input_series": series, "alert_rule_test": expected}]
    (folder / "test.yaml").write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": tests}))
    ran = await run("promtool", "test", "rules", folder / "test.yaml")
    assert ran.status == 0, ran.output


async def test_rules_load() -> None:
    """Prometheus takes the file."""
    require("promtool")
    ran = await run("promtool", "check", "rules", RULES)
    assert ran.status == 0, ran.output
    assert f"SUCCESS: {len(BY_NAME)} rules found" in ran.output


def test_every_alert_is_tested() -> None:
    """None of the file's alerts is missing above."""
    assert list(BY_NAME) == [
        *(case.alert for case in CASES[:18]),
        "MirrordAbsent",
        *(case.alert for case in CASES[18:]),
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
async def test_fires(tmp_path: Path, case: Case) -> None:
    """It is silent a minute before its time, fires for what it is about and nothing else, and falls silent again."""
    expected = [fired(case, case.start - 1, silent=True), fired(case, case.start)]
    expected += [fired(case, case.end, silent=True)] if case.end else []
    await judged(tmp_path, world(), expected)


async def test_absence(tmp_path: Path) -> None:
    """Ten minutes without any mirrord are an alert; one that answers is enough against it."""
    case, there = Case("MirrordAbsent", 10), [{"series": f"mirrord_build_info{{{WELL}}}", "values": always(1)}]
    found = fired(case, 10)
    found["exp_alerts"][0]["exp_labels"] = BY_NAME["MirrordAbsent"]["labels"]
    await judged(tmp_path, [], [fired(case, 9, silent=True), found])
    await judged(tmp_path, there, [fired(case, 10, silent=True)])


def test_series_exist() -> None:
    """Rules and these tests use series that the program has."""
    known = set(re.findall(r"^# HELP (mirrord_\w+)", Metrics("0").text({}).decode(), re.MULTILINE))
    assert set(re.findall(r"\bmirrord_[a-z_]+[a-z]\b", RULES.read_text())) <= known
    assert {f"mirrord_{name.partition('{')[0]}" for name in SERIES} <= known


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_says_what_to_do(rule: dict[str, Any]) -> None:
    """Each alert has a severity, one line, what to do by commands that exist, and the part of the page about it."""
    notes = rule["annotations"]
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert set(notes) == {"summary", "description", "runbook"}
    assert notes["runbook"] == f"docs/reference/alerts.md#{rule['alert'].lower()}"
    assert not {"\n"} & {*notes["summary"], *notes["description"]}
    for command in re.findall(r"`mirrord ([^`]+)`", notes["description"]):
        assert any(f"{command} ".startswith(f"{name} ") for name in COMMANDS), command
