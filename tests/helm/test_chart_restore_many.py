"""Restores and takedowns of many chart versions: the work grows as they do, and the event loop goes on meanwhile."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mirrord import failpoints
from mirrord.commands import Backups, GetDenied, GetRuns, PlanRestore, Restore, Takedown
from mirrord.model.run import Result
from mirrord.testing import Registry
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import Chart, build_chart
from tests.support.chartruns import site, sound
from tests.support.turns import Turns
from tests.support.verifying import Verified, opened

FEW, MANY = 15, 60
SOME = 130  # more than what is done in one turn for a hundred names


@dataclass
class Work:
    """A mirror whose versions were all replaced once.

    Attributes:
        folder: of the configuration, the state and a target.
        one: what is open.
        old: what the versions were at first.
        new: what they are now.
        source: from where they come.
        registry: another target.
    """

    folder: Path
    one: Verified
    old: Sequence[Chart]
    new: Sequence[Chart]
    source: ChartRepository
    registry: Registry

    def moves(self) -> int:
        """Return how many moves the ledger has."""
        with closing(sqlite3.connect(self.one.state / "mirrord.db")) as link:
            (count,) = link.execute("select count(*) from ledger").fetchone()
            return int(count)

    def shows(self, charts: Sequence[Chart], but: int = 0) -> None:
        """Check that the folder lists these, without the first ones."""
        assert sound(site(self.folder / "site")) == {f"app-{one.version}": one.digest for one in charts[but:]}


@asynccontextmanager
async def replaced(folder: Path, count: int, *targets: str) -> AsyncIterator[Work]:
    old, new = (
        [build_chart("app", f"1.{number}.0", metadata={"description": what}) for number in range(count)]
        for what in ("old", "new")
    )
    folder.mkdir(exist_ok=True)
    (folder / "denied.yaml").touch()
    async with ChartRepository() as source, Registry() as registry:
        places = {"registry": f"oci://{registry.host}/m", "site": f"{folder}/site"}
        sections = {
            "settings": {"denied": str(folder / "denied.yaml")},
            "targets": {name: {"kind": "helm", "to": to} for name, to in places.items()},
            "mirrors": [
                {"name": "app", "kind": "helm", "from": source.url, "changed": "replace", "trust": "0s", "to": targets}
            ],
        }
        async with opened(folder, "".join(f"{key}: {json.dumps(value)}\n" for key, value in sections.items())) as one:
            for charts in (old, new):
                source.entries = [chart.entry() for chart in charts]
                source.files |= {f"charts/{chart.file}": chart.data for chart in charts}
                source.publish()
                assert (await one.sync()).result is Result.SUCCESS
            yield Work(folder, one, old, new, source, registry)


async def counts(folder: Path, count: int) -> dict[str, Counter[str]]:
    """Restore, undo and take down so many versions; count by command what that takes."""
    found = dict[str, Counter[str]]()
    async with replaced(folder, count, "registry", "site") as work:
        do = work.one.dispatcher.carry_out

        @contextmanager
        def counted(what: str) -> Iterator[None]:
            counts = found[what] = Counter[str]()
            for server in (work.source, work.registry):
                server.wire.exchanges.clear()
            failpoints.arm("links.renamed", partial(counts.update, ["indexes"]))
            before = work.moves()
            yield
            failpoints.disarm()
            counts["moves"] = work.moves() - before
            counts["source"] = len(work.source.log)
            counts.update(f"registry {one.method}" for one in work.registry.log)
            counts["bytes"] = sum(one.sent for one in work.registry.log)

        with counted("list"):
            await do(Backups("app"))
        with counted("all"):
            await do(Restore("app", ("app-*",)))
        work.shows(work.old)
        (newest, *_) = await do(GetRuns("app"))
        with counted("run"):
            await do(Restore("app", run=newest.id))
        work.shows(work.new)
        with counted("one"):
            await do(Restore("app", ("app-1.1.0",)))
        with counted("a version"):
            assert not (await do(Takedown("app", "asked to", "app-1.1.0"))).left
        with counted("the mirror"):
            assert not (await do(Takedown("app", "asked to"))).left
        assert not work.registry.content.tags.get("m/app")
    return found


async def test_the_work_grows_as_the_versions_do(tmp_path: Path) -> None:
    """Four times the versions take four times the requests, moves and bytes, and one index at a time."""
    few, many = await counts(tmp_path / "few", FEW), await counts(tmp_path / "many", MANY)
    for what, counted in many.items():
        for sort, number in counted.items():
            assert number <= 1.1 * (few[what][sort] + 2) * MANY / FEW, (what, sort, few[what], counted)
    assert few["one"] == many["one"]


async def test_no_turn_of_the_loop_passes_over_all_versions(tmp_path: Path) -> None:
    """Whatever a person asks for takes no turn for all versions: looked at, planned, done, recorded, listed."""
    turns = dict[str, Turns]()
    async with replaced(tmp_path, SOME, "site", "local") as work:
        do = work.one.dispatcher.carry_out

        @contextmanager
        def counted(what: str) -> Iterator[None]:
            turns[what] = Turns()
            with turns[what].counted():
                yield

        with counted("list"):
            assert len(await do(Backups("app"))) == SOME
        with counted("plan"):
            assert len((await do(PlanRestore("app", ("app-*",)))).active) == 2 * SOME + 2
        with counted("all"):
            await do(Restore("app", ("app-*",)))
        work.shows(work.old)
        with counted("release"):
            await do(Restore("app", ("app-*",), release=True))
        work.shows(work.new)
        (newest, *_) = await do(GetRuns("app"))
        with counted("run"):
            await do(Restore("app", run=newest.id))
        work.shows(work.old)
        await do(Takedown("app", "asked to", "app-2.0.0"))  # imports what only takedowns need
        with counted("a version"):
            assert not (await do(Takedown("app", "asked to", "app-1.0.0"))).left
        work.shows(work.old, 1)
        with counted("the mirror"):
            assert not (await do(Takedown("app", "asked to"))).left
        with counted("denied"):
            assert len(await do(GetDenied())) == 3
    assert sound(site(tmp_path / "site")) == {}
    assert {what: one for what, one in turns.items() if one.again >= SOME} == {}
