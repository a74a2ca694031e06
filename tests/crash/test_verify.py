"""Every failpoint that a verification and a repair pass, killed and failed there; then once more: it converges."""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from mirrord import failpoints
from mirrord.commands import Sync, Verify
from mirrord.errors import MirrordError
from mirrord.failpoints import CRASH_STATUS, NAMES
from mirrord.model.run import Result, Run
from mirrord.model.verification import Level, TargetVerification, Verification
from mirrord.record.verified import verified_of
from mirrord.testing import DockerRegistry, Registry, build_image, push
from tests.support.commands import Desk
from tests.support.verifying import codes, damage, lose_blob, lose_manifest, lose_tag
from tests.support.walking import leftovers

pytestmark = pytest.mark.asyncio(loop_scope="module")

Registries = tuple[DockerRegistry, DockerRegistry]
IMAGES: Final = {tag: build_image(layer_size=1000, layers=1, seed=tag) for tag in ("v1", "v2", "v3")}
VERIFY: Final = ("facts.noted", "verify.found")
"""What a verification passes."""
REPAIR: Final = (
    "facts.noted",
    "verify.found",
    "spool.chunk",
    "spool.verified",
    "store.linked",
    "push.blob",
    "push.manifest",
    "push.tag",
    "ledger.intended",
    "ledger.settled",
    "record.receipts",
    "record.days",
)
"""What a repair passes."""
LATER: Final = ("push.blob:1",)
"""The same places after others were passed."""


class Work:
    """A mirror of three images to two registries and `local`, which lost some of them."""

    def __init__(self, desk: Desk, source: Registry, registries: Registries) -> None:
        self.desk, self.source, self.registries = desk, source, registries
        self.state = desk.folder / "state"
        self.prefix = f"t{secrets.token_hex(4)}"
        self.lost = [
            ("local", "v1", "bytes"),
            ("local", "v2", "blob"),
            ("one", "v1", "missing"),
            ("one", "v3", "blob"),
            ("two", "v2", "tree"),
        ]

    async def prepare(self) -> None:
        """Mirror, verify, and lose a tag, a manifest, a blob, a file, and the bytes of one."""
        for tag, image in IMAGES.items():
            await push(image, self.source, "up/app", [tag])
        one, two = (f"{registry.host}/{self.prefix}" for registry in self.registries)
        self.desk.configure(
            "settings: {listen: '127.0.0.1:0'}\n"
            f"targets: {{one: {{kind: image, to: {one}}}, two: {{kind: image, to: {two}}}}}\n"
            f"mirrors: [{{name: app, kind: image, from: {{repository: {self.source.host}/up/app, tags: ['*']}}, "
            "to: [one, two, local]}]\n"
        )
        run = await self.once(Sync(("app",)))
        assert isinstance(run, Run)
        assert run.result is Result.SUCCESS
        assert (await self.verify()).drift == 0
        (first, second), path = self.registries, f"{self.prefix}/app"
        for registry, image in ((first, IMAGES["v3"]), (second, IMAGES["v2"])):
            if registry is first:
                lose_blob(registry, path, image.layers[0])
            else:
                lose_manifest(registry, path, next(one for one in image.manifests if one != image.digest))
        lose_tag(first, path, "v1")
        damage(self._file(IMAGES["v1"].layers[0]))
        self._file(IMAGES["v2"].layers[0]).unlink()
        shutil.rmtree(self.state / "spool")  # what it keeps of before would be sent without a look at the source

    def _file(self, digest: str) -> Path:
        algorithm, _, number = digest.partition(":")
        return self.state / "blobs" / algorithm / number[:2] / number

    async def once(self, command: Sync | Verify) -> Run | Verification:
        if isinstance(command, Sync):
            return (await self.desk.carry_out(command))[0]
        return (await self.desk.carry_out(command))[0]

    async def verify(self, *, repair: bool = False) -> Verification:
        found = await self.once(Verify(("app",), Level.BYTES, repair))
        assert isinstance(found, Verification)
        return found

    def recorded(self) -> TargetVerification:
        """Return what the record has of the last verification."""
        with closing(sqlite3.connect(self.state / "mirrord.db")) as link:
            (text,) = link.execute("SELECT facts FROM facts WHERE name = 'verified'").fetchone()
        facts = json.loads(text)
        found = verified_of(facts)
        assert len(found) == len(facts) + 1 == 4  # each target, and the sum
        return found[""]

    async def converge(self, *, repaired: int | None) -> None:
        """Once more: everything is found or mended, a further one finds and a further run writes nothing."""
        if repaired is None:
            assert codes(await self.verify()) == self.lost
            assert self.recorded().drift == len(self.lost)
        found = await self.verify(repair=True)
        assert (codes(found), found.error, found.unknown) == ([], "", 0)
        assert self.recorded().equal
        writes = self.writes()
        run = await self.once(Sync(("app",)))
        assert isinstance(run, Run)
        assert run.result is Result.NOOP
        with closing(sqlite3.connect(self.state / "mirrord.db")) as link:
            assert link.execute("SELECT name FROM ledger WHERE outcome = 'open'").fetchall() == []
        assert codes(await self.verify(repair=True)) == []
        assert self.writes() == writes
        assert leftovers(self.state) == []

    def writes(self) -> int:
        return sum(hit.method not in ("GET", "HEAD") for registry in self.registries for hit in registry.hits())


@pytest.mark.parametrize("place", VERIFY)
async def test_a_verification_killed(desk: Desk, registries: Registries, place: str) -> None:
    """The process ends there at once: the record has all that was found, or what was before; the next finds it."""
    name, _, skip = place.partition(":")
    async with Registry() as source:
        work = Work(desk, source, registries)
        await work.prepare()
        before = work.recorded()
        crashed = await desk.run("verify", "app", "--bytes", MIRRORD_FAILPOINTS=f"{name}=exit:{skip or 0}")
        assert crashed.status == CRASH_STATUS, crashed
        assert work.recorded() == before or work.recorded().drift == len(work.lost)
        await work.converge(repaired=None)


@pytest.mark.parametrize("place", [*REPAIR, *LATER])
async def test_a_repair_killed(desk: Desk, registries: Registries, place: str) -> None:
    """The process ends there at once: nothing is recorded as mended that is not; the next repair mends the rest."""
    name, _, skip = place.partition(":")
    async with Registry() as source:
        work = Work(desk, source, registries)
        await work.prepare()
        before = work.recorded()
        crashed = await desk.run("verify", "app", "--bytes", "--repair", MIRRORD_FAILPOINTS=f"{name}=exit:{skip or 0}")
        assert crashed.status == CRASH_STATUS, crashed
        assert work.recorded() == before or codes(await work.verify()) == []
        await work.converge(repaired=0)


@pytest.mark.parametrize("place", REPAIR)
async def test_a_repair_failed(desk: Desk, registries: Registries, place: str) -> None:
    """The step fails there, each time: nothing is recorded as mended that is not; the next repair mends the rest."""
    async with Registry() as source:
        work = Work(desk, source, registries)
        await work.prepare()
        before = work.recorded()
        failpoints.arm(place, failpoints.fail)
        with suppress(MirrordError, OSError):
            await work.verify(repair=True)
        failpoints.disarm()
        found = await work.verify()
        assert before.equal
        assert work.recorded().drift == found.drift
        await work.converge(repaired=0)


async def test_a_recorded_reading_is_one_whose_findings_are_recorded(desk: Desk, registries: Registries) -> None:
    """A crash between what was found and how far was read lets the next verification read again, not skip."""
    async with Registry() as source:
        work = Work(desk, source, registries)
        await work.prepare()
        failpoints.arm("verify.found", failpoints.fail)
        with suppress(MirrordError, OSError):
            await work.verify()
        assert work.recorded().drift == len(work.lost)


async def test_no_place_is_missing(desk: Desk, registries: Registries) -> None:
    """The lists above name all that is passed, so that a new failpoint is in them from its first day."""
    async with Registry() as source:
        work = Work(desk, source, registries)
        await work.prepare()
        for repair, places in ((False, VERIFY), (True, REPAIR)):
            passed = set[str]()
            for name in NAMES:
                failpoints.arm(name, partial(passed.add, name))
            await work.verify(repair=repair)
            assert passed == set(places)
