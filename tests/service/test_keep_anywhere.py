"""`keep` means the same on a disk and in a bucket, where clients ask other replicas than the one that collects."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from mirrord.blobs import s3, s3_uses
from mirrord.blobs.collector import Collector
from mirrord.blobs.s3 import S3Store
from mirrord.blobs.s3_uses import SharedUses
from mirrord.blobs.uses import DiskUses
from mirrord.commands import Sync
from mirrord.daemon import local
from mirrord.daemon.collecting import GarbageCollection
from mirrord.model.collected import Collected
from mirrord.plan.retention import DAY
from mirrord.syncer.serving import Request
from mirrord.syncers.helm import front as charts
from mirrord.syncers.image import front as images
from mirrord.testing import Image, Registry, build_image, push
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.commands import Desk
from tests.support.gateway import ACCESS, BUCKET, SECRET, gateway

TAGS = ("1.0", "1.1", "1.2")
OLD_CHART, NEW_CHART = (f"charts/app-{version}.tgz" for version in ("1.0.0", "2.0.0"))


class Wall:
    """A clock that is ahead."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def image(seed: str) -> Image:
    return build_image(["linux/amd64"], layer_size=500, seed=seed)


@dataclass
class Place:
    """Two machines that have one `local`; on a disk they are the same one.

    Attributes:
        runs: runs mirrors, and collects.
        serves: clients ask it.
        settings: of both.
        source: of images.
        charts: of charts.
        wall: the clock of what is kept and used.
        prefix: of the bucket, "" on a disk.
    """

    runs: Desk
    serves: Desk
    settings: str
    source: Registry
    charts: ChartRepository
    wall: Wall
    prefix: str

    def configure(self, keep: str) -> None:
        for desk in (self.runs, self.serves):
            desk.configure(
                f"settings: {{listen: '127.0.0.1:0', {self.settings}}}\nmirrors:\n"
                f"  - {{name: app, kind: image, from: {{repository: {self.source.host}/up/app, tags: ['*']}},"
                f" keep: {keep}, to: local}}\n"
                f"  - {{name: web, kind: helm, from: '{self.charts.url}', keep: {keep}, to: local}}\n"
            )

    async def sync(self) -> None:
        assert {str(run.result) for run in await self.runs.carry_out(Sync())} <= {"success", "noop"}

    async def collect(self, *, dry: bool = False) -> Collected:
        async with self.runs.opened() as runtime:
            assert runtime.collector
            found = await GarbageCollection(runtime, runtime.collector).collect(dry=dry)
        assert found.troubles == ()
        return found

    async def going(self, keep: str) -> set[str]:
        """Return what would go by some rules; of what no tag names any more the content is "old"."""
        self.configure(keep)
        return {one.name or "old" for one in (await self.collect(dry=True)).gone}


@pytest.fixture(params=["disk", "bucket"])
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    wall = Wall()
    for module, kind in ((local, DiskUses), (local, Collector), (s3_uses, SharedUses), (s3, S3Store)):
        monkeypatch.setattr(module, kind.__name__, partial(kind, clock=wall))
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    runs = serves = Desk(folders[0])
    settings = prefix = ""
    if request.param == "bucket":
        prefix, serves = f"keep/{tmp_path.name}", Desk(folders[1])
        keys = []
        for name, word in (("access", ACCESS), ("secret", SECRET)):
            (tmp_path / name).write_text(word)
            (tmp_path / name).chmod(0o400)
            keys.append(f"{name}_key: {{file: {tmp_path / name}}}")
        settings = f"blobs: {{url: 's3://{BUCKET}/{prefix}', endpoint: '{gateway().endpoint}', {', '.join(keys)}}}"
    async with Registry() as source, ChartRepository() as repository:
        yield Place(runs, serves, settings, source, repository, wall, prefix)


async def test_every_form_of_it(place: Place) -> None:
    """The newest, what is young, what clients asked another replica for, some of both, and all."""
    for tag in TAGS:
        await push(image(tag), place.source, "up/app", [tag])
    for version in ("1.0.0", "2.0.0"):
        place.charts.add(build_chart("app", version))
    for build in ("one", "two"):
        await push(image(build), place.source, "up/app", ["main"])
        place.configure("all")
        await place.sync()
    place.wall.ahead = 25 * DAY
    async with place.serves.opened() as runtime:
        services = runtime.snapshot.services
        assert (await images.respond(Request("GET", "/v2/", "app/manifests/1.0", {}), services)).status == 200
        assert (await charts.respond(Request("GET", "/helm/", f"web/{OLD_CHART}", {}), services)).status == 200
    if place.prefix:  # the other machine told what its clients were reading a moment ago
        assert await place.going("{newest: 1}") == {"1.1", "old"}
    place.wall.ahead = 40 * DAY
    assert await place.going("{newest: 1}") == {"1.0", "1.1", "old", OLD_CHART}
    assert await place.going("{days: 30}") == {*TAGS, "old", OLD_CHART, NEW_CHART}
    assert await place.going("{days: 50}") == set()
    assert await place.going("{unused: 30d}") == {"1.1", "1.2", "old", NEW_CHART}
    assert await place.going("{newest: 1, days: 50}") == set()
    assert await place.going("all") == set()
    assert await place.going("{newest: 1, unused: 30d}") == {"1.1", "old"}
    before = await place.collect()
    assert {one.name or "old" for one in before.gone} == {"1.1", "old"}
    assert before.freed == sum(one.size for one in before.gone) > 0
    await place.sync()  # and the next run does not bring it back
    assert (await place.collect()).gone == ()
    async with place.serves.opened() as runtime:
        for tag, status in (("1.0", 200), ("1.1", 404), ("1.2", 200), ("main", 200)):
            asked = Request("GET", "/v2/", f"app/manifests/{tag}", {})
            assert (await images.respond(asked, runtime.snapshot.services)).status == status
    if place.prefix:
        kept = {key.rpartition("/")[2] for key in gateway().objects(place.prefix) if key.startswith("blobs/")}
        assert not {digest.partition(":")[2] for digest in image("1.1").blobs} & kept
        assert {digest.partition(":")[2] for digest in image("1.2").blobs} <= kept
