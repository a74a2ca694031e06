"""Indexes of ours in the form in which they are kept: what that saves, and what it must not hide."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirrord.model.digest import Digest
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.helm import syncer
from mirrord.syncers.helm.transfer import published
from mirrord.syncers.helm.transfer.emit import emit_json, emit_yaml
from mirrord.syncers.helm.transfer.target import IndexFile
from mirrord.syncers.helm.upstream import poll
from mirrord.syncers.helm.upstream.reading import Index, read_index
from mirrord.testing.chart_repository import INDEX, ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.chartruns import ChartRuns, open_chart_runs, site, sound

DATA = Path(__file__).parent / "data" / "grafana-cut.yaml.gz"
CHARTS = 30


class Counted:
    """Counts the indexes that are read, by whose they are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.upstream = self.ours = self.looks = 0
        stat = os.stat

        def upstream(data: bytes) -> Index:
            self.upstream += 1
            return read_index(data)

        def ours(data: bytes) -> Index:
            self.ours += 1
            return read_index(data)

        def looked(place: Any, **how: Any) -> os.stat_result:
            self.looks += isinstance(place, str)
            return stat(place, **how)

        monkeypatch.setattr(poll, "read_index", upstream)
        monkeypatch.setattr(syncer, "read_index", ours)
        monkeypatch.setattr(os, "stat", looked)

    def clear(self) -> None:
        """Begin anew."""
        self.upstream = self.ours = self.looks = 0


@pytest.fixture
async def source() -> AsyncIterator[ChartRepository]:
    async with ChartRepository() as repository:
        for number in range(CHARTS):
            repository.add(build_chart("app", f"1.{number}.0"))
        yield repository


async def test_one_new_version_reads_one_index(
    source: ChartRepository, runs: ChartRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a version is new, upstream's index is read once and no index of ours; each file is looked for twice."""
    mirror = runs.mirror(source.url, local=LOCAL, site=runs.folder / "site")
    assert (await runs.run(mirror)).result is Result.SUCCESS
    for number in range(2):
        source.add(build_chart("app", f"2.{number}.0"))
        with monkeypatch.context() as patched:
            counted = Counted(patched)
            assert (await runs.run(mirror)).result is Result.SUCCESS
        assert (counted.upstream, counted.ours) == (1, 0)
        assert counted.looks <= 2 * CHARTS + 40
        listed = set(sound(runs.local()))
        assert len(listed) == CHARTS + number + 1
        assert set(sound(site(runs.folder / "site"))) == listed


@pytest.mark.parametrize("harm", ["gone", "damaged", "another form", "another index"])
async def test_what_is_kept_is_never_needed(
    harm: str, source: ChartRepository, runs: ChartRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where what is kept is gone or wrong, or not of the index that is there, that index is read, and kept again."""
    mirror = runs.mirror(source.url, local=LOCAL, site=runs.folder / "site")
    if harm == "another form":
        monkeypatch.setattr(published, "_HEAD", b"0\n")
    await runs.run(mirror)
    monkeypatch.undo()
    folder = runs.folder / "links" / "_helm" / "app" / "published"
    (name,) = {one.digest for one in await _kept(runs)}
    blob = runs.folder / "blobs" / "sha256" / name.hex[:2] / name.hex
    if harm == "gone":
        shutil.rmtree(folder)
    elif harm == "damaged":
        blob.write_bytes(blob.read_bytes().replace(b"1.1.0", b"9.9.9"))
    elif harm == "another index":
        place = runs.folder / "site" / INDEX
        place.write_bytes(place.read_bytes() + b"# by hand\n")
    for ours in (1 if harm == "another index" else 2, 0):
        source.add(build_chart("app", f"2.{ours}.0"))
        with monkeypatch.context() as patched:
            counted = Counted(patched)
            async with open_chart_runs(runs.folder) as again:  # as after a restart
                again.store, again.now = runs.store, runs.now
                assert (await again.run(mirror)).result is Result.SUCCESS
        listed = set(sound(runs.local()))
        assert "app-9.9.9" not in listed
        assert set(sound(site(runs.folder / "site"))) == listed
        assert (counted.ours > 0) == (ours > 0)
    assert len(listed) == CHARTS + 2


@pytest.mark.parametrize("emit", [emit_yaml, emit_json])
def test_it_says_what_the_index_says(emit: Any) -> None:
    """What is kept of a real index is what a reader finds in it, also of versions that upstream has otherwise now."""
    upstream = read_index(gzip.decompress(DATA.read_bytes())).entries
    once = {entry.item: replace(entry, digest=entry.digest or Digest.of(b"")) for entry in upstream}
    charts = tuple(once.values())
    index = IndexFile(emit(charts), charts)
    found = {chart.item: chart for chart in read_index(index.data).entries}
    data = published._written(index)
    assert published._read(data, {}) == found
    assert published._read(data, {chart.item: chart for chart in charts}) == found
    changed = {chart.item: replace(chart, digest=Digest.of(b"other"), entry={}) for chart in charts}
    assert published._read(data, changed) == found


async def _kept(runs: ChartRuns) -> list[Any]:
    assert runs.services.repositories is not None
    assert runs.services.blobs is not None
    state = await runs.services.repositories.state("_helm/app/published")
    assert state is not None
    assert len(state.tags) == 2
    return [type("Kept", (), {"digest": digest}) for digest in state.tags.values()]
