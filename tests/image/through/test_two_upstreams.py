"""One digest at two upstreams: wrong bytes or silence of one of them does not affect clients of the other one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mirrord.blobs.source import BlobSource
from mirrord.errors import RestartedError
from mirrord.model.digest import Digest
from mirrord.names.book import NameBook
from mirrord.syncers.image.upstream.registry import RegistrySource
from mirrord.testing import Registry
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.reference import Reference
from tests.image.through.test_blobs import MIB, an_image
from tests.support.pulling import Answered, Pulls, pulling

SIZE = 8 * MIB + 19
LAYER = random.Random(16).randbytes(SIZE)
DIGEST = Digest.of(LAYER)
HONEST, HOSTILE = (f"{name}.test/team/app/blobs/{DIGEST}" for name in ("up", "evil"))


class Scene(NamedTuple):
    """A front, and two upstreams with the same image, whose manifests were pulled."""

    pulls: Pulls
    honest: Registry
    hostile: Registry

    def reads(self) -> tuple[int, int]:
        """Return how often each was asked for content of blobs."""
        return self.honest.count("GET", "/blobs/"), self.hostile.count("GET", "/blobs/")

    async def run(self, upstream: Registry, consumer: str) -> bytes:
        """Read the blob as a mirror does that copies from one of them."""
        world = self.pulls.world
        repository = Repository(world.services.http, Reference.parse(f"{upstream.host}/team/app"))
        source = await RegistrySource(repository).blob_source(Descriptor("application/octet-stream", DIGEST, SIZE))
        return await taken(self.pulls, source, consumer)

    async def quiet(self) -> None:
        """Wait until nothing is transferred."""
        while self.pulls.services().spools.cache.busy:  # noqa: ASYNC110 - nothing announces that
            await asyncio.sleep(0.01)


async def taken(pulls: Pulls, source: BlobSource, consumer: str) -> bytes:
    async with pulls.services().spools.reader(source, consumer) as reader:
        return b"".join([chunk async for chunk in reader.chunks()])


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with Registry() as honest, Registry() as hostile, pulling(tmp_path, honest.host) as pulls:
        book = NameBook({"up.test": honest.host, "evil.test": hostile.host})
        both = [honest.host, hostile.host]
        pulls.configure(names=book, upstreams=both, allow=["up.test/**", "evil.test/**"])
        for upstream, name in ((honest, "up"), (hostile, "evil")):
            an_image(upstream.content, LAYER)
            assert (await pulls.ask(f"{name}.test/team/app/manifests/v1")).status == 200
            upstream.forget()
        yield Scene(pulls, honest, hostile)


def whole(answer: Answered) -> bool:
    return (answer.status, answer.clean, answer.body == LAYER) == (200, True, True)


async def test_garbage_at_the_same_time(scene: Scene) -> None:
    """Clients of the honest upstream get the blob whole from one GET while the other one sends wrong bytes."""
    fault = scene.hostile.faults.on("GET", "/blobs/", times=None).corrupt(0).stall(after=6 * MIB)
    hostile = [asyncio.create_task(scene.pulls.ask(HOSTILE)) for _ in range(2)]
    await fault.reached.wait()
    answers = await asyncio.gather(*(scene.pulls.ask(HONEST) for _ in range(3)))
    assert all(map(whole, answers))
    assert scene.reads() == (1, 1)
    fault.release()
    assert not any(map(whole, await asyncio.gather(*hostile)))
    assert "range" not in scene.honest.select("GET", "/blobs/")[0].headers


async def test_garbage_that_is_left(scene: Scene) -> None:
    """Most of the blob came wrong, and its upstream went away: a client of the honest one gets all from there."""
    scene.hostile.faults.on("GET", "/blobs/").corrupt(0).truncate(6 * MIB)
    scene.hostile.faults.on("GET", "/blobs/", times=None).status(500)
    assert not (await scene.pulls.ask(HOSTILE)).clean
    await scene.quiet()
    assert [file.stat().st_size for file in scene.pulls.world.spooled() if file.suffix == ".part"] == [6 * MIB]
    scene.hostile.forget()
    assert whole(await scene.pulls.ask(HONEST))
    assert scene.reads() == (1, 0)
    assert "range" not in scene.honest.select("GET", "/blobs/")[0].headers


@pytest.mark.parametrize("bytes_first", [None, 1], ids=["nothing", "one byte"])
async def test_an_upstream_that_hangs(bytes_first: int | None, scene: Scene) -> None:
    """Nobody at the honest upstream waits for another one that says nothing, or one byte."""
    fault = scene.hostile.faults.on("GET", "/blobs/", times=None)
    fault = fault.hold() if bytes_first is None else fault.stall(after=bytes_first)
    hostile = asyncio.create_task(scene.pulls.ask(HOSTILE))
    await fault.reached.wait()
    assert whole(await scene.pulls.ask(HONEST))
    assert scene.reads() == (1, 1)
    assert not hostile.done()
    fault.release()
    assert whole(await hostile)


@pytest.mark.parametrize("together", [True, False], ids=["together", "one after the other"])
async def test_both_are_read_at_once_and_one_file_is_kept(together: bool, scene: Scene) -> None:
    """Two honest transfers count in the budget both; what remains is one file, which serves clients of both."""
    cache = scene.pulls.services().spools.cache
    faults = [one.faults.on("GET", "/blobs/").stall(after=SIZE - 1) for one in (scene.honest, scene.hostile)]
    asked = [asyncio.create_task(scene.pulls.ask(path)) for path in (HONEST, HOSTILE)]
    await asyncio.gather(*(fault.reached.wait() for fault in faults))
    assert cache.used == 2 * SIZE
    for fault in faults:
        fault.release()
        while not together and len(cache.busy) == 2:  # noqa: ASYNC110 - nothing announces that
            await asyncio.sleep(0.01)
    assert all(map(whole, await asyncio.gather(*asked)))
    await scene.quiet()
    assert cache.used == SIZE
    (file,) = scene.pulls.world.spooled()
    assert (file.name, file.stat().st_nlink) == (f"sha256-{DIGEST.hex}", 2)
    assert scene.pulls.front.standing().cache_entries == 2
    assert all([whole(await scene.pulls.ask(path)) for path in (HONEST, HOSTILE)])
    assert scene.reads() == (1, 1)


async def test_a_client_joins_a_run_of_its_upstream(scene: Scene) -> None:
    """A mirror and a client of one upstream share one GET; a mirror of another upstream does not join them then."""
    fault = scene.honest.faults.on("GET", "/blobs/").stall(after=MIB)
    scene.hostile.faults.on("GET", "/blobs/", times=None).corrupt(0)
    mirror = asyncio.create_task(scene.run(scene.honest, "mirror/a"))
    await fault.reached.wait()
    client = asyncio.create_task(scene.pulls.ask(HONEST))
    (entry,) = scene.pulls.services().spools.cache.busy
    while len(entry.spool.readers) < 3:  # noqa: ASYNC110 - mirror, client and cache; nothing announces a reader
        await asyncio.sleep(0)
    with pytest.raises(RestartedError, match="received wrong bytes"):
        await scene.run(scene.hostile, "other/a")
    fault.release()
    assert whole(await client)
    assert await mirror == LAYER
    assert scene.honest.count("GET", "/blobs/") == 1


async def test_a_run_joins_clients_of_its_upstream(scene: Scene) -> None:
    """A mirror takes part in what clients of its upstream are reading: one GET."""
    fault = scene.honest.faults.on("GET", "/blobs/").stall(after=MIB)
    client = asyncio.create_task(scene.pulls.ask(HONEST))
    await fault.reached.wait()
    mirror = asyncio.create_task(scene.run(scene.honest, "mirror/a"))
    (entry,) = scene.pulls.services().spools.cache.busy
    while len(entry.spool.readers) < 3:  # noqa: ASYNC110 - client, cache and mirror; nothing announces a reader
        await asyncio.sleep(0)
    fault.release()
    assert (whole(await client), await mirror == LAYER) == (True, True)
    assert scene.reads() == (1, 0)


async def test_a_client_beside_runs_of_several_upstreams(scene: Scene) -> None:
    """Mirrors share a transfer whatever their upstreams; a client does not join one that had wrong bytes for it."""
    fault = scene.hostile.faults.on("GET", "/blobs/", times=None).corrupt(0).stall(after=MIB)
    mirrors = [asyncio.create_task(scene.run(scene.hostile, "other/a"))]
    await fault.reached.wait()
    mirrors.append(asyncio.create_task(scene.run(scene.honest, "mirror/a")))
    (entry,) = scene.pulls.services().spools.cache.busy
    while len(entry.spool.readers) < 2:  # noqa: ASYNC110 - nothing announces a reader
        await asyncio.sleep(0)
    assert scene.reads() == (0, 1)
    assert whole(await scene.pulls.ask(HONEST))
    assert scene.reads() == (1, 1)
    for mirror in mirrors:
        mirror.cancel()
    await asyncio.gather(*mirrors, return_exceptions=True)
