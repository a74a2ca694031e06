"""`mirrord prune` of charts: as an operator types it, killed and failed at every place, and beside who reads."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import closing, suppress
from functools import partial
from typing import Final

import pytest
import pytest_asyncio

from mirrord import failpoints
from mirrord.commands import Prune, Sync
from mirrord.errors import MirrordError
from mirrord.failpoints import CRASH_STATUS, NAMES
from mirrord.model.digest import Digest
from mirrord.model.run import Result, Run
from mirrord.testing import DockerRegistry, require
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from tests.support.chartruns import site, sound
from tests.support.chartservers import ChartMuseumServer
from tests.support.commands import Desk
from tests.support.signing import ShapeSigner
from tests.support.walking import leftovers, walk

pytestmark = pytest.mark.asyncio(loop_scope="module")

Both = tuple[DockerRegistry, DockerRegistry]
GOOD: Final = {Result.SUCCESS, Result.NOOP}
PLACES: Final = (
    "facts.noted",
    "ledger.intended",
    "remove.tag",
    "links.written",
    "links.renamed",
    "store.linked",
    "ledger.settled",
    "record.receipts",
    "record.days",
)
"""What a prune of charts passes."""
LATER: Final = ("ledger.intended:2", "remove.tag:1")
"""The same places after others were passed: between the targets."""
FAILING: Final = ("ledger.intended", "remove.tag", "links.written", "links.renamed", "ledger.settled")
"""Those where a step can fail while others go on."""
SIGNER = ShapeSigner()
CHARTS = {f"app-{number}.0.0": build_chart("app", f"{number}.0.0") for number in (1, 2, 3)}
GONE = "app-1.0.0"
LEFT: Final = CHARTS.keys() - {GONE}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both() -> AsyncIterator[Both]:
    """A registry that deletes manifests only, and one that deletes tags."""
    require("docker-registry", "registry3")
    async with DockerRegistry(access_log=True) as old, DockerRegistry(access_log=True, program="registry3") as new:
        yield old, new


@pytest_asyncio.fixture(loop_scope="module")
async def work(desk: Desk, both: Both) -> AsyncIterator[Work]:
    async with ChartRepository() as source, ChartMuseumServer() as museum:
        yield Work(desk, source, museum, both)


class Work:
    """A mirror of signed charts to two registries, a ChartMuseum, a folder and `local`; upstream has lost a version."""

    def __init__(self, desk: Desk, source: ChartRepository, museum: ChartMuseumServer, both: Both) -> None:
        self.desk, self.source, self.museum, self.both = desk, source, museum, both
        self.state = desk.folder / "state"
        self.prefix = f"t{secrets.token_hex(4)}"

    async def prepare(self, *, look: bool = True) -> None:
        """Mirror, and lose; with `look` the first of the two prunes that have to agree has been there."""
        for chart in CHARTS.values():
            self.source.add(chart, prov=chart.provenance(SIGNER))
        one, two = (f"oci://{registry.host}/{self.prefix}" for registry in self.both)
        self.desk.configure(
            "settings: {listen: '127.0.0.1:0'}\n"
            f"targets: {{one: {{kind: helm, to: '{one}'}}, two: {{kind: helm, to: '{two}'}}, "
            f"site: {{kind: helm, to: {self.desk.folder}/site}}, "
            f"museum: {{kind: helm, to: '{self.museum.url}', api: chartmuseum}}}}\n"
            f"mirrors: [{{name: app, kind: helm, from: '{self.source.url}', to: [one, two, museum, site, local], "
            "prune: {after: 0s}}]\n"
        )
        assert (await self.once("sync")).result is Result.SUCCESS
        assert await self.found() == [CHARTS.keys()] * 4
        self.source.entries = [one for one in self.source.entries if one["version"] != "1.0.0"]
        self.source.publish()
        assert (await self.once("sync")).result is Result.NOOP
        if look:
            first = await self.once()
            assert (first.result, first.receipts) == (Result.NOOP, ()), first

    async def once(self, word: str = "prune") -> Run:
        command = Sync(("app",)) if word == "sync" else Prune(("app",))
        (run,) = await self.desk.carry_out(command)
        return run

    def site(self) -> Mapping[str, bytes]:
        return site(self.desk.folder / "site")

    async def found(self) -> list[set[str]]:
        """List what each server and the folder has; all that is named is there, and is what it says."""
        tags = [set(await walk(registry, f"{self.prefix}/app")) for registry in self.both]
        museum = {file.removesuffix(".tgz") for file in self.museum.files if file.endswith(".tgz")}
        for item in museum:
            assert self.museum.files[f"{item}.tgz"] == CHARTS[item].data
            assert f"{item}.tgz.prov" in self.museum.files
        return [*({f"app-{tag}" for tag in some} for some in tags), museum, set(sound(self.site()))]

    async def sound(self) -> None:
        """What is wanted is everywhere."""
        for items in await self.found():
            assert LEFT <= items <= CHARTS.keys()
        for item in LEFT:
            assert f"charts/{item}.tgz.prov" in self.site()

    async def converge(self) -> None:
        """Once more: all that is not wanted is gone, a further one writes nothing, and nothing comes back."""
        run = await self.once()
        assert run.result in GOOD, (run.error, run.receipts, run.plan)
        assert await self.found() == [LEFT] * 4
        archives = {name for name in self.site() if name.startswith("charts/")}
        with closing(sqlite3.connect(self.state / "mirrord.db")) as link:
            assert link.execute("select name from ledger where outcome = 'open'").fetchall() == []
            known = link.execute("select target, item from known where target <> 'local'").fetchall()
        assert {item for _, item in known} == LEFT
        writes = self.writes()
        assert (await self.once()).result is Result.NOOP
        assert (await self.once("sync")).result is Result.NOOP
        assert self.writes() == writes
        assert leftovers(self.state) == []
        assert {name for name in archives if name.startswith(f"charts/{GONE}")} == set()

    def writes(self) -> int:
        hits = [hit.method for registry in self.both for hit in registry.hits()]
        return sum(method not in ("GET", "HEAD") for method in [*hits, *(one.method for one in self.museum.log)])


async def test_from_the_plan_to_the_removal(work: Work) -> None:
    """The plan names version, target and from where it could come back; nothing goes without `--apply`."""
    await work.prepare()
    said = await work.desk.run("prune", "app")
    assert said.status == 0, said
    assert "app (helm): 4 to do, 0 left there" in said.out
    row = next(line for line in said.out.splitlines() if line.startswith("delete"))
    assert "upstream does not list it any more; can be brought back from local" in row
    assert "nothing was removed; `--apply` does it" in said.err
    assert await work.found() == [CHARTS.keys()] * 4
    done = await work.desk.run("prune", "app", "--apply")
    assert done.status == 0, done
    assert {tuple(line.split()[:2]) for line in done.out.splitlines() if "deleted" in line} == {
        (target, f"{GONE}.tgz") for target in ("one", "two", "site", "museum")
    }
    status = (await work.desk.run("status", "--json")).document["mirrors"][0]
    assert {one["name"]: one["items"] for one in status["targets"]} == {
        **dict.fromkeys(("one", "two", "site", "museum"), 2),
        "local": 3,
    }
    back = await work.desk.run("restore", "app", GONE)  # a ChartMuseum that had so many versions takes so many again
    assert back.status == 0, back
    assert await work.found() == [CHARTS.keys()] * 4
    await work.once()
    assert await work.found() == [CHARTS.keys()] * 4


async def test_a_folder_is_whole_at_every_moment(work: Work) -> None:
    """Whoever reads before, between or after the renames finds each archive that the index names."""
    await work.prepare()
    seen: list[Mapping[str, Digest]] = []
    for place in ("links.written", "links.renamed"):
        failpoints.arm(place, lambda: seen.append(sound(work.site())))
    await work.once()
    assert [one.keys() for one in seen][:2] == [CHARTS.keys(), LEFT]


@pytest.mark.parametrize("place", [*PLACES, *LATER])
async def test_killed(work: Work, place: str) -> None:
    """The process ends there at once: nothing is lost that is wanted, and the next prune removes the rest."""
    name, _, skip = place.partition(":")
    await work.prepare(look=name != "facts.noted")
    crashed = await work.desk.run("prune", "app", "--apply", MIRRORD_FAILPOINTS=f"{name}=exit:{skip or 0}")
    assert crashed.status == CRASH_STATUS, crashed
    await work.sound()
    if name == "facts.noted":
        assert (await work.once()).result is Result.NOOP
    await work.converge()


@pytest.mark.parametrize("place", FAILING)
async def test_failed(work: Work, place: str) -> None:
    """The step fails there, each time: nothing is lost that is wanted, and the next prune removes the rest."""
    await work.prepare()
    failpoints.arm(place, failpoints.fail)
    with suppress(MirrordError, OSError):
        await work.once()
    failpoints.disarm()
    await work.sound()
    await work.converge()


async def test_no_place_is_missing(work: Work) -> None:
    """The list above names all that a prune passes, so that a new failpoint is in it from its first day."""
    passed = set[str]()
    await work.prepare()
    for name in NAMES:
        failpoints.arm(name, partial(passed.add, name))
    assert (await work.once()).result is Result.SUCCESS
    assert passed == set(PLACES)
