"""kill -9 at any moment, start again: it converges without a human (research/reliability.md §3.0, F1 to F5)."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sqlite3
from contextlib import closing

import pytest

from mirrord.failpoints import CRASH_STATUS, NAMES
from mirrord.model.run import Result, Run
from mirrord.testing import DockerRegistry, Image, Registry, build_image, push
from mirrord.testing.exchange import Moment
from tests.support.commands import Desk
from tests.support.layouts import write_layout
from tests.support.walking import leftovers, walk, walk_layout, walk_local

pytestmark = pytest.mark.asyncio(loop_scope="module")

Registries = tuple[DockerRegistry, DockerRegistry]
ELSEWHERE = (
    "git.",
    "notes.",
    "facts.",
    "restore.",
    "push.referrer",
    "remove.",
    "gc.",
    "denied.",
    "takedown.",
    "verify.",
)
IMAGES = [name for name in NAMES if not name.startswith(ELSEWHERE)]
"""Places that a run over images passes; the others have tests beside their syncers, in the matrix, or of their own."""
LATER = ("push.tag:3", "record.receipts:1")
"""The same places after others were passed."""


class World:
    """Two mirrors, of a registry and of a build, each to two real registries, the embedded store and OCI layouts."""

    def __init__(self, desk: Desk, source: Registry, registries: Registries, more: str = "") -> None:
        self.desk, self.source, self.registries = desk, source, registries
        self.state = desk.folder / "state"
        self.prefix = f"t{secrets.token_hex(4)}"  # the registries are shared: each test has repositories of its own
        self.main, self.old, self.build = (
            build_image(layer_size=60_000, seed=seed, shared_layers=1) for seed in ("main", "old", "build")
        )
        write_layout(self.build, desk.folder / "build")
        one, two = (f"{registry.host}/{self.prefix}" for registry in registries)
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\n"
            f"targets: {{one: {{kind: image, to: {one}}}, two: {{kind: image, to: {two}}}, "
            f"folder: {{kind: image, to: 'oci:{desk.folder}/layouts'}}}}\n"
            "mirrors:\n"
            f"  - {{name: app, kind: image, from: {{repository: {source.host}/up/app, tags: ['*']}}, "
            f"to: [one, two, local, folder]{more}}}\n"
            f"  - {{name: built, kind: image, from: {{layout: {desk.folder}/build, names: [main-0123456, main]}}, "
            "to: [one, two, local, folder]}\n"
        )

    async def open(self) -> None:
        await push(self.main, self.source, "up/app", ["main", "v2"])
        await push(self.old, self.source, "up/app", ["v1"])

    def wanted(self, name: str) -> dict[str, str]:
        built: dict[str, Image] = {"main": self.build, "main-0123456": self.build}
        tags = built if name == "built" else {"main": self.main, "v2": self.main, "v1": self.old}
        return {tag: str(image.digest) for tag, image in tags.items()}

    async def sound(self) -> list[dict[str, str]]:
        """Walk everything that is named anywhere; whatever is there is right, and `main` never without its commit."""
        found = []
        for name in ("app", "built"):
            places = [await walk(registry, f"{self.prefix}/{name}") for registry in self.registries]
            own = walk_local(self.state, name), walk_layout(self.desk.folder / "layouts" / name)
            for tags in (*places, *own):
                assert tags.items() <= self.wanted(name).items()
                assert name == "app" or "main" not in tags or "main-0123456" in tags
                found.append(dict(tags))
        return found

    async def whole(self) -> None:
        """Look whether all is there, and nothing else."""
        assert await self.sound() == [self.wanted(name) for name in ("app", "built") for _ in range(4)]
        assert leftovers(self.state) == []

    def writes(self) -> int:
        return sum(hit.method not in ("GET", "HEAD") for registry in self.registries for hit in registry.hits())

    async def converge(self) -> None:
        """Run again: it must succeed, and a further run must write nothing."""
        assert {run.result for run in await self.sync()} <= {Result.SUCCESS, Result.NOOP}
        await self.whole()
        before = self.writes(), self.stamps()
        assert [run.result for run in await self.sync()] == [Result.NOOP, Result.NOOP]
        assert (self.writes(), self.stamps()) == before
        assert not self.unsettled()

    def unsettled(self) -> int:
        """Count the moves of which nobody knows what came."""
        with closing(sqlite3.connect(self.state / "mirrord.db")) as link:
            (count,) = link.execute("select count(*) from ledger where outcome = 'open'").fetchone()
            return int(count)

    async def sync(self) -> list[Run]:
        """Do what `mirrord sync` does, in this process: it takes a tenth of the time of a child."""
        async with self.desk.opened() as shop:
            return [await shop.runner.sync(name) for name in shop.snapshot.names]

    def stamps(self) -> dict[str, int]:
        """Return when each file of the embedded store and of the layouts was written."""
        folders = (self.state / "repositories", self.state / "blobs", self.desk.folder / "layouts")
        files = [file for folder in folders for file in folder.rglob("*")]
        return {str(file): file.stat().st_mtime_ns for file in files if file.is_file()}


@pytest.mark.parametrize("place", [*sorted(IMAGES), *LATER])
async def test_crash(desk: Desk, registries: Registries, place: str) -> None:
    """The process ends at a failpoint as if killed: nothing named lacks content then, and the next run mends all."""
    name, _, skip = place.partition(":")
    async with Registry() as source:
        world = World(desk, source, registries)
        await world.open()
        crashed = await desk.run("sync", MIRRORD_FAILPOINTS=f"{name}=exit:{skip or 0}")
        assert crashed.status == CRASH_STATUS, crashed
        await world.sound()
        await world.converge()


async def test_what_a_crash_left_open_is_settled_at_the_next_start(desk: Desk, registries: Registries) -> None:
    """A daemon that starts looks at once what became of the tags that were on their way, before any run of them."""
    async with Registry() as source:
        world = World(desk, source, registries)
        await world.open()
        crashed = await desk.run("sync", MIRRORD_FAILPOINTS="push.tag=exit:2")
        assert crashed.status == CRASH_STATUS, crashed
        assert world.unsettled()
        async with world.desk.opened() as runtime:
            runtime.runner.settle()
            await asyncio.gather(*runtime.runner._tasks)
            assert [await runtime.store.moves(name, unsettled=True) for name in ("app", "built")] == [[], []]
            assert [run.result for run in await runtime.store.runs("app")] == [Result.INTERRUPTED]
        assert not world.unsettled()
        await world.converge()


async def test_killed_in_the_middle_of_a_blob(desk: Desk, registries: Registries) -> None:
    """SIGKILL while the source has sent half a blob: no target has it, no tag is set; the next run reads it whole."""
    async with Registry() as source:
        world = World(desk, source, registries)
        await world.open()
        gate = source.faults.on("GET", "/blobs/", times=None).stall(after=20_000)
        async with desk.started("sync", "app") as process:
            await gate.reached.wait()
            process.kill()
            assert await process.wait() == -signal.SIGKILL
        assert [tags for tags in await world.sound() if tags] == []
        source.faults.clear()
        again = await desk.run("sync")
        assert again.status == 0, again
        await world.converge()


async def test_killed_again_and_again(desk: Desk, registries: Registries) -> None:
    """A run that is killed a little later each time still arrives, and nothing it finished is sent again."""
    async with Registry() as source:
        world = World(desk, source, registries)
        await world.open()
        for skip in (2, 3, 5):
            crashed = await desk.run("sync", MIRRORD_FAILPOINTS=f"push.blob=exit:{skip}")
            assert crashed.status == CRASH_STATUS, crashed
            await world.sound()
        await world.converge()


async def test_killed_daemon(desk: Desk, registries: Registries) -> None:
    """A daemon that is killed in a run and started again finishes by itself: no command, no cleaning by hand."""
    async with Registry() as source:
        world = World(desk, source, registries, ", every: 6h")
        await world.open()
        gate = source.faults.on("GET", "/blobs/", times=None).stall(after=20_000)
        async with desk.serving() as first:
            await gate.reached.wait()
            first.process.kill()
            assert await first.process.wait() == -signal.SIGKILL
        await world.sound()
        assert (world.state / "control.sock").exists()
        source.faults.clear()
        async with desk.serving() as second:
            assert (await second.logged("run.finished"))["result"] == "success"
            for registry in registries:
                assert await walk(registry, f"{world.prefix}/app") == world.wanted("app")
            second.process.send_signal(signal.SIGTERM)
            assert await second.process.wait() == 0
        assert (await desk.run("sync", "built")).status == 0
        await world.whole()


async def test_killed_copy_into_a_layout(desk: Desk, registries: Registries) -> None:
    """A copy into a layout that is killed leaves nothing that a second one does not mend; readers see old or new."""
    async with Registry() as source:
        await push(build_image(layer_size=60_000, seed="old"), source, "a", ["v1"])
        await push(build_image(layer_size=60_000, seed="new"), source, "a", ["v2"])
        assert (await desk.run("copy", f"{source.host}/a:v1", "oci:out")).status == 0
        before = (desk.folder / "out" / "index.json").read_bytes()
        gate = source.faults.on("GET", "/blobs/", times=None, skip=2).stall(after=20_000)
        async with desk.started("copy", f"{source.host}/a:v2", "oci:out") as process:
            await gate.reached.wait()
            process.kill()
            await process.wait()
        assert (desk.folder / "out" / "index.json").read_bytes() == before
        source.faults.clear()
        assert (await desk.run("copy", f"{source.host}/a:v2", "oci:out")).status == 0
        assert [str(file) for file in (desk.folder / "out").rglob(".*")] == []
        back = await desk.run("copy", "oci:out:v2", "oci:again")
        assert back.status == 0, back
        assert source.count("GET", "/blobs/") > 0
        assert (await source.wait(Moment.STARTED, "HEAD", "/manifests/v2")).status == 200
