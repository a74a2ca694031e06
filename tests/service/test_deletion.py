"""docs/explanation/deletion.md on the state directory: what a start removes from `local`, and what it never does."""

from __future__ import annotations

from pathlib import Path

from mirrord.testing import Registry, build_image, push
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.commands import Desk

CONFIGURATION = """\
settings: {{listen: "127.0.0.1:0"}}
mirrors:
  - {{name: app, kind: image, from: {{repository: "{source}/team/app", tags: ["*"]}}, to: local}}
  - {{name: charts, kind: helm, from: "{charts}", to: local, removed: delete, max_loss: 1.0}}
"""


def content(desk: Desk) -> set[str]:
    """Return the digests in the embedded store."""
    return {f"sha256:{file.name}" for file in (desk.folder / "state" / "blobs" / "sha256").glob("*/*")}


async def test_images_stay_by_digest_and_deleted_charts_for_a_restore(tmp_path: Path) -> None:
    """An image whose tag moved or vanished is kept for good; a deleted version for some time; replaced indexes go."""
    desk = Desk(tmp_path)
    async with Registry() as source, ChartRepository() as charts:
        first, second, gone = (build_image(seed=seed, layers=1, layer_size=500) for seed in ("one", "two", "gone"))
        await push(first, source, "team/app", ["main"])
        await push(gone, source, "team/app", ["old"])
        kept, deleted = build_chart("app", "1.1.0"), build_chart("app", "1.0.0")
        charts.add(kept)
        charts.add(deleted)
        desk.configure(CONFIGURATION.format(source=source.host, charts=charts.url))
        assert (await desk.run("sync")).status == 0
        await push(second, source, "team/app", ["main"])
        del source.tags["team/app"]["old"]
        charts.entries = [entry for entry in charts.entries if entry["version"] != "1.0.0"]
        charts.publish()
        ended = await desk.run("sync")
        assert ended.status == 0, ended
        before = content(desk)
        assert str(deleted.digest) in before
        assert (await desk.run("sync")).status == 0  # another start
    after = content(desk)
    for image in (first, second, gone):
        assert {str(digest) for digest in (*image.blobs, *image.manifests)} <= after
    assert str(kept.digest) in after
    assert str(deleted.digest) in after
    assert len(after) < len(before)  # without the index that listed it
