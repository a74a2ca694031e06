"""The alerts of docs/how-to/watch.md, judged by Prometheus' own promtool: they load, and fire when they should."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mirrord.testing import require
from mirrord.testing.running import run

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "watch.md"
[RULES] = re.findall(r"^```yaml\n(groups:.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
SUCCESS, NEXT = "mirrord_sync_last_success_timestamp_seconds", "mirrord_sync_next_run_timestamp_seconds"
DAYS = "x4400"  # samples of a minute: more than three days
# What a daemon says: the name of a series and its labels, and its samples, one a minute.
SERIES = {
    f'{SUCCESS}{{mirror="old",target=""}}': f"0{DAYS}",
    f'{SUCCESS}{{mirror="old",target="east"}}': f"0{DAYS}",
    f'{NEXT}{{mirror="old"}}': f"0{DAYS}",
    f'{SUCCESS}{{mirror="new",target=""}}': f"0+60{DAYS}",  # now, at any time
    f'{NEXT}{{mirror="new"}}': f"0{DAYS}",
    f'{SUCCESS}{{mirror="on-demand",target=""}}': f"0{DAYS}",
    'mirrord_sync_consecutive_failures{mirror="old"}': f"4{DAYS}",
    'mirrord_sync_consecutive_failures{mirror="never"}': f"3x9 4{DAYS}",
    'mirrord_sync_problems{mirror="odd"}': f"2{DAYS}",
    'mirrord_sync_problems{mirror="good"}': f"0{DAYS}",
    "mirrord_config_last_reload_successful": f"1 0{DAYS}",
    "mirrord_front_lists_refused": f"0 1{DAYS}",
    'mirrord_front_failures_total{upstream="down.example",reason="unreachable"}': f"0+6{DAYS}",
    'mirrord_front_failures_total{upstream="down.example",reason="throttled"}': f"0+3{DAYS}",
    'mirrord_front_failures_total{upstream="odd.example",reason="throttled"}': f"0+3{DAYS}",
    "mirrord_storage_free_bytes": f"6000000000x9 4000000000{DAYS}",
    'mirrord_trust_refused_total{reason="realm"}': f"_x10 1{DAYS}",
}
# Alert, and from when on it fires, until when, and about what.
ALERTS = [
    ("MirrorIsOld", "1441m", "", {"mirror": "old"}),
    ("MirrorNeverWorked", "10m", "", {"mirror": "never"}),
    ("TargetIsOld", "2881m", "", {"mirror": "old", "target": "east"}),
    ("UpstreamIsWrong", "4320m", "", {"mirror": "odd"}),
    ("ConfigurationRefused", "6m", "", {}),
    ("AllowListRefused", "6m", "", {}),
    ("UpstreamFailsClients", "26m", "", {"upstream": "down.example"}),
    ("DiskFull", "10m", "", {}),
    ("SecretNotSent", "10m", "75m", {"reason": "realm"}),
]


def fired(alert: str, at: str, labels: dict[str, str] | None) -> dict[str, Any]:
    """Expect the alert at that time, or with None that it is silent."""
    [rule] = [rule for rule in yaml.safe_load(RULES)["groups"][0]["rules"] if rule["alert"] == alert]
    if labels is None:
        return {"eval_time": at, "alertname": alert, "exp_alerts": []}
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], rule["annotations"]["summary"])
    text = text.replace("{{ $value }}", "2")
    found = {"exp_labels": {**rule["labels"], **labels}, "exp_annotations": {"summary": text}}
    return {"eval_time": at, "alertname": alert, "exp_alerts": [found]}


def minute_before(at: str) -> str:
    return f"{int(at.removesuffix('m')) - 1}m"


def test_every_alert_is_tested() -> None:
    """None of the page's alerts is missing below."""
    assert [rule["alert"] for rule in yaml.safe_load(RULES)["groups"][0]["rules"]] == [alert for alert, *_ in ALERTS]


@pytest.mark.parametrize(("alert", "start", "end", "labels"), ALERTS, ids=[alert for alert, *_ in ALERTS])
async def test_fires(tmp_path: Path, alert: str, start: str, end: str, labels: dict[str, str]) -> None:
    """It is silent a minute before its time, fires for what it is about and nothing else, and falls silent again."""
    require("promtool")
    (tmp_path / "rules.yaml").write_text(RULES)
    series = [{"series": name, "values": values} for name, values in SERIES.items()]
    expected = [fired(alert, minute_before(start), None), fired(alert, start, labels)]
    expected += [fired(alert, end, None)] if end else []
    tests = [{"interval": "1m", "input_series": series, "alert_rule_test": expected}]
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": tests}))
    ran = await run("promtool", "test", "rules", tmp_path / "test.yaml")
    assert ran.status == 0, ran.output
