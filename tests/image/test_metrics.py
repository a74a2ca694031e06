"""What metrics count of real runs: events as the product emits them, not as a test imagines them."""

from __future__ import annotations

from mirrord.model.run import Result
from mirrord.report.metrics import Metrics
from mirrord.syncer.values import LOCAL
from mirrord.testing import build_image, push
from tests.support.world import World


def series(metrics: Metrics) -> dict[str, float]:
    lines = [text for text in metrics.text({}).decode().splitlines() if not text.startswith("#")]
    return {name: float(value) for name, value in (text.rsplit(" ", 1) for text in lines)}


async def test_bytes_are_counted_by_target(world: World) -> None:
    """Newcomer F6: bytes sent stand under the target's name, bytes read under none, as many as really went."""
    source, one = await world.registry("source"), await world.registry("one")
    image = build_image(["linux/amd64"], layers=2)
    await push(image, source, "team/app", ["main"])
    mirror = world.mirror({"repository": f"{source.host}/team/app:main"}, one, LOCAL)
    metrics = Metrics("1")
    metrics.follow([mirror], [], world.now)
    world.services.events.listen(metrics)
    source.faults.on("GET", "/blobs/").status(503)
    assert (await world.run(mirror)).result is Result.SUCCESS
    found = series(metrics)
    size = sum(len(data) for data in image.blobs.values())
    name = next(target.name for target in mirror.targets if target.name != LOCAL)
    assert found[f'mirrord_transfer_bytes_total{{direction="sent",target="{name}"}}'] == size
    assert found['mirrord_transfer_bytes_total{direction="read",target=""}'] == size
    assert not [key for key in found if "other" in key]
    assert found[f'mirrord_upstream_retries_total{{host="{source.host}",reason="server"}}'] == 1
    assert found['mirrord_sync_runs_total{kind="image",mirror="app",result="success"}'] == 1
