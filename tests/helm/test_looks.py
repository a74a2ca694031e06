"""What looking at targets costs, and what one that is slow, far away or down does to the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import Registry
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.wire.host import HostBook, HostPolicy
from tests.support.chartruns import open_chart_runs, receipts, site, sound
from tests.support.chartservers import CodingServer

MANY = [build_chart("app", f"1.{number}.0") for number in range(12)]


@pytest.fixture
async def source() -> AsyncIterator[ChartRepository]:
    async with ChartRepository() as repository:
        for chart in MANY:
            repository.add(chart)
        yield repository


async def test_patience_is_that_of_one_request(
    source: ChartRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry far away that has thousands of versions is looked at for as long as it answers."""
    async with Registry() as registry:
        book = HostBook({registry.host: HostPolicy(registry.host, requests=1)})
        async with open_chart_runs(tmp_path, book=book) as runs:
            await runs.run(runs.mirror(source.url, registry=registry))
        loop, passed = asyncio.get_running_loop(), 0.0
        clock = loop.time

        def wait() -> None:
            nonlocal passed
            passed += 20

        monkeypatch.setattr(loop, "time", lambda: clock() + passed)
        registry.faults.on("GET|HEAD", "/manifests/", times=None).do(wait)
        async with open_chart_runs(tmp_path / "lost", book=book) as runs:
            run = await runs.run(replace(runs.mirror(source.url, registry=registry), deadline=3600.0))
        assert passed >= 20 * len(MANY)
        assert run.result is Result.NOOP, run


@pytest.mark.parametrize("again", ["soon", "later"])
async def test_a_dead_target_is_no_reason_to_write_the_others(
    again: str, source: ChartRepository, tmp_path: Path
) -> None:
    """While one target is down, the indexes of the others are written when they change, and not at every run."""
    async with open_chart_runs(tmp_path) as runs, CodingServer() as coding:
        coding.faults.on("*", "", times=None).status(500)
        mirror = runs.mirror(source.url, local=LOCAL, site=runs.folder / "site", coding=coding)
        assert set(receipts(await runs.run(mirror))) >= {(LOCAL, "index"), ("site", "index"), ("coding", "index")}
        for _ in range(2):
            if again == "later":
                runs.later(days=1)
            run = await runs.run(mirror)
            assert set(receipts(run)) == {("coding", "index")}
            assert len(sound(runs.local())) == len(sound(site(runs.folder / "site"))) == len(MANY)


def asked(registry: Registry) -> dict[str, int]:
    """Return how many requests of each kind there were, and forget them."""
    kinds = {
        "GET manifest": ("GET", "/manifests/"),
        "HEAD manifest": ("HEAD", "/manifests/"),
        "tags": ("GET", "/tags/list"),
        "pushed": ("PUT", "/manifests/"),
        "all": ("*", ""),
    }
    found = {kind: registry.count(*one) for kind, one in kinds.items()}
    registry.forget()
    return found


@pytest.mark.parametrize("there", [3, 12])
async def test_a_new_version_costs_a_registry_the_same_however_many_there_are(there: int, tmp_path: Path) -> None:
    """Tags that were seen are believed within `trust`: only the new one is asked for."""
    async with ChartRepository() as repository, Registry() as registry, open_chart_runs(tmp_path) as runs:
        for chart in MANY[:there]:
            repository.add(chart)
        mirror = runs.mirror(repository.url, registry=registry)
        await runs.run(mirror)
        asked(registry)
        repository.add(build_chart("app", "2.0.0"))
        runs.later(hours=6)
        assert (await runs.run(mirror)).result is Result.SUCCESS
        found = asked(registry)
        assert (found["GET manifest"], found["HEAD manifest"], found["tags"], found["pushed"]) == (0, 2, 0, 1)
        assert found["all"] <= 10
        assert len(registry.tags["team/charts/app"]) == there + 1


async def test_tags_are_seen_again_after_trust(source: ChartRepository, tmp_path: Path) -> None:
    """What was seen longer than `trust` ago is asked for by HEAD; what moved or went is found out."""
    async with Registry() as registry, open_chart_runs(tmp_path) as runs:
        mirror = runs.mirror(source.url, registry=registry)
        await runs.run(mirror)
        asked(registry)
        runs.later(hours=13)
        assert (await runs.run(mirror)).result is Result.NOOP
        found = asked(registry)
        assert (found["GET manifest"], found["HEAD manifest"], found["tags"]) == (0, len(MANY), 1)
        tags = registry.tags["team/charts/app"]
        tags["1.2.0"] = tags["1.1.0"]
        del tags["1.3.0"]
        runs.later(hours=13)
        run = await runs.run(mirror)
        assert run.plan is not None
        assert {step.item for step in run.plan.active} == {"app-1.3.0"}
        assert any(MANY[1].digest in step.reason for step in run.plan.steps if step.item == "app-1.2.0")
        assert asked(registry)["GET manifest"] == 1
        runs.later(hours=1)
        source.add(build_chart("app", "2.0.0"))
        assert set(receipts(await runs.run(mirror))) == {("registry", "app-2.0.0")}


@pytest.mark.parametrize("lost", [b"", b"[]", b'{".place": "elsewhere"}'])
async def test_lost_notes_of_a_registry_cost_requests(lost: bytes, source: ChartRepository, tmp_path: Path) -> None:
    """Without its notes a registry is asked for all that is there, once, and nothing is pushed again."""
    async with Registry() as registry, open_chart_runs(tmp_path) as runs:
        mirror = runs.mirror(source.url, registry=registry)
        await runs.run(mirror)
        for note in runs.notes():
            note.write_bytes(lost if ".at." in note.name else b"{damaged")
        asked(registry)
        assert (await runs.run(mirror)).result is Result.NOOP
        found = asked(registry)
        assert (found["GET manifest"], found["tags"], found["pushed"]) == (len(MANY), 1, 0)
        source.add(build_chart("app", "2.0.0"))
        await runs.run(mirror)
        assert asked(registry)["GET manifest"] == 0


async def test_zero_trust(source: ChartRepository, tmp_path: Path) -> None:
    """With `trust: 0s` nothing is believed that was seen before, and HEAD is enough."""
    async with Registry() as registry, open_chart_runs(tmp_path) as runs:
        mirror = runs.mirror(source.url, registry=registry, trust=0.0)
        await runs.run(mirror)
        asked(registry)
        await runs.run(mirror)
        found = asked(registry)
        assert (found["GET manifest"], found["HEAD manifest"]) == (0, len(MANY))


async def test_what_a_look_cost_is_not_paid_again(source: ChartRepository, tmp_path: Path) -> None:
    """A run that is cancelled after its look has noted what it saw."""
    async with Registry() as registry:
        async with open_chart_runs(tmp_path / "one") as runs:
            await runs.run(runs.mirror(source.url, registry=registry))
        asked(registry)
        source.add(build_chart("app", "2.0.0"))
        async with open_chart_runs(tmp_path / "two") as runs:
            fault = source.faults.on("GET", "app-2.0.0.tgz$").hold()
            running = asyncio.ensure_future(runs.run(runs.mirror(source.url, registry=registry)))
            await fault.reached.wait()
            running.cancel()
            await asyncio.wait([running])
            assert asked(registry)["GET manifest"] == len(MANY)
            fault.release()
            assert (await runs.run(runs.mirror(source.url, registry=registry))).result is Result.SUCCESS
            assert asked(registry)["GET manifest"] == 0
