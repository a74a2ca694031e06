"""The dashboard of deploy/grafana: what Grafana imports, and every query of it over the metrics of a busy daemon."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from time import time
from typing import Any

import pytest

from mirrord.report.metrics import Metrics
from mirrord.testing import require
from tests.support.monitored import INTERVAL, Prometheus, busy, scraping

FILE = Path(__file__).parents[2] / "deploy" / "grafana" / "mirrord.json"
TEXT = FILE.read_text()
BOARD: dict[str, Any] = json.loads(TEXT)
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
VARIABLES = {one["name"]: one for one in BOARD["templating"]["list"]}
SOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
ROUNDS = 10
STATES = (
    "mirrord_upstream_circuit_open == 1",
    'mirrord_sync_behind_items{mirror="app",target="closed"} == 1',
    "mirrord_upstream_ratelimit_remaining == 60 and mirrord_upstream_ratelimit_limit == 100",
    'mirrord_storage_bytes{area="database"} > 0',
)
"""What the busy daemon comes to; the circuit is open for seconds only, and a busy machine may scrape it later."""
SHARED = "mirrord_replica_", "mirrord_bucket_request", "mirrord_front_shared_"
"""Series that one machine with its own disk has not: a query of them is asked, and may find nothing."""
LISTED = re.compile(r"label_values\((?P<match>.+), (?P<label>\w+)\)")


def queries() -> Iterator[tuple[str, str]]:
    """Yield every query with the title of its panel or annotation."""
    for panel in PANELS:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    for one in BOARD["annotations"]["list"]:
        if "expr" in one:
            yield one["name"], one["expr"]


def typed(query: str, **chosen: str) -> str:
    """Put values for variables, as Grafana does for a query; several of them become a regular expression."""
    for name, value in {**chosen, "__rate_interval": INTERVAL, "__interval": INTERVAL, "__range": INTERVAL}.items():
        query = query.replace(f"${name}", value)
    return query


def test_grafana_can_import_it() -> None:
    """It has no id and a short fixed uid; the data source is asked for at import, and a variable when provisioned."""
    assert BOARD["id"] is None
    assert 0 < len(BOARD["uid"]) <= 40
    assert BOARD["schemaVersion"] >= 39
    [source] = BOARD["__inputs"]
    assert (source["name"], source["type"], source["pluginId"]) == ("DS_PROMETHEUS", "datasource", "prometheus")
    assert (VARIABLES["DS_PROMETHEUS"]["type"], VARIABLES["DS_PROMETHEUS"]["query"]) == ("datasource", "prometheus")
    used = [one["datasource"] for one in (*PANELS, *VARIABLES.values()) if "datasource" in one]
    used += [target["datasource"] for panel in PANELS for target in panel["targets"]]
    assert all(one == SOURCE for one in used)
    assert {entry["id"] for entry in BOARD["__requires"]} >= {panel["type"] for panel in PANELS}
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_panels_are_laid_out() -> None:
    """Eight rows; no two panels overlap, and none leaves the 24 columns."""
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Overview", "Runs", "Freshness", "Traffic", "Upstreams", "Front", "Process", "Replicas and bucket"]
    cells = set[tuple[int, int]]()
    for place in (panel["gridPos"] for panel in BOARD["panels"]):
        assert place["x"] + place["w"] <= 24
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not own & cells
        cells |= own


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panels_speak(panel: dict[str, Any]) -> None:
    """Each has a title of several words, a unit and thresholds, and series that the program has."""
    known = set(re.findall(r"^# HELP ((?:mirrord|process)_\w+)", Metrics("0").text({}).decode(), re.MULTILINE))
    known |= {f"{name}_bucket" for name in known if name.endswith("_seconds")}
    defaults = panel["fieldConfig"]["defaults"]
    assert len(panel["title"].split()) > 1
    assert panel["title"][0].isupper()
    assert defaults["unit"]
    assert defaults["thresholds"]["steps"][0]["value"] is None
    for target in panel["targets"]:
        assert set(re.findall(r"\b(?:mirrord|process)_[a-z_]+[a-z]\b", target["expr"])) <= known
        assert "instance=~" in target["expr"] or "mirrord_build_info" in target["expr"]


async def listed(prometheus: Prometheus, name: str, **chosen: str) -> str:
    """Return all values of a variable, as a regular expression."""
    found = LISTED.fullmatch(typed(VARIABLES[name]["query"]["query"], **chosen))
    assert found, name
    values = await prometheus.get(f"label/{found['label']}/values", **{"match[]": found["match"]})
    return "|".join(map(re.escape, values)).replace("\\", "\\\\")


async def answered(prometheus: Prometheus, query: str, chosen: dict[str, str]) -> bool:
    """Whether a query has a series with a number at any time of the last minute."""
    end = time()
    when = {"start": str(end - 60), "end": str(end), "step": "1"}
    data = await prometheus.get("query_range", query=typed(query, **chosen), **when)
    return any(isfinite(float(value)) for series in data["result"] for _, value in series["values"])


async def test_every_query_has_an_answer(tmp_path: Path) -> None:
    """Over what a busy daemon says in a minute, each query of each panel, variable and annotation has a series.

    The alert rules work over the same series, too, and the mirror that fails fires the alert about it.
    """
    require("prometheus", "git")
    async with (
        busy(tmp_path) as daemon,
        scraping(tmp_path / "prometheus", daemon.address, daemon.authority.ca) as prometheus,
    ):
        chosen, left, alerts = dict[str, str](), list(queries()), set[tuple[str, str]]()
        for _ in range(ROUNDS):
            await daemon.work()
            for name in ("instance", "kind", "mirror"):
                chosen[name] = await listed(prometheus, name, **chosen)
            wanted = (*queries(), *(("state", query) for query in STATES))
            found = {one: await answered(prometheus, one[1], chosen) for one in wanted}
            left = [one for one, there in found.items() if not there and not any(name in one[1] for name in SHARED)]
            alerts = {
                (one["labels"]["alertname"], one["labels"].get("mirror", ""))
                for one in (await prometheus.get("alerts"))["alerts"]
                if one["state"] == "firing"
            }
            if not left and ("MirrordMirrorFailing", "lost") in alerts:
                break
        assert left == []
        assert (chosen["kind"], chosen["mirror"]) == ("git|helm|image", "app|charts|code|lost")
        assert ("MirrordMirrorFailing", "lost") in alerts
        groups = (await prometheus.get("rules"))["groups"]
        assert {
            rule["name"]: rule["lastError"] for group in groups for rule in group["rules"] if "lastError" in rule
        } == {}
        assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
        assert not await answered(prometheus, 'mirrord_mirror_info{mirror="none"}', chosen)
        assert {str(word) for word in await prometheus.get("label/outcome/values")} >= {"miss", "stale"}
