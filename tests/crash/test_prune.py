"""Every failpoint that a prune passes, killed and failed there; then once more without: it converges."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import closing, suppress
from functools import partial
from typing import Final

import aiohttp
import pytest
import pytest_asyncio

from mirrord import failpoints
from mirrord.commands import Prune, Sync
from mirrord.errors import MirrordError
from mirrord.failpoints import CRASH_STATUS, NAMES
from mirrord.model.digest import Digest
from mirrord.model.run import Result, Run
from mirrord.testing import DockerRegistry, Image, Registry, build_image, push, require
from mirrord.wire.oci.reference import referrers_tag
from tests.support.commands import Desk
from tests.support.walking import leftovers

pytestmark = pytest.mark.asyncio(loop_scope="module")

Both = tuple[DockerRegistry, DockerRegistry]
GOOD: Final = {Result.SUCCESS, Result.NOOP}
PLACES: Final = ("facts.noted", "ledger.intended", "remove.tag", "ledger.settled", "record.receipts", "record.days")
"""What a prune passes."""
LATER: Final = (
    "ledger.intended:1",
    "ledger.intended:2",
    "remove.tag:1",
    "remove.tag:2",
    "remove.tag:3",
    "remove.tag:4",
)
"""The same places after others were passed: between the targets, and between an image and what is about it."""
GONE, KEPT = build_image(["linux/amd64"], seed="gone", layer_size=1000), build_image(seed="kept", layer_size=1000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both() -> AsyncIterator[Both]:
    """A registry that deletes manifests only, and one that deletes tags."""
    require("docker-registry", "registry3")
    async with DockerRegistry(access_log=True) as old, DockerRegistry(access_log=True, program="registry3") as new:
        yield old, new


class Work:
    """A mirror of two signed images to both registries; the source has lost the tags of one."""

    def __init__(self, desk: Desk, source: Registry, both: Both) -> None:
        self.desk, self.source, self.both = desk, source, both
        self.state = desk.folder / "state"
        self.prefix = f"t{secrets.token_hex(4)}"
        signed = {f"{referrers_tag(Digest(image.digest))}.sig": image for image in (GONE, KEPT)}
        self.signatures: Mapping[str, Image] = {
            tag: build_image(["linux/amd64"], seed=tag, layer_size=100) for tag in signed
        }
        self.tags: Mapping[str, Image] = {"v1": GONE, "also": GONE, "v2": KEPT, "v3": KEPT}

    async def prepare(self, *, look: bool = True) -> None:
        """Mirror, and lose; with `look` the first of the two prunes that have to agree has been there."""
        for tag, image in {**self.tags, **self.signatures}.items():
            await push(image, self.source, "up/app", [tag])
        one, two = (f"{registry.host}/{self.prefix}" for registry in self.both)
        self.desk.configure(
            "settings: {listen: '127.0.0.1:0'}\n"
            f"targets: {{one: {{kind: image, to: {one}}}, two: {{kind: image, to: {two}}}}}\n"
            f"mirrors: [{{name: app, kind: image, from: {{repository: {self.source.host}/up/app, tags: ['*']}}, "
            "to: [one, two, local], prune: {after: 0s}}]\n"
        )
        assert (await self.once("sync")).result is Result.SUCCESS
        assert await self.found() == [self.whole, self.whole]
        for tag in ("v1", "also"):
            del self.source.content.tags["up/app"][tag]
        if look:
            first = await self.once()
            assert (first.result, first.receipts) == (Result.NOOP, ())

    async def once(self, word: str = "prune") -> Run:
        command = Sync(("app",)) if word == "sync" else Prune(("app",))
        (run,) = await self.desk.carry_out(command)
        return run

    @property
    def whole(self) -> set[str]:
        return {*self.tags, *self.signatures}

    @property
    def left(self) -> set[str]:
        kept = referrers_tag(Digest(KEPT.digest))
        return {"v2", "v3", f"{kept}.sig"}

    async def found(self) -> list[set[str]]:
        """List the tags at both; what is wanted can be read whole.

        docker-registry 2.8 deletes a manifest first, and then its tags, also when nobody waits for that any more.
        """
        found = []
        async with aiohttp.ClientSession() as session:
            for registry in self.both:
                base = f"{registry.url}/v2/{self.prefix}/app"
                async with session.get(f"{base}/tags/list") as answer:
                    tags = set((await answer.json()).get("tags") or ())
                for tag in tags & self.left:
                    image = {**self.tags, **self.signatures}[tag]
                    for digest, (media_type, body) in image.manifests.items():
                        async with session.get(f"{base}/manifests/{digest}", headers={"Accept": media_type}) as answer:
                            assert await answer.read() == body, (tag, digest)
                found.append(tags)
        return found

    async def sound(self) -> None:
        """What is wanted is all there, and no tag stands for an image whose signature is gone."""
        for tags in await self.found():
            assert self.left <= tags <= self.whole
            signed = f"{referrers_tag(Digest(GONE.digest))}.sig" in tags
            assert signed or not tags & {"v1", "also"}

    async def converge(self) -> None:
        """Once more: all that is not wanted is gone, a further one writes nothing, and nothing comes back."""
        run = await self.once()
        assert run.result in GOOD, (run.error, run.receipts, run.plan)
        assert await self.found() == [self.left, self.left]
        with closing(sqlite3.connect(self.state / "mirrord.db")) as link:
            assert link.execute("select name from ledger where outcome = 'open'").fetchall() == []
            known = link.execute("select target, item from known where target <> 'local'").fetchall()
        assert {item for _, item in known} == {"v2", "v3"}
        writes = self.writes()
        assert (await self.once()).result is Result.NOOP
        assert (await self.once("sync")).result is Result.NOOP
        assert self.writes() == writes
        assert leftovers(self.state) == []

    def writes(self) -> int:
        return sum(hit.method not in ("GET", "HEAD") for registry in self.both for hit in registry.hits())


@pytest.mark.parametrize("place", [*PLACES, *LATER])
async def test_killed(desk: Desk, both: Both, place: str) -> None:
    """The process ends there at once: nothing is lost that is wanted, and the next prune removes the rest."""
    name, _, skip = place.partition(":")
    async with Registry() as source:
        work = Work(desk, source, both)
        await work.prepare(look=name != "facts.noted")
        crashed = await desk.run("prune", "app", "--apply", MIRRORD_FAILPOINTS=f"{name}=exit:{skip or 0}")
        assert crashed.status == CRASH_STATUS, crashed
        await work.sound()
        if name == "facts.noted":
            assert (await work.once()).result is Result.NOOP
        await work.converge()


@pytest.mark.parametrize("place", PLACES)
async def test_failed(desk: Desk, both: Both, place: str) -> None:
    """The step fails there, each time: nothing is lost that is wanted, and the next prune removes the rest."""
    async with Registry() as source:
        work = Work(desk, source, both)
        await work.prepare(look=place != "facts.noted")
        failpoints.arm(place, failpoints.fail)
        with suppress(MirrordError, OSError):
            await work.once()
        failpoints.disarm()
        await work.sound()
        if place == "facts.noted":
            assert (await work.once()).result is Result.NOOP
        await work.converge()


async def test_no_place_is_missing(desk: Desk, both: Both) -> None:
    """The list above names all that a prune passes, so that a new failpoint is in it from its first day."""
    passed = set[str]()
    async with Registry() as source:
        work = Work(desk, source, both)
        await work.prepare()
        for name in NAMES:
            failpoints.arm(name, partial(passed.add, name))
        assert (await work.once()).result is Result.SUCCESS
    assert passed == set(PLACES) - {"facts.noted"}
