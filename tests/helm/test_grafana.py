"""Two consecutive revisions of a real, large index: exactly the version that came is planned, and nothing else.

`data/grafana-cut.yaml.gz` is upstream's index of 2026-08-20, cut by tests.support.chartcut; the revision before
differs by one entry. The whole files are used too when MIRRORD_HELM_DATA names the folder that holds them.
"""

from __future__ import annotations

import gzip
import os
from collections import Counter
from pathlib import Path

import pytest

from mirrord.model.memory import NO_MEMORY
from mirrord.model.plan import Action, Plan
from mirrord.syncer.values import Mirror
from mirrord.syncers.helm.upstream.reading import read_index
from mirrord.testing.chart_repository import INDEX, ChartRepository
from tests.support.chartcut import cut, without
from tests.support.chartruns import HELM, ChartRuns
from tests.support.chartservers import CodingServer

CUT = Path(__file__).parent / "data" / "grafana-cut.yaml.gz"
NEWS = ("rollout-operator", "0.51.1")
DIGEST = "sha256:25381b5cbda9245d4647eeff14df7585b545a454ee8e164a5967b28e8ff7a73c"
TWICE = {"alloy-operator-0.2.6-beta.2", "mimir-distributed-5.6.0-weekly.314"}


def revisions(size: str) -> tuple[str, str]:
    """Return the earlier and the later revision."""
    if size == "cut":
        later = gzip.decompress(CUT.read_bytes()).decode()
        return without(later, *NEWS), later
    folder = os.environ.get("MIRRORD_HELM_DATA")
    if not folder:
        pytest.skip("whole-indexes: MIRRORD_HELM_DATA names no folder with the whole indexes")
    found = (Path(folder) / f"{name}.yaml.gz" for name in ("grafana-prev-index", "grafana-index"))
    earlier, later = (gzip.decompress(file.read_bytes()).decode() for file in found)
    return earlier, later


async def planned(runs: ChartRuns, mirror: Mirror) -> Plan:
    """Decide, without asking how long the archives are: they are at hosts that tests do not reach."""
    return HELM.plan(mirror, await HELM.survey(mirror, runs.services, NO_MEMORY, runs.now), runs.now)


@pytest.mark.parametrize("size", ["cut", "whole"])
async def test_exactly_the_new_version(size: str, runs: ChartRuns) -> None:
    """A server and a folder with all of the earlier revision lack one archive of the later one."""
    earlier, later = revisions(size)
    site = runs.folder / "site"
    (site / "charts").mkdir(parents=True)
    (site / INDEX).write_text(earlier)
    for entry in read_index(earlier.encode()).entries:
        (site / "charts" / entry.file).touch()
    async with ChartRepository() as source, CodingServer() as coding:
        source.files[INDEX] = later.encode()
        coding.faults.on("GET", INDEX, times=None).status(200, earlier.encode())
        plan = await planned(runs, runs.mirror(source.url, coding=coding, site=site))
    wanted = {(target, "-".join(NEWS), DIGEST) for target in ("coding", "site")}
    assert {(step.target, step.item, step.digest) for step in plan.active if step.item != "index"} == wanted
    assert {step.target for step in plan.active if step.item == "index"} == {"coding", "site"}
    assert {step.action for step in plan.steps} == {Action.COPY, Action.KEEP}
    assert len(plan.steps) == 2 * (len({entry.item for entry in read_index(later.encode()).entries}) + 1)
    assert plan.problems == ()


@pytest.mark.parametrize("size", ["cut", "whole"])
async def test_entries_that_change_places(size: str, runs: ChartRuns) -> None:
    """Two entries of one version come in another order in each revision (Go's sort is not stable): that is no news."""
    _, later = revisions(size)
    entries = read_index(later.encode()).entries
    assert {item for item, times in Counter(one.item for one in entries).items() if times > 1} == TWICE
    async with ChartRepository() as source, CodingServer() as coding:
        source.files[INDEX] = later.encode()
        pairs = [[one for one in entries if one.item == item] for item in sorted(TWICE)]
        swapped = later
        for one, other in pairs:
            assert one.digest is not None
            assert other.digest is not None
            swapped = swapped.replace(one.digest.hex, "-").replace(other.digest.hex, one.digest.hex)
            swapped = swapped.replace("digest: -\n", f"digest: {other.digest.hex}\n")
        for held in (later, swapped):
            coding.faults.clear()
            coding.faults.on("GET", INDEX, times=None).status(200, held.encode())
            assert (await planned(runs, runs.mirror(source.url, coding=coding))).active == ()


def test_cutting_keeps_what_is_odd() -> None:
    """The cut of a cut is itself: the fixture can be made again from a whole index by the same rules."""
    _, later = revisions("cut")
    assert cut(later) == later
    entries = read_index(later.encode()).entries
    assert len({entry.name for entry in entries}) == 41
    assert {entry.item for entry in entries} >= TWICE
    assert any(entry.version.startswith("v") for entry in entries)
