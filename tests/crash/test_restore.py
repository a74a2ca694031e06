"""Every failpoint that a restore passes, killed and failed there: the next run goes on, or nothing was begun."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

import pytest

from mirrord import failpoints
from mirrord.commands import Restore, Sync
from mirrord.errors import MirrordError
from mirrord.failpoints import CRASH_STATUS, NAMES
from mirrord.model.run import Result, Run
from mirrord.testing import DockerRegistry, Image, Registry, build_image, push, require
from tests.support.commands import Desk
from tests.support.localstore import tags_in
from tests.support.walking import leftovers, walk, walk_local

OLD, NEW = (build_image(["linux/amd64"], seed=seed, layer_size=1000) for seed in ("old", "new"))
TAGS: Final = ("v1", "v2")
WISH: Final = tuple(f"{tag}@{OLD.digest}" for tag in TAGS)
BEFORE: Final = ("facts.noted", "restore.held", "ledger.intended")
AFTER: Final = ("push.tag", "links.appended", "ledger.settled", "record.receipts", "record.days")


class Work:
    """A mirror of two tags that moved, to a registry and to `local`."""

    def __init__(self, desk: Desk, target: DockerRegistry) -> None:
        self.desk, self.target, self.state = desk, target, desk.folder / "state"

    async def once(self, command: Restore | Sync) -> Run:
        if isinstance(command, Restore):
            return await self.desk.carry_out(command)
        (run,) = await self.desk.carry_out(command)
        return run

    async def sound(self) -> list[dict[str, str]]:
        """Return the tags at both places, each of which is whole and one of the two images."""
        walk_local(self.state, "app")
        found = [dict(await walk(self.target, "m/app")), dict(tags_in(self.state / "repositories", "app"))]
        assert all(tags.keys() == set(TAGS) and {*tags.values()} <= {OLD.digest, NEW.digest} for tags in found), found
        return found

    async def converge(self) -> None:
        """The next run does all of it, or nothing was begun, and the same command does it."""
        assert (await self.once(Sync(("app",)))).result in {Result.SUCCESS, Result.NOOP}
        found = await self.sound()
        assert found in (both(OLD), both(NEW))
        if found == both(NEW):
            assert (await self.once(Restore("app", WISH))).result is Result.SUCCESS
        assert await self.sound() == both(OLD)
        assert (await self.once(Sync(("app",)))).result is Result.NOOP
        await self.once(Restore("app", TAGS, release=True))
        assert await self.sound() == both(NEW)
        assert leftovers(self.state) == []


def both(image: Image) -> list[dict[str, str]]:
    return [dict.fromkeys(TAGS, str(image.digest))] * 2


@asynccontextmanager
async def moved(desk: Desk) -> AsyncIterator[Work]:
    require("docker-registry")
    async with Registry() as source, DockerRegistry() as target:
        work = Work(desk, target)
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\n"
            f"targets: {{one: {{kind: image, to: {target.host}/m}}}}\n"
            f"mirrors: [{{name: app, kind: image, from: {{repository: {source.host}/up/app, tags: ['*']}}, "
            "to: [one, local]}]\n"
        )
        for image in (OLD, NEW):
            await push(image, source, "up/app", TAGS)
            assert (await work.once(Sync(("app",)))).result is Result.SUCCESS
        yield work


@pytest.mark.parametrize("place", [*BEFORE, *AFTER, "push.tag:1", "ledger.intended:1"])
async def test_killed(desk: Desk, place: str) -> None:
    """The process ends there at once: every name stands for a whole image, and the next run goes on."""
    name, _, skip = place.partition(":")
    async with moved(desk) as work:
        crashed = await desk.run("restore", "app", *WISH, MIRRORD_FAILPOINTS=f"{name}=exit:{skip or 0}")
        assert crashed.status == CRASH_STATUS, crashed
        await work.sound()
        await work.converge()


@pytest.mark.parametrize("place", [*BEFORE, *AFTER])
async def test_failed(desk: Desk, place: str) -> None:
    """The step fails there, each time."""
    async with moved(desk) as work:
        failpoints.arm(place, failpoints.fail)
        with suppress(MirrordError, OSError):
            await work.once(Restore("app", WISH))
        failpoints.disarm()
        await work.sound()
        await work.converge()


async def test_no_place_is_missing(desk: Desk) -> None:
    """The lists above name all that a restore passes, so that a new failpoint is in them from its first day."""
    passed = set[str]()
    async with moved(desk) as work:
        for name in NAMES:
            failpoints.arm(name, partial(passed.add, name))
        assert (await work.once(Restore("app", WISH))).result is Result.SUCCESS
    assert passed == {*BEFORE, *AFTER}
