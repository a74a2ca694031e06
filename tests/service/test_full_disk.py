"""A disk that is really full, and a process that may open no more files: one thing stops, and comes back (F7-F10)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mirrord.blobs.reserve import FILE, HELD, RESERVE
from mirrord.commands import Sync
from mirrord.errors import UnreachableError
from mirrord.model.digest import Digest
from mirrord.model.run import Result, Run
from mirrord.serve.remote import ControlClient
from mirrord.testing import Fault, Image, Registry, build_image, push
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from tests.support.commands import Desk, Served
from tests.support.disks import fill, fill_names, read_only, small_disk
from tests.support.gitcontent import lfs_pointer
from tests.support.lfshost import LfsHost

MIB = 1 << 20
DISK = RESERVE + 30 * MIB
FILES = 600
BIG = build_image(["linux/amd64"], layers=4, layer_size=10 * MIB, seed="big")  # no layer alone is too large
FITS = build_image(["linux/amd64"], layers=1, layer_size=12 * MIB, seed="fits")
SMALL = build_image(["linux/amd64"], layers=1, layer_size=MIB, seed="small")


def mounted(folder: Path, files: int = 0) -> Iterator[Path]:
    try:
        with small_disk(folder, DISK, files) as disk:
            yield disk
    except UnreachableError as error:
        pytest.skip(str(error))


class House:
    """A daemon whose state lies on a small disk, and a source that has three images."""

    def __init__(self, disk: Path, source: Registry, daemon: Served) -> None:
        self.disk, self.source, self.daemon = disk, source, daemon
        self.state = disk / "state"

    async def sync(self, name: str) -> Run:
        async with asyncio.timeout(60):
            (run,) = await ControlClient(self.state).carry_out(Sync((name,)))
        return run

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as client, client.get(f"http://{self.daemon.address}{path}") as answer:
            return answer.status, await answer.text()

    async def standing(self, name: str) -> dict[str, Any]:
        document = json.loads((await self.get("/status"))[1])
        found: dict[str, Any] = next(mirror for mirror in document["mirrors"] if mirror["name"] == name)
        return found

    async def until_ready(self) -> None:
        """Wait until it says so: it looks every fifteen seconds, and whenever a run had trouble."""
        async with asyncio.timeout(60):
            while (await self.get("/readyz"))[0] != 200:  # noqa: ASYNC110 - another process says it
                await asyncio.sleep(0.05)

    def spooled(self) -> list[str]:
        """Return what is in the spool besides whole blobs."""
        return [file.name for file in (self.state / "spool").iterdir() if file.suffix]

    def recorded(self, name: str) -> list[str]:
        """Read the codes of all runs of a mirror from the record itself."""
        with contextlib.closing(sqlite3.connect(self.state / "mirrord.db")) as link:
            return [code for (code,) in link.execute("select code from runs where mirror = ? order by id", (name,))]


@contextlib.asynccontextmanager
async def opened(disk: Path) -> AsyncIterator[House]:
    desk = Desk(disk)
    async with Registry() as source:
        mirrors = []
        for name, image in (("big", BIG), ("fits", FITS), ("small", SMALL)):
            await push(image, source, f"up/{name}", ["main"])
            place = f"{{repository: '{source.host}/up/{name}:main'}}"
            mirrors.append(f"- {{name: {name}, kind: image, from: {place}, to: local, trust: 0s}}\n")
        desk.configure("settings: {listen: '127.0.0.1:0'}\nmirrors:\n" + "".join(mirrors))
        async with desk.serving() as daemon:
            yield House(disk, source, daemon)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "disk")


@pytest.fixture
async def house(disk: Path) -> AsyncIterator[House]:
    async with opened(disk) as made:
        yield made


async def test_what_cannot_fit_is_told_before_it_is_read(house: House) -> None:
    """An image larger than the room on the disk costs no byte of it and of the source; all others go on (F7)."""
    run = await house.sync("big")
    assert (run.result, run.receipts[0].code) == (Result.FAILED, "storage")
    assert "free some space" in run.receipts[0].detail
    assert house.source.count("GET", "/blobs/") == 0
    assert (await house.sync("small")).result is Result.SUCCESS
    assert (await house.sync("fits")).result is Result.SUCCESS
    assert await house.get("/readyz") == (200, "ok\n")
    assert house.recorded("big") == ["storage"]
    assert house.spooled() == []
    assert shutil.disk_usage(house.disk).free + HELD >= RESERVE - MIB


async def stalled(house: House, image: Image, after: int) -> tuple[Fault, asyncio.Task[Run]]:
    """Begin to read an image, and stop in the middle of its layer."""
    fault = house.source.faults.on("GET", image.layers[0]).stall(after)
    run = asyncio.create_task(house.sync("fits"))
    async with asyncio.timeout(60):
        await fault.reached.wait()
    return fault, run


async def test_a_disk_that_others_fill_stops_one_thing(house: House) -> None:
    """Full in the middle of a blob (F7, F8): its staging goes, the run is in the record, others run, and it heals."""
    assert (await house.sync("small")).result is Result.SUCCESS
    fault, running = await stalled(house, FITS, 5 * MIB)
    fill(house.disk / "filler")
    fault.release()
    run = await running
    assert (run.result, run.receipts[0].code) == (Result.FAILED, "storage")
    assert "No space left on device" in run.receipts[0].detail
    assert house.spooled() == []
    assert house.recorded("fits") == ["storage"]
    code, why = await house.get("/readyz")
    assert code == 503
    assert "reserved for the database" in why
    assert (await house.get("/livez"))[0] == 200
    if (house.state / FILE).exists():  # else a sign of life was written while nothing was free, and took the reserve
        fill(house.disk / "filler")
    for _ in range(3):
        run = await house.sync("small")
        assert (run.result, run.error) == (Result.NOOP, "")
    assert house.recorded("small") == [""] * 4
    assert (await house.get("/v2/small/manifests/main"))[0] == 200
    (house.disk / "filler").unlink()
    assert (await house.sync("fits")).result is Result.SUCCESS
    await house.until_ready()
    assert (house.state / FILE).stat().st_blocks * 512 >= HELD
    assert (await house.standing("fits"))["consecutive_failures"] == 0


async def test_content_of_an_image_that_does_not_fit_is_given_up(disk: Path) -> None:
    """Layers that were kept for an image whose last one finds no room leave the disk as it was, without a restart."""
    image = build_image(["linux/amd64", "linux/arm64"], layers=1, layer_size=12 * MIB, seed="two")
    async with opened(disk) as house:
        await push(image, house.source, "up/fits", ["main"])
        before = shutil.disk_usage(disk).free
        fault, running = await stalled(house, image, 5 * MIB)
        other = house.state / "blobs" / "sha256" / (hexadecimal := Digest(image.layers[1]).hex)[:2] / hexadecimal
        async with asyncio.timeout(60):
            while not other.exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.05)
        fill(disk / "filler", leave=4 * MIB)
        fault.release()
        run = await running
        (disk / "filler").unlink()
        assert (run.result, run.receipts[0].code) == (Result.FAILED, "storage")
        assert list((house.state / "blobs").glob("*/*/*")) == []
        kept = sum(file.stat().st_size for file in (house.state / "spool").iterdir())
        assert before - shutil.disk_usage(disk).free - kept < MIB
        assert (await house.sync("small")).result is Result.SUCCESS
        assert (await house.sync("fits")).result is Result.SUCCESS


async def test_a_full_disk_at_start_stops_nothing(disk: Path) -> None:
    """The daemon starts on a full disk, serves what it has, is not ready, and says why."""
    async with opened(disk) as house:
        assert (await house.sync("small")).result is Result.SUCCESS
    fill(disk / "filler")
    async with opened(disk) as house:
        await house.daemon.logged("daemon.ready")
        assert (await house.get("/v2/small/manifests/main"))[0] == 200
        async with asyncio.timeout(60):
            while (await house.get("/readyz"))[0] != 503:  # noqa: ASYNC110 - another process says it
                await asyncio.sleep(0.05)
        (disk / "filler").unlink()
        assert (await house.sync("fits")).result is Result.SUCCESS
        await house.until_ready()


async def test_no_more_files(tmp_path: Path) -> None:
    """A disk on which no file can be made (F9): what needs one fails, what needs none goes on, and it heals."""
    for disk in mounted(tmp_path / "disk", FILES):
        async with opened(disk) as house:
            assert (await house.sync("small")).result is Result.SUCCESS
            fill_names(disk / "names")
            run = await house.sync("fits")
            assert (run.result, run.receipts[0].code) == (Result.FAILED, "storage")
            assert house.recorded("fits") == ["storage"]
            code, why = await house.get("/readyz")
            assert code == 503
            assert "no inodes are left" in why
            assert (await house.sync("small")).result is Result.NOOP
            shutil.rmtree(disk / "names")
            assert (await house.sync("fits")).result is Result.SUCCESS
            await house.until_ready()


@contextlib.asynccontextmanager
async def too_large(kind: str, folder: Path) -> AsyncIterator[str]:
    """Offer something that is larger than the disk; yields the keys of its mirror."""
    big = os.urandom(50 * MIB)
    if kind == "charts":
        async with ChartRepository(path="/stable") as charts:
            charts.add(build_chart("app", "1.0.0", {"big": big}))
            yield f"kind: helm, from: '{charts.url}'"
    elif kind == "files of LFS":
        async with LfsHost(folder / "up") as host:
            upstream = Upstream(host.create("app.git"))
            upstream.commit("main", {".gitattributes": b"*.bin filter=lfs\n", "big.bin": lfs_pointer(big)})
            host.put("app.git", big)
            yield f"kind: git, from: '{host.url('app.git')}'"
    else:
        async with GitHost(folder / "up") as host:
            Upstream(host.create("app.git")).commit("main", {"big": big})
            yield f"kind: git, lfs: false, from: '{host.url('app.git')}'"


@pytest.mark.parametrize("kind", ["git", "files of LFS", "charts"])
async def test_other_kinds_that_do_not_fit(disk: Path, tmp_path: Path, kind: str) -> None:
    """What is larger than the disk fills it or is refused (F7): nothing of it is left, and others go on."""
    desk = Desk(disk)
    async with Registry() as source, too_large(kind, tmp_path) as keys:
        await push(SMALL, source, "up/small", ["main"])
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\nmirrors:\n"
            f"- {{name: fits, {keys}, to: local}}\n"
            f"- {{name: small, kind: image, from: {{repository: '{source.host}/up/small:main'}}, to: local}}\n"
        )
        async with desk.serving() as daemon:
            house = House(disk, source, daemon)
            run = await house.sync("fits")
            told(run)
            assert house.recorded("fits") == ["storage"]
            assert staged(house) < 2 * MIB
            assert (await house.sync("small")).result is Result.SUCCESS
            await house.until_ready()


def told(run: Run) -> None:
    """Check that a run says that it was the disk, and is no success."""
    found = [(run.code, run.error), *((receipt.code, receipt.detail) for receipt in run.receipts if receipt.bad)]
    code, said = next(one for one in found if one[0])
    assert (code, "No space left on device" in said or "free some space" in said) == ("storage", True), found
    assert run.result not in (Result.SUCCESS, Result.NOOP)


def staged(house: House) -> int:
    """Add up what is in the state, but for the reserve."""
    return sum(file.stat().st_size for file in house.state.rglob("*") if file.is_file() and file.name != FILE)


async def test_a_disk_that_fills_up_under_a_file_of_lfs(disk: Path, tmp_path: Path) -> None:
    """An object of LFS for which there was room, until others took it: what came of it goes at once, and it heals."""
    desk, data = Desk(disk), os.urandom(12 * MIB)
    async with Registry() as source, LfsHost(tmp_path / "up") as host:
        upstream = Upstream(host.create("app.git"))
        upstream.commit("main", {".gitattributes": b"*.bin filter=lfs\n", "big.bin": lfs_pointer(data)})
        fault = host.faults.on("GET", host.put("app.git", data)).stall(5 * MIB)
        mirror = f"name: fits, kind: git, from: '{host.url('app.git')}', to: local"
        desk.configure(f"settings: {{listen: '127.0.0.1:0'}}\nmirrors:\n- {{{mirror}}}\n")
        async with desk.serving() as daemon:
            house = House(disk, source, daemon)
            running = asyncio.create_task(house.sync("fits"))
            async with asyncio.timeout(60):
                await fault.reached.wait()
            fill(disk / "filler")
            fault.release()
            told(await running)
            assert staged(house) < MIB
            (disk / "filler").unlink()
            assert (await house.sync("fits")).result is Result.SUCCESS


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def test_no_more_open_files(house: House) -> None:
    """Clients that take all descriptors (F10): the door stays, and all works again when they are gone."""
    assert (await house.sync("small")).result is Result.SUCCESS
    pid, (_, hard) = house.daemon.process.pid, resource.getrlimit(resource.RLIMIT_NOFILE)
    before = open_files(pid)
    limit = before + 30
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
    host, port = house.daemon.address.split(":")
    crowd = [await asyncio.open_connection(host, int(port)) for _ in range(40)]
    async with asyncio.timeout(60):
        while open_files(pid) < limit:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.05)
    for _, writer in crowd:
        writer.close()
    async with asyncio.timeout(60):
        while open_files(pid) > before + 4:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.05)
    assert (await house.get("/livez"))[0] == 200
    await house.until_ready()
    run = await house.sync("fits")
    assert (run.result, run.error) == (Result.SUCCESS, "")


async def test_commands_say_that_it_was_the_disk(disk: Path) -> None:
    """`sync` and `copy` of what does not fit end with 74, as their table says, and name the disk."""
    desk = Desk(disk)
    async with Registry() as target, Registry() as source:
        await push(BIG, source, "up/big", ["main"])
        place = f"{{repository: '{source.host}/up/big:main'}}"
        desk.configure(f"mirrors:\n- {{name: big, kind: image, from: {place}, to: local}}\n")
        synced = await desk.run("sync", "big")
        assert synced.status == 74, synced
        line = rf"big: needs [1-9][0-9]* MiB, and the disk of {disk}/state has [0-9]+ MiB free; free some space$"
        assert re.search(line, synced.out, re.MULTILINE), synced
        fill(disk / "filler", leave=5 * MIB)
        copied = await desk.run("copy", f"{source.host}/up/big:main", f"{target.host}/big:main")
        assert (copied.status, "free some space" in copied.out) == (74, True), copied
        assert sum(source.count("GET", layer) for layer in BIG.layers) == 0


async def test_a_collection_makes_room_on_a_full_disk(disk: Path) -> None:
    """Without a daemon, on a disk that others filled to its last byte: `gc` removes what is not kept, and says so."""
    desk, layers = Desk(disk), {}
    async with Registry() as source:
        for number in range(3):
            image = build_image(["linux/amd64"], layers=1, layer_size=5 * MIB, seed=f"{number}")
            layers[number] = image.layers[0]
            await push(image, source, "up/app", [f"1.{number}"])
        mirror = f"name: app, kind: image, from: {{repository: {source.host}/up/app, tags: ['*']}}, to: local"
        desk.configure(f"mirrors: [{{{mirror}}}]\n")
        assert (await desk.run("sync")).status == 0
        desk.configure(f"mirrors: [{{{mirror}, keep: {{newest: 1}}}}]\n")
        fill(disk / "filler")
        said = await desk.run("gc")
        assert (said.status, "2 of 3 names; freed 10.0 MiB" in said.out) == (0, True), said
        kept = {file.name for file in (disk / "state" / "blobs").glob("*/*/*")}
        assert {number for number, layer in layers.items() if layer.partition(":")[2] in kept} == {2}
        assert (await desk.run("sync")).status == 0


async def test_a_disk_that_became_read_only(disk: Path) -> None:
    """A state that cannot be written to any more (F9): every command says so with 74, and none breaks."""
    async with opened(disk) as house:
        assert (await house.sync("small")).result is Result.SUCCESS
    read_only(disk)
    desk = Desk(disk)
    for command in (["serve"], ["sync", "small"], ["status"]):
        said = await desk.run(*command)
        assert (said.status, "Read-only file system" in said.err) == (74, True), said
        assert "Traceback" not in said.err
