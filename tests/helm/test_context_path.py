"""Where ChartMuseum's API is: below a context path, at Gitea, and behind a proxy that hides it (helm F5)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.errors import ConfigError
from mirrord.model.run import Result
from mirrord.syncer.values import Mirror, Target
from mirrord.syncers.helm.spec import HelmTarget
from mirrord.syncers.helm.syncer import SYNCER
from mirrord.syncers.helm.transfer.museum_api import api_url, below
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.servers import require
from mirrord.wire.host import HostBook
from tests.support.chartprograms import open_chartmuseum
from tests.support.chartruns import ChartRuns, open_chart_runs, receipts
from tests.support.chartservers import ChartMuseumServer
from tests.support.gitea import Gitea
from tests.support.giteacharts import GiteaServer
from tests.support.signing import ShapeSigner

A1, A2 = build_chart("app", "1.0.0"), build_chart("app", "1.1.0+build.2")
AGAIN = build_chart("app", "1.0.0", metadata={"description": "packaged again"})
SIGNER = ShapeSigner()


@pytest.fixture
async def source() -> AsyncIterator[ChartRepository]:
    async with ChartRepository() as repository:
        for chart in (A1, A2):
            repository.add(chart, prov=chart.provenance(SIGNER))
        yield repository


@contextlib.asynccontextmanager
async def gitea_of(kind: str, folder: Path) -> AsyncIterator[tuple[str, HostBook, GiteaServer | None]]:
    """Give the URL of a chart registry of a real Gitea or of its double."""
    if kind == "double":
        async with GiteaServer() as server:
            yield server.url, HostBook(), server
        return
    require("gitea")
    async with Gitea(folder / "gitea", packages=True) as host:
        yield f"http://{host.host}/api/packages/robot/helm", HostBook({host.host: host.policy}), None


def museum(runs: ChartRuns, source: ChartRepository, url: str, *, changed: str = "keep", **options: str) -> Mirror:
    """Make a mirror of `source` to a server that speaks ChartMuseum's API at `url`."""
    made = runs.mirror(source.url, keys={"changed": changed}, museum="/placeholder")
    spoken = HelmTarget.model_validate({"api": "chartmuseum", **options})
    return type(made)(made.name, made.kind, made.spec, (Target("museum", "helm", url, spoken),), deadline=60.0)


@pytest.mark.parametrize("kind", ["real", "double"])
async def test_gitea(kind: str, source: ChartRepository, tmp_path: Path) -> None:
    """Gitea is written to below its API, and looked at by name and version: its index has no digests.

    What is there already, and nobody remembers, is fetched once to know it, and neither sent nor fetched again.
    """
    async with gitea_of(kind, tmp_path) as (url, book, double):
        async with open_chart_runs(tmp_path / "one", book=book) as runs:
            mirror = museum(runs, source, url)
            assert (await runs.run(mirror)).result is Result.SUCCESS
            source.add(build_chart("base", "0.1.0"))
            again = await runs.run(mirror)
            assert again.result is Result.SUCCESS
            assert {item for _, item in receipts(again)} == {"base-0.1.0", "index"}
        if double:
            assert double.count("POST") - double.count("POST", "/prov$") == 3
            assert double.count("GET", "tgz$") == 0  # what we put there we know
            assert double.files[A1.file] == A1.data
        async with open_chart_runs(tmp_path / "two", book=book) as others:
            mirror = museum(others, source, url)
            assert (await others.run(mirror)).result is Result.NOOP
            source.add(build_chart("base", "0.2.0"))
            assert {item for _, item in receipts(await others.run(mirror))} == {"base-0.2.0", "index"}
        if double:
            assert double.count("GET", "tgz$") == 3


@pytest.mark.parametrize("changed", ["keep", "replace"])
async def test_gitea_has_something_else(changed: str, source: ChartRepository, tmp_path: Path) -> None:
    """A version with other content is seen although no index tells, and replaced when that is wanted."""
    async with GiteaServer() as server, open_chart_runs(tmp_path) as runs:
        server.store(AGAIN.file, AGAIN.data)
        mirror = museum(runs, source, server.url, changed=changed)
        assert (await runs.run(mirror)).result is Result.SUCCESS
        assert server.files[A1.file] == (A1.data if changed == "replace" else AGAIN.data)
        source.add(build_chart("base", "0.1.0"))
        run = await runs.run(mirror)
        assert run.plan is not None
        assert {step.item for step in run.plan.active} == {"base-0.1.0", "index"}


@pytest.mark.parametrize("status", [401, 404])
async def test_archives_that_may_not_be_read(status: int, source: ChartRepository, tmp_path: Path) -> None:
    """Where an archive may not be fetched its name and version have to do; where it is lost it comes again."""
    async with GiteaServer() as server:
        async with open_chart_runs(tmp_path / "one") as runs:
            await runs.run(museum(runs, source, server.url))
        posts = server.count("POST", "/api/charts$")
        async with open_chart_runs(tmp_path / "two") as runs:
            server.faults.on("GET", "tgz$", times=None).status(status)
            assert (await runs.run(museum(runs, source, server.url))).result is (
                Result.NOOP if status == 401 else Result.SUCCESS
            )
        assert server.count("POST", "/api/charts$") - posts == (0 if status == 401 else 2)


@pytest.mark.parametrize("told", [True, False])
async def test_context_paths(told: bool, source: ChartRepository, runs: ChartRuns) -> None:
    """A context path is taken from the index, as cm-push does, or from the configuration."""
    async with ChartMuseumServer("/museum/org/life", context="/museum") as server:
        server.says = "/museum" if told else ""
        mirror = museum(runs, source, server.url, **({} if told else {"context_path": "/museum"}))
        assert (await runs.run(mirror)).result is Result.SUCCESS
        assert server.count("POST", "^/museum/api/org/life/charts$") == 2
        assert server.count("POST", "^/museum/api/org/life/prov$") == 2


async def test_context_path_of_the_real_one(source: ChartRepository, runs: ChartRuns) -> None:
    """The real ChartMuseum below a context path tells it, and is written to without a key."""
    require("chartmuseum")
    async with open_chartmuseum(None, "--context-path=/museum", "--depth=2") as server:
        run = await runs.run(museum(runs, source, f"{server.url}/museum/org/life"))
        assert run.result is Result.SUCCESS, run
        files = {file.name for file in (server.storage / "org/life").iterdir()}
        assert files == {f"{chart.file}{end}" for chart in (A1, A2) for end in ("", ".prov")}


async def test_a_context_path_that_a_proxy_hides(source: ChartRepository, runs: ChartRuns) -> None:
    """What an index says of a path that the repository's URL is not below is of no use, and not used."""
    async with ChartMuseumServer("/org", context="") as server:
        server.says = "/museum"
        assert (await runs.run(museum(runs, source, server.url))).result is Result.SUCCESS
        assert server.count("POST", "^/api/org/charts$") == 2


@pytest.mark.parametrize(
    ("url", "context", "inside"),
    [
        ("https://h/ctx/org", "/ctx", True),
        ("https://h/ctx", "/ctx/", True),
        ("https://h/ctxx", "/ctx", False),
        ("https://h/org", "", True),
        ("https://h", "/ctx", False),
    ],
)
def test_below(url: str, context: str, inside: bool) -> None:
    """A path is below another one by whole segments."""
    assert below(url, context) is inside


def test_gitlab() -> None:
    """GitLab's channel is a repository below a context path."""
    context = "/api/v4/projects/7/packages/helm"
    assert api_url(f"https://gitlab.com{context}/stable", context) == f"https://gitlab.com{context}/api/stable/charts"


@pytest.mark.parametrize(("to", "api"), [("/srv/charts", None), ("oci://h/p", None), ("https://h/p", "coding")])
def test_a_context_path_where_there_is_none(to: str, api: str | None, runs: ChartRuns) -> None:
    """A context path of anything but a ChartMuseum is a mistake, and said so."""
    made = runs.mirror("https://h/charts", museum="/placeholder")
    target = Target("museum", "helm", to, HelmTarget.model_validate({"api": api, "context_path": "/ctx"}))
    with pytest.raises(ConfigError, match="context_path"):
        SYNCER.places(type(made)(made.name, made.kind, made.spec, (target,)))


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[ChartRuns]:
    async with open_chart_runs(tmp_path) as world:
        yield world
