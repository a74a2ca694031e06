"""Charts that were taken down, one version or a whole mirror: left out, removed where mirrord can, listed where not."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mirrord.commands import GetDenied, Lift, PlanRestore, Takedown
from mirrord.daemon.takedown import Takedowns
from mirrord.errors import UsageError
from mirrord.model.plan import Action
from mirrord.model.run import Result, Run
from mirrord.model.takedown import TakenDown
from mirrord.syncer.serving import Request, Response
from mirrord.syncers.helm import front
from mirrord.syncers.helm.transfer.local import LocalTarget
from mirrord.syncers.helm.transfer.target import IndexFile
from mirrord.testing import Registry
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.distribution import Ask
from mirrord.testing.intake import Intake
from mirrord.testing.reply import Reply
from tests.support.chartfiles import sign_chart
from tests.support.chartservers import ChartMuseumServer, CodingServer
from tests.support.verifying import Verified, opened

ONE, TWO = build_chart("app", "1.0.0"), build_chart("app", "2.0.0")
AGAIN = build_chart("app", "1.0.0", metadata={"description": "packaged again"})
REASON = "ticket 4711"


@dataclass
class Shop:
    """A source, and a place for each sort of target."""

    folder: Path
    source: ChartRepository
    registry: Registry
    coding: CodingServer
    museum: ChartMuseumServer

    def text(self, *targets: str, mirrors: tuple[str, ...] = ("charts",), **keys: Any) -> str:
        """Return a configuration of mirrors, each with targets of its own."""
        every = {
            "registry": {"kind": "helm", "to": f"oci://{self.registry.host}/{{mirror}}"},
            "site": {"kind": "helm", "to": f"{self.folder}/site/{{mirror}}"},
            "museum": {"kind": "helm", "to": self.museum.url, "api": "chartmuseum"},
            "coding": {"kind": "helm", "to": self.coding.url, "api": "coding"},
        }
        made = [{"name": n, "kind": "helm", "from": self.source.url, "to": [*targets], **keys} for n in mirrors]
        denied = self.folder / "denied.yaml"
        denied.touch()
        sections = {"settings": {"denied": str(denied)}, "targets": every, "mirrors": made}
        return "".join(f"{name}: {json.dumps(value)}\n" for name, value in sections.items())

    def files(self, mirror: str = "charts") -> set[str]:
        """Return the archives that a folder has."""
        folder = self.folder / "site" / mirror / "charts"
        return {file.name for file in folder.iterdir()} if folder.is_dir() else set()

    def tags(self, mirror: str = "charts") -> set[str]:
        """Return the tags that the registry has of the chart."""
        return {*self.registry.content.tags.get(f"{mirror}/app", ())}


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with AsyncExitStack() as stack:
        source, registry = ChartRepository(), Registry()
        coding, museum = CodingServer(), ChartMuseumServer()
        for server in (source, registry, coding, museum):
            await stack.enter_async_context(server)
        for chart in (ONE, TWO):
            source.add(chart, prov=sign_chart(chart.data))
        yield Shop(tmp_path, source, registry, coding, museum)


async def take(one: Verified, what: str = "charts", item: str = "app-1.0.0", reason: str = REASON) -> TakenDown:
    return await one.dispatcher.carry_out(Takedown(what, reason, item))


async def answer(one: Verified, path: str) -> Response:
    return await front.respond(Request("GET", "/helm/", path, {}), one.dispatcher.runtime.snapshot.services)


async def status(one: Verified, path: str) -> int:
    return (await answer(one, path)).status


def kept(one: Verified) -> set[str]:
    """Return the archives of 1.0.0 whose content is on the disk, in the store or as a leftover of its transfer."""
    return one.contents() & {ONE.digest, AGAIN.digest}


def said(run: Run) -> str:
    assert run.plan
    return " ".join(run.plan.remarks)


async def replaced(one: Verified, shop: Shop) -> None:
    """Mirror a version, then another archive of it: `local` keeps the first one for a restore."""
    assert (await one.sync("charts")).result is Result.SUCCESS
    shop.source.entries.clear()
    shop.source.add(AGAIN)
    shop.source.add(TWO)
    assert (await one.sync("charts")).result is Result.SUCCESS
    assert kept(one) == {ONE.digest, AGAIN.digest}


async def test_with_a_ledger_it_goes_from_each_place(shop: Shop) -> None:
    """Also what `local` keeps of an earlier archive; afterwards nothing is said to be left."""
    async with opened(shop.folder, shop.text("registry", "site", "local", changed="replace")) as one:
        await replaced(one, shop)
        assert not (await take(one)).left
        assert (shop.tags(), shop.files(), kept(one)) == ({"2.0.0"}, {"app-2.0.0.tgz", "app-2.0.0.tgz.prov"}, set())
        assert [await status(one, f"charts/charts/app-{n}.0.0.tgz") for n in (1, 2)] == [451, 200]
        assert [thing.still for thing in await one.dispatcher.carry_out(GetDenied())] == [()]


def lose_the_database(shop: Shop) -> None:
    for file in (shop.folder / "state").glob("mirrord.db*"):
        file.unlink()


@pytest.mark.parametrize("item", ["app-1.0.0", ""])
async def test_without_a_ledger_nothing_is_deleted(shop: Shop, item: str) -> None:
    """By no takedown and no run: it is served to nobody, and what lies where is said, until somebody adopts it."""
    text = shop.text("registry", "site", "museum", "local", changed="replace")
    async with opened(shop.folder, text) as one:
        await replaced(one, shop)
    lose_the_database(shop)
    files, tags, museum = shop.files(), shop.tags(), {**shop.museum.files}
    async with opened(shop.folder, text) as one:
        done = await take(one, item=item)
        assert {(left.target, left.adoptable) for left in done.left} >= {("local", True), ("site", True)}
        assert {left.target for left in done.left} == {"local", "site", "registry", "museum"}
        assert all(left.mirror == "charts" for left in done.left)  # nothing is listed twice
        assert any(ONE.digest.hex in left.what for left in done.left if left.target == "local")  # the earlier archive
        assert (done.purged, done.removed) == (0, ())
        if item:
            await one.sync("charts")
            assert await status(one, "charts/charts/app-2.0.0.tgz") == 200
        assert (shop.files(), shop.tags(), {**shop.museum.files}) == (files, tags, museum)
        assert kept(one) == {ONE.digest, AGAIN.digest}
        assert await status(one, "charts/charts/app-1.0.0.tgz") == 451
        again = await one.dispatcher.carry_out(Takedown("charts", "", item, adopt=True))
        assert not any(left.adoptable for left in again.left)
        stays = {"app-2.0.0.tgz", "app-2.0.0.tgz.prov"} if item else set()
        assert (shop.files(), kept(one)) == (stays, set())
        if item:  # the content of the archive is known from `local`, so it goes at servers, too
            assert (shop.tags(), "app-1.0.0.tgz" in shop.museum.files) == ({"2.0.0"}, False)
        else:
            assert (shop.tags(), {left.target for left in again.left}) == (tags, {"registry", "museum"})


async def test_a_version_that_came_after_the_database_was_lost(shop: Shop) -> None:
    """The ledger has it, and so it goes; an older one beside it stays."""
    text = shop.text("site", "local")
    async with opened(shop.folder, text) as one:
        assert (await one.sync("charts")).result is Result.SUCCESS
    lose_the_database(shop)
    shop.source.add(build_chart("app", "3.0.0"))
    async with opened(shop.folder, text) as one:
        assert (await one.sync("charts")).result is Result.SUCCESS
        assert not (await take(one, item="app-3.0.0")).left
        assert {left.target for left in (await take(one, item="")).left} == {"local", "site"}
        assert shop.files() == {f"app-{n}.0.0.tgz{end}" for n in (1, 2) for end in ("", ".prov")}


async def test_a_version_that_was_never_mirrored(shop: Shop) -> None:
    """It is denied by the digest that upstream lists; else by its name only, which a remark says, until it is known."""
    async with opened(shop.folder, shop.text("local")) as one:
        done = await take(one)
        assert (done.digests, done.remark) == ((ONE.digest,), "")
        done = await take(one, item="app-9.0.0")
        assert (done.digests, "denied by its name only" in done.remark) == ((), True)
        later = build_chart("app", "9.0.0")
        shop.source.add(later)
        assert (await take(one, item="app-9.0.0", reason="")).digests == (later.digest,)


async def test_no_run_and_no_restore_brings_it_back(shop: Shop) -> None:
    """Each run says that it leaves it out; a lift lets the next one bring it, although nothing changed upstream."""
    async with opened(shop.folder, shop.text("registry", "site", "local", changed="replace")) as one:
        await replaced(one, shop)
        await take(one)
        for _ in range(2):
            run = await one.sync("charts")
            assert run.result is Result.NOOP
            assert f"app-1.0.0: taken down, so not mirrored: {REASON}" in said(run)
        plan = await one.dispatcher.carry_out(PlanRestore("charts", (f"app-1.0.0@{ONE.digest}",), None))
        assert {step.action for step in plan.steps if step.item == "app-1.0.0"} == {Action.REFUSE}
        assert (shop.tags(), kept(one)) == ({"2.0.0"}, set())
        await one.dispatcher.carry_out(Lift("charts", "app-1.0.0"))
        assert (await one.sync("charts")).result is Result.SUCCESS
        assert shop.tags() == {"1.0.0", "2.0.0"}
        assert {"app-1.0.0.tgz", "app-2.0.0.tgz"} <= shop.files()
        assert await status(one, "charts/charts/app-1.0.0.tgz") == 200


@pytest.mark.parametrize("entry", [f"digests: ['{ONE.digest}']", "mirror: charts, item: app-1.0.0", "mirror: charts"])
async def test_who_is_refused_reads_where_to_write(shop: Shop, entry: str) -> None:
    """The answer names the address of the operator, however an archive that is still in the index was denied."""
    text = shop.text("local").replace('"denied"', '"about": {"takedown": "a@corp.example"}, "denied"', 1)
    async with opened(shop.folder, text) as one:
        assert (await one.sync("charts")).result is Result.SUCCESS
    (shop.folder / "denied.yaml").write_text(f"- {{{entry}, reason: {REASON}}}\n")
    async with opened(shop.folder, text) as one:
        refused = await answer(one, "charts/charts/app-1.0.0.tgz")
        assert refused.status == 451
        assert isinstance(refused.body, bytes)
        assert refused.body.endswith(f"{REASON}; if that is wrong, write to a@corp.example\n".encode())


@pytest.mark.parametrize("digests", [True, False])
async def test_the_same_archive_of_another_mirror_goes_with_it(shop: Shop, digests: bool) -> None:
    """It is denied by its digest, also where upstream lists none: then it is known once it was read."""
    text = shop.text("registry", "site", "local", mirrors=("charts", "more"))
    async with opened(shop.folder, text) as one:
        for name in ("charts", "more"):
            assert (await one.sync(name)).result is Result.SUCCESS
        done = await take(one)
        assert not done.left
        assert {(gone.mirror, gone.target) for gone in done.removed} == {
            (mirror, target) for mirror in ("charts", "more") for target in ("local", "registry", "site")
        }
        assert (shop.tags("more"), kept(one)) == ({"2.0.0"}, set())
        if not digests:
            for entry in shop.source.entries:
                entry.pop("digest", None)
            shop.source.publish()
        run = await one.sync("more")
        assert "app-1.0.0: taken down" in " ".join((said(run), *(receipt.detail for receipt in run.receipts)))
        assert (shop.tags("more"), shop.files("more") & {"app-1.0.0.tgz"}) == ({"2.0.0"}, set())
        assert not one.blob(ONE.digest).exists()
        assert (ONE.digest in one.contents()) == (not digests)  # for its digest it was read, and not kept
        assert [await status(one, f"more/charts/app-{n}.0.0.tgz") for n in (1, 2)] == [404, 200]


async def test_a_whole_mirror_goes_where_it_can(shop: Shop) -> None:
    """Registries and folders are cleaned; a server that mirrord deletes nothing at is listed until somebody did."""
    async with opened(shop.folder, shop.text("registry", "site", "coding", "museum", "local")) as one:
        assert (await one.sync("charts")).result is Result.SUCCESS
        done = await take(one, item="")
        (left,) = done.left
        assert (left.target, "2 versions (app-1.0.0, app-2.0.0)" in left.what) == ("coding", True)
        assert (shop.tags(), shop.files(), [*shop.museum.files]) == (set(), set(), [])
        assert [await status(one, f"charts/{path}") for path in ("index.yaml", "charts/app-2.0.0.tgz")] == [451, 451]
        (thing,) = await one.dispatcher.carry_out(GetDenied())
        assert thing.still == ("charts at coding: app-1.0.0", "charts at coding: app-2.0.0")
        shop.coding.files.clear()
        assert not (await take(one, item="", reason="")).left
        (thing,) = await one.dispatcher.carry_out(GetDenied())
        assert thing.still == ()
        await one.dispatcher.carry_out(Lift("charts"))
        assert (await one.sync("charts")).result is Result.SUCCESS
        assert shop.tags() == {"1.0.0", "2.0.0"}
        assert await status(one, "charts/charts/app-2.0.0.tgz") == 200


async def test_what_is_left_by_digest_is_listed(shop: Shop) -> None:
    """Somebody moved the tag: it stays with what they put there, and ours, which can still be pulled, is listed."""
    async with opened(shop.folder, shop.text("registry")) as one:
        assert (await one.sync("charts")).result is Result.SUCCESS
        tags = shop.registry.content.tags["charts/app"]
        ours, tags["1.0.0"] = tags["1.0.0"], tags["2.0.0"]
        done = await take(one)
        assert [left.what.partition("@")[2] for left in done.left] == [ours, ""]
        assert all("by hand" in left.why for left in done.left)
        assert shop.tags() == {"1.0.0", "2.0.0"}


@pytest.mark.parametrize("server", ["coding", "museum"])
async def test_a_server_that_hands_out_no_archives(shop: Shop, monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    """Its index lists a version without a digest, and the archive may not be read: it is not said to be gone."""
    double = shop.coding if server == "coding" else shop.museum
    index, answer = double.index, double.answer

    def silent(prefix: str = "charts/", **_: Any) -> Reply:
        return index(prefix, digests=False)

    async def closed(ask: Ask, intake: Intake) -> Reply:
        return Reply(403) if ask.method == "GET" and ask.path.endswith(".tgz") else await answer(ask, intake)

    monkeypatch.setattr(double, "index", silent)
    async with opened(shop.folder, shop.text(server)) as one:
        assert (await one.sync("charts")).result is Result.SUCCESS
        monkeypatch.setattr(double, "answer", closed)
        double.times = {file: at + 1 for file, at in double.times.items()}  # what was noted of it counts no more
        done = await take(one)
        there = "app-1.0.0.tgz" in double.files
        assert (there, [left.target for left in done.left]) == ((True, [server]) if server == "coding" else (False, []))
        (thing,) = await one.dispatcher.carry_out(GetDenied())
        assert bool(thing.still) == there


@pytest.mark.parametrize("index", ["entries: [\n", None])
async def test_archives_that_no_index_lists_go_too(shop: Shop, index: str | None) -> None:
    """A folder whose index is broken or does not list them, and no database: the files are what is served."""
    text = shop.text("site", "local")
    async with opened(shop.folder, text) as one:
        assert (await one.sync("charts")).result is Result.SUCCESS
    lose_the_database(shop)
    place = shop.folder / "site" / "charts"
    if index is not None:
        (place / "index.yaml").write_text(index)
    (place / "charts" / "app-3.0.0+x.tgz").write_bytes(b"of a run that was killed")
    os.mkfifo(place / "charts" / "pipe-1.0.0.tgz")
    async with opened(shop.folder, text) as one:
        for item in ("app-3.0.0+x", "app-1.0.0"):
            assert {left.target for left in (await take(one, item=item)).left if left.what == item} >= {"site"}
            done = await one.dispatcher.carry_out(Takedown("charts", "", item, adopt=True))
            assert {(gone.target, gone.name) for gone in done.removed} == {("site", item)}
            assert not done.left
        left = {"app-2.0.0.tgz", "app-2.0.0.tgz.prov", "pipe-1.0.0.tgz"}
        assert shop.files() == left
        assert (await one.sync("charts")).result in {Result.SUCCESS, Result.NOOP}
        assert shop.files() == left


async def test_a_whole_mirror_leaves_archives_that_nobody_knows(shop: Shop) -> None:
    """No index lists it and the ledger does not have it: it may be of others, and is said to be there."""
    async with opened(shop.folder, shop.text("site")) as one:
        assert (await one.sync("charts")).result is Result.SUCCESS
        (shop.folder / "site" / "charts" / "charts" / "theirs-1.0.0.tgz").write_bytes(b"theirs")
        (left,) = (await take(one, item="")).left
        assert (left.target, "archives that no index lists: theirs-1.0.0" in left.what) == ("site", True)
        assert shop.files() == {"theirs-1.0.0.tgz"}


async def test_an_archive_that_somebody_removed_stops_no_takedown(shop: Shop) -> None:
    """The index that lists it is written anew all the same; a run brings the archive back."""
    async with opened(shop.folder, shop.text("site")) as one:
        assert (await one.sync("charts")).result is Result.SUCCESS
        place = shop.folder / "site" / "charts"
        (place / "charts" / TWO.file).unlink()
        assert not (await take(one)).left
        assert (shop.files(), "app-1.0.0.tgz" in (place / "index.yaml").read_text()) == (set(), False)
        assert (await one.sync("charts")).result is Result.SUCCESS
        assert shop.files() == {"app-2.0.0.tgz", "app-2.0.0.tgz.prov"}


async def test_an_archive_is_the_last_that_goes(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends between the files of a version leaves the archive, by which the next takedown finds it."""
    unlink = Path.unlink

    def broken(path: Path, *, missing_ok: bool = False) -> None:
        if path.name == ONE.file:
            raise OSError("no")
        unlink(path, missing_ok=missing_ok)

    async with opened(shop.folder, shop.text("site")) as one:
        assert (await one.sync("charts")).result is Result.SUCCESS
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", broken)
            assert [left.target for left in (await take(one)).left] == ["site"]
        assert shop.files() & {ONE.file, f"{ONE.file}.prov"} == {ONE.file}
        assert not (await take(one)).left
        assert shop.files() & {ONE.file, f"{ONE.file}.prov"} == set()


async def test_beside_a_run_that_is_bringing_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that began before ends after `local` was cleaned: what it linked goes, too, and is not said to stay."""
    brought, cleaned = asyncio.Event(), asyncio.Event()
    finish, remove = LocalTarget.finish, Takedowns._remove

    async def linked(target: LocalTarget, index: IndexFile) -> None:
        brought.set()
        await cleaned.wait()
        await finish(target, index)

    async def removed(takedowns: Takedowns, *args: Any) -> Any:
        cleaned.set()
        return await remove(takedowns, *args)

    monkeypatch.setattr(LocalTarget, "finish", linked)
    monkeypatch.setattr(Takedowns, "_remove", removed)
    async with opened(shop.folder, shop.text("registry", "local")) as one, asyncio.TaskGroup() as tasks:
        run = tasks.create_task(one.sync("charts"))
        await brought.wait()
        done = await take(one)
        assert (await run).result is Result.SUCCESS
        assert not done.left
        assert (shop.tags(), kept(one)) == ({"2.0.0"}, set())
        assert not any(thing.still for thing in await one.dispatcher.carry_out(GetDenied()))


async def test_a_file_that_people_edited_meanwhile(shop: Shop) -> None:
    """Without a reload, too: a lift finds its line, and what somebody took out of the file is denied anew."""
    file = shop.folder / "denied.yaml"
    async with opened(shop.folder, shop.text("local")) as one:
        assert (await one.sync("charts")).result is Result.SUCCESS
        await take(one)
        file.write_bytes(b"# by hand\r\n- {image: quay.io/acme/app, reason: x}\r\n" + file.read_bytes())
        await one.dispatcher.carry_out(Lift("charts", "app-1.0.0"))
        assert [thing.what for thing in await one.dispatcher.carry_out(GetDenied())] == ["quay.io/acme/app"]
        await take(one, item="app-2.0.0")
        file.write_text("")
        await take(one, item="app-2.0.0")
        assert "app-2.0.0" in file.read_text()


async def test_each_entry_holds_by_itself(shop: Shop) -> None:
    """A lift of one mirror's version leaves the same archive denied by the entry of another; a digest has its own."""
    file = shop.folder / "denied.yaml"
    async with opened(shop.folder, shop.text("local", mirrors=("charts", "more"))) as one:
        for name in ("charts", "more"):
            assert (await one.sync(name)).result is Result.SUCCESS
        for name in ("charts", "more"):
            await take(one, name)
            await take(one, name)  # again adds no line
        await one.dispatcher.carry_out(Lift("charts", "app-1.0.0"))
        assert file.read_text().count("\n- ") == 1
        assert one.dispatcher.runtime.snapshot.configuration.denied.manifest("", ONE.digest)
    both = f"- {{digests: ['{ONE.digest}', '{TWO.digest}'], reason: x}}\n"
    file.write_text(both)
    async with opened(shop.folder, shop.text("local")) as one:
        with pytest.raises(UsageError, match="has no entry of its own"):
            await one.dispatcher.carry_out(Lift(f"x@{TWO.digest}"))
        assert file.read_text() == both


@pytest.mark.parametrize(
    ("what", "item", "words"),
    [
        (
            "charts/app-1.0.0",
            "",
            "for a version of charts write charts app-1.0.0; for the image write docker.io/charts",
        ),
        ("chart", "app-1.0.0", "did you mean charts?"),
        ("chart", "", "did you mean charts? for an image that was never mirrored write docker.io/library/chart"),
        ("charts", "a\nb", "is no item of a mirror"),
    ],
)
async def test_what_is_mistyped_denies_nothing(shop: Shop, what: str, item: str, words: str) -> None:
    """One clear error says what was meant, and the file stays as it is."""
    async with opened(shop.folder, shop.text("local")) as one:
        with pytest.raises(UsageError) as caught:
            await take(one, what, item)
        assert words in str(caught.value)
        assert (shop.folder / "denied.yaml").read_text() == ""
