"""What lies beside a chart or an index is optional: whatever is wrong with it, the charts are published."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.helm.syncer import SYNCER
from mirrord.testing import Registry
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.chartprograms import helm, helms
from tests.support.chartruns import ChartRuns, site, sound
from tests.support.chartservers import ChartMuseumServer
from tests.support.frontserver import open_front
from tests.support.signing import ShapeSigner

APP, BASE = build_chart("app", "1.0.0"), build_chart("base", "0.1.0")
SIGNER = ShapeSigner()
PROV = f"charts/{APP.file}.prov"
GOOD = APP.provenance(SIGNER)


@pytest.fixture
async def source() -> AsyncIterator[ChartRepository]:
    async with ChartRepository() as repository:
        repository.add(APP, prov=GOOD)
        repository.add(BASE)
        yield repository


def put(prov: bytes) -> Callable[[ChartRepository], object]:
    return lambda source: source.files.update({PROV: prov})


def fail(status: int) -> Callable[[ChartRepository], object]:
    return lambda source: source.faults.on("GET", PROV, times=None).status(status)


BROKEN: dict[str, tuple[Callable[[ChartRepository], object], str]] = {
    "of another archive": (put(BASE.provenance(SIGNER)), "signs 'base-0.1.0.tgz'"),
    "with another sum": (put(APP.provenance(SIGNER, digest=str(BASE.digest))), "but the archive is"),
    "cut off": (put(GOOD[:-20]), "not a whole clear-signed text"),
    "without sums": (put(GOOD.replace(b"files:", b"file:")), "no list of files"),
    "endless": (put(GOOD + bytes(2 << 20)), "more than"),
    "server in trouble": (fail(503), "503"),
    "gateway in trouble": (fail(502), "502"),
    "asked to wait": (fail(429), "429"),
    "connection that drops": (lambda source: source.faults.on("GET", PROV, times=None).close(), "prov"),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_chart_goes_without_its_broken_provenance(
    broken: str, source: ChartRepository, runs: ChartRuns
) -> None:
    """A provenance that is wrong, or cannot be had, is left out and told as a problem; the archive is published."""
    spoil, said = BROKEN[broken]
    spoil(source)
    async with ChartMuseumServer() as museum, Registry() as registry:
        folder = runs.folder / "site"
        run = await runs.run(runs.mirror(source.url, local=LOCAL, site=folder, museum=museum, registry=registry))
        assert run.result is Result.SUCCESS
        (problem,) = run.problems
        assert problem.startswith("app-1.0.0: published without provenance: ")
        assert said in problem
        for shown in (runs.local(), site(folder)):
            assert sound(shown) == {"app-1.0.0": APP.digest, "base-0.1.0": BASE.digest}
            assert PROV not in shown
        assert set(museum.files) == {APP.file, BASE.file}
        assert set(registry.tags["team/charts/app"]) == {"1.0.0"}


async def test_an_unsigned_text_is_no_provenance(source: ChartRepository, runs: ChartRuns) -> None:
    """What is not signed at all is no provenance: nothing is left out, and there is nothing to tell."""
    put(b"files:\n  app-1.0.0.tgz: sha256:0\n")(source)
    run = await runs.run(runs.mirror(source.url, local=LOCAL))
    assert (run.result, run.problems) == (Result.SUCCESS, ())
    assert PROV not in runs.local()


@pytest.mark.parametrize(
    "binary", helms() or [pytest.param("", marks=pytest.mark.skip(reason="helm is not installed"))]
)
async def test_helm_pulls_what_lost_its_provenance(binary: str, source: ChartRepository, runs: ChartRuns) -> None:
    """Real helm, which asks for a provenance only to verify, pulls the archive from the mirror as from upstream."""
    put(BASE.provenance(SIGNER))(source)
    await runs.run(runs.mirror(source.url, local=LOCAL))
    async with open_front(runs.services, SYNCER) as url, helm(binary) as run:
        assert (await run("repo", "add", "mirror", f"{url}/helm/app")).status == 0
        pulled = await run("pull", "mirror/app", "--destination", runs.folder)
        assert pulled.status == 0, pulled.output
        assert (runs.folder / APP.file).read_bytes() == APP.data


async def test_a_replaced_archive_loses_the_provenance_of_the_old_one(source: ChartRepository, runs: ChartRuns) -> None:
    """A folder never shows a new archive beside the signature of the one before."""
    mirror = runs.mirror(source.url, keys={"changed": "replace"}, site=runs.folder / "site", local=LOCAL)
    await runs.run(mirror)
    again = build_chart("app", "1.0.0", metadata={"description": "packaged again"})
    source.entries.clear()
    source.add(again)
    source.add(BASE)
    assert (await runs.run(mirror)).problems != ()  # the old signature still lies upstream
    for shown in (runs.local(), site(runs.folder / "site")):
        assert sound(shown)["app-1.0.0"] == again.digest
        assert PROV not in shown


@pytest.mark.parametrize("fault", ["status", "close"])
async def test_beside_the_index(fault: str, source: ChartRepository, runs: ChartRuns) -> None:
    """A side file that cannot be had now stays the one of before, and costs the run nothing; one that is gone goes."""
    source.files |= {"pubkey.gpg": b"key", "artifacthub-repo.yml": b"owners: []"}
    mirror = runs.mirror(source.url, local=LOCAL, site=runs.folder / "site")
    await runs.run(mirror)
    source.add(build_chart("app", "1.1.0"))
    bad = source.faults.on("GET", "pubkey", times=None)
    bad.status(500) if fault == "status" else bad.close()
    del source.files["artifacthub-repo.yml"]
    run = await runs.run(mirror)
    assert run.result is Result.SUCCESS
    assert [problem.partition(":")[0] for problem in run.problems] == ["pubkey.gpg"]
    assert "app-1.1.0" in sound(runs.local())
    assert runs.local()["pubkey.gpg"] == b"key"
    assert "artifacthub-repo.yml" not in runs.local()
    source.faults.clear()
    source.files["pubkey.gpg"] = b"new"
    source.add(build_chart("app", "1.2.0"))
    assert (await runs.run(mirror)).problems == ()
    assert runs.local()["pubkey.gpg"] == b"new"


async def test_side_files_that_were_never_there_are_no_problem(source: ChartRepository, runs: ChartRuns) -> None:
    """A server that fails for side files which nobody ever saw is not reported for it."""
    source.faults.on("GET", "pubkey|artifacthub", times=None).close()
    run = await runs.run(runs.mirror(source.url, local=LOCAL))
    assert (run.result, run.problems) == (Result.SUCCESS, ())
