"""Restores of many tags: the work grows as they do, and no turn of the event loop passes over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from mirrord.commands import Backups, Command, GetRuns, PlanRestore, Restore
from mirrord.model.run import Result
from mirrord.syncers.image.upstream import local
from mirrord.testing import Image, Registry, build_image, push
from mirrord.wire.oci.reference import subject_tag
from tests.support.turns import Turns
from tests.support.verifying import Verified, opened

OLD, NEW = ([build_image(["linux/amd64"], layer_size=100, seed=f"{what}{n}") for n in range(40)] for what in "on")
SOME = 130  # more than what is done in one turn for a hundred names


class Work:
    """A mirror to a registry and to `local`, whose tags all moved once."""

    def __init__(self, one: Verified, source: Registry, target: Registry) -> None:
        self.one, self.source, self.target = one, source, target

    async def move(self, images: Sequence[Image], count: int) -> None:
        for number, image in enumerate(images[:count]):
            tags = [f"v{one}" for one in range(number, count, len(images))]
            await push(image, self.source, "team/app", tags)
        assert (await self.one.sync()).result is Result.SUCCESS

    def stands(self, images: Sequence[Image]) -> bool:
        """Whether all tags at the target stand for some of these images."""
        digests = {digest for tags in self.target.tags.values() for digest in tags.values()}
        return digests <= {image.digest for image in images}


@asynccontextmanager
async def moved(folder: Path, count: int) -> AsyncIterator[Work]:
    folder.mkdir(exist_ok=True)
    async with Registry(page_size=50) as source, Registry(page_size=50) as target:
        text = (
            f"targets: {{there: {{kind: image, to: {target.host}/m}}}}\n"
            f"mirrors: [{{name: app, kind: image, from: {{repository: {source.host}/team/app, tags: ['*']}}, "
            "to: [there, local]}]\n"
        )
        async with opened(folder, text) as one:
            work = Work(one, source, target)
            for images in (OLD, NEW):
                await work.move(images, count)
            yield work


async def test_no_turn_of_the_loop_passes_over_all_tags(tmp_path: Path) -> None:
    """Whatever a person asks for takes no turn for all of them: looked at, planned, done, recorded, listed."""
    turns = dict[str, Turns]()
    async with moved(tmp_path, SOME) as work:

        @contextmanager
        def counted(what: str) -> Iterator[None]:
            turns[what] = Turns()
            with turns[what].counted():
                yield

        do = work.one.dispatcher.carry_out
        await do(PlanRestore("app", ("*v1",)))  # imports what only restores need
        with counted("list"):
            assert len(await do(Backups("app"))) == SOME
        with counted("plan"):
            assert len((await do(PlanRestore("app", ("*",)))).active) == 2 * SOME
        with counted("all"):
            await do(Restore("app", ("*",)))
        assert work.stands(OLD)
        (newest, *_) = await do(GetRuns("app"))
        with counted("run"):
            await do(Restore("app", run=newest.id))
        assert work.stands(NEW)
        with counted("release"):
            await do(Restore("app", ("*",), release=True))
        assert work.stands(NEW)
    assert {what: one for what, one in turns.items() if one.again >= SOME} == {}


async def counts(folder: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Counter[str]]:
    """Count by command requests, moves in the ledger, and tags of `local` that were asked what they are about."""
    found, looks = dict[str, Counter[str]](), list[str]()

    def look(tag: str) -> str:
        looks.append(tag)
        return subject_tag(tag)

    monkeypatch.setattr(local, "subject_tag", look)
    async with moved(folder, count) as work:

        async def counted(what: str, command: Command[object]) -> None:
            counts = found[what] = Counter[str]()
            for server in (work.source, work.target):
                server.wire.exchanges.clear()
            looks.clear()
            before = len(await work.one.dispatcher.runtime.store.moves("app"))
            await work.one.dispatcher.carry_out(command)
            counts["moves"] = len(await work.one.dispatcher.runtime.store.moves("app")) - before
            counts["looks"] = len(looks)
            for name, server in (("source", work.source), ("target", work.target)):
                counts.update(f"{name} {one.method}" for one in server.log)

        await counted("list", Backups("app"))
        await counted("all", Restore("app", ("*",)))
        (newest, *_) = await work.one.dispatcher.carry_out(GetRuns("app"))
        await counted("run", Restore("app", run=newest.id))
        await counted("one", Restore("app", ("v1",)))
    return found


async def test_the_work_grows_as_the_tags_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the tags take four times the requests and moves at most; one of many takes as many as one of few."""
    few, many = [await counts(tmp_path / f"{count}", count, monkeypatch) for count in (10, 40)]
    assert many["all"]["looks"] == 40
    many["one"]["looks"] = few["one"]["looks"]
    for what, counted in many.items():
        for sort, number in counted.items():
            assert number <= 4 * few[what][sort], (what, sort, few[what], counted)
    assert few["one"] == many["one"]
