"""What `mirrord plan` asks: what a run needs to know, and sizes only when they are asked for."""

from __future__ import annotations

from collections import Counter

from mirrord.testing import Registry, build_image, push
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.servers import DockerRegistry, require
from tests.support.commands import Desk

TAGS = ("v1", "v2", "v3")


def asked(registry: DockerRegistry, before: int) -> Counter[str]:
    """Count requests since the first `before`, by method and by what they are about."""
    return Counter(f"{hit.method} {hit.path.split('/')[-2]}" for hit in registry.hits()[before:])


async def test_a_source_that_did_not_move(desk: Desk) -> None:
    """At real registries: a list of tags and a HEAD for each of them at the source, and no request at a target."""
    require("docker-registry")
    async with DockerRegistry(access_log=True) as source, DockerRegistry(access_log=True) as target:
        for tag in TAGS:
            await push(build_image(seed=tag), source.url, "a", [tag])
        desk.configure(
            f"targets: {{one: {{kind: image, to: {target.host}/m}}}}\n"
            "mirrors:\n"
            f"- {{name: app, kind: image, from: {{repository: {source.host}/a, tags: ['v*']}}, to: [one, local]}}\n"
        )
        assert (await desk.run("sync")).status == 0
        for words in (("plan",), ("plan", "--explain")):
            at_source, at_target = len(source.hits()), len(target.hits())
            said = await desk.run(*words)
            assert said.out.startswith("app (image): 0 to do, 6 up to date"), said
            assert asked(source, at_source) == {"GET tags": 1, "HEAD manifests": len(TAGS)}
            assert asked(target, at_target) == {}


async def test_sizes_are_asked_for_on_demand(desk: Desk) -> None:
    """A plan of charts reads the index and files beside it; `--sizes` adds a HEAD for each chart to copy, and sums."""
    charts = [build_chart("app", f"1.{number}.0") for number in range(12)]
    total = sum(len(chart.data) for chart in charts)
    async with ChartRepository() as source, Registry() as registry:
        for chart in charts:
            source.add(chart)
        desk.configure(
            f"targets: {{there: {{kind: helm, to: 'oci://{registry.host}/charts'}}}}\n"
            f"mirrors: [{{name: charts, kind: helm, from: {source.url}, to: [there, local]}}]\n"
        )
        plain = await desk.run("plan")
        index = [("GET", f"/{file}") for file in ("index.yaml", "artifacthub-repo.yml", "pubkey.gpg")]
        assert [(exchange.method, exchange.path) for exchange in source.log] == index
        assert plain.out.startswith("charts (helm): 25 to do, 0 up to date\n"), plain
        assert "BYTES" not in plain.out
        source.wire.exchanges.clear()
        sized = await desk.run("plan", "--sizes")
        assert Counter(exchange.method for exchange in source.log) == {"GET": len(index), "HEAD": len(charts)}
        assert f"25 to do (at least {2 * total / 1024:.1f} KiB)" in sized.out
        assert sized.out.count(f"  {total / 1024:.1f} KiB  ") == 2
