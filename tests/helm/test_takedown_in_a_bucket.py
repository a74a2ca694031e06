"""Takedowns of charts where `local` is in a bucket."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from mirrord.blobs.repositories import ManifestRef
from mirrord.blobs.s3 import S3Store
from mirrord.blobs.s3_repositories import S3Repositories
from mirrord.model.digest import Digest
from mirrord.names.denied import Denied, DeniedEntry
from mirrord.syncer.values import LOCAL
from mirrord.syncers.helm.syncer import SYNCER
from mirrord.syncers.helm.transfer.target import GZIP
from mirrord.testing.charts import build_chart
from mirrord.wire.bucket import ObjectBucket
from tests.support.chartruns import open_chart_runs
from tests.support.gateway import gateway

GONE, LEFT = build_chart("app", "1.0.0"), build_chart("app", "2.0.0")


async def test_an_earlier_archive_goes(tmp_path: Path) -> None:
    """It is kept by its digest alone, so it is read to know what it is, by two at once, who leave no copies."""
    objects = ObjectBucket(gateway().address(f"helm/{tmp_path.name}"))
    store = S3Store(objects)
    names = S3Repositories(objects, confirm=store.confirm)
    tags = {f"{Digest(chart.digest).hex}.tgz": Digest(chart.digest) for chart in (GONE, LEFT)}
    for chart in (GONE, LEFT):
        await store.put(Digest(chart.digest), chart.data)
    links = {Digest(chart.digest): ManifestRef(GZIP, len(chart.data)) for chart in (GONE, LEFT)}
    await names.publish("_helm/app/earlier", links, tags)
    async with open_chart_runs(tmp_path) as runs:
        mirror = runs.mirror("https://charts.example", local=LOCAL)
        services = replace(runs.services, blobs=store, repositories=names, mirrors={"helm": [mirror]})
        denied = Denied([DeniedEntry(0, "asked to", mirror="app", item="app-1.0.0")])
        assert SYNCER.takes_down
        purge = SYNCER.takes_down().purge
        await asyncio.gather(*(purge(denied, services, None) for _ in range(2)))
        state = await names.state("_helm/app/earlier")
        assert state
        assert {*state.tags.values()} == {LEFT.digest}
        assert [*services.scratch.iterdir()] == []
