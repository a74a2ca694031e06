"""A front on a disk that is full, or nearly: what does not fit is served all the same, and mirrors go on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mirrord.blobs.reserve import RESERVE
from mirrord.errors import UnreachableError
from mirrord.testing import Registry, build_image, push
from tests.support.disks import fill, small_disk
from tests.support.frontdesk import FrontDesk, fronted

MIB = 1 << 20
NAME = "team/app"
BIG = build_image(["linux/amd64"], layers=1, layer_size=30 * MIB, seed="big")
SMALL = build_image(["linux/amd64"], layers=1, layer_size=MIB, seed="small")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    try:
        with small_disk(tmp_path / "disk", RESERVE + 20 * MIB) as made:
            yield made
    except UnreachableError as error:
        pytest.skip(str(error))


@pytest.fixture
async def upstream() -> AsyncIterator[Registry]:
    async with Registry() as double:
        await push(BIG, double, NAME, ["big"])
        await push(SMALL, double, NAME, ["small"])
        yield double


@pytest.fixture
async def front(upstream: Registry, disk: Path) -> AsyncIterator[FrontDesk]:
    async with fronted(disk, upstream.host) as made:
        for tag in ("big", "small"):
            assert (await made.get(f"{made.path(NAME)}/manifests/{tag}")).status == 200
        yield made


async def reads(front: FrontDesk, upstream: Registry, layer: str, data: bytes) -> int:
    """Pull a layer whole; return how often upstream was asked for it, ever."""
    answer = await front.get(f"{front.path(NAME)}/blobs/{layer}")
    assert (answer.status, answer.body == data) == (200, True)
    return upstream.count("GET", f"/blobs/{layer}")


async def test_what_does_not_fit(front: FrontDesk, upstream: Registry, disk: Path) -> None:
    """A layer that is larger than the room on the disk is served whole and not kept; what fits is kept."""
    big, small = BIG.layers[0], SMALL.layers[0]
    assert await reads(front, upstream, big, BIG.blobs[big]) == 1
    assert [await reads(front, upstream, small, SMALL.blobs[small]) for _ in range(2)] == [1, 1]
    assert await reads(front, upstream, big, BIG.blobs[big]) == 2
    kept = [file for folder in ("cache", "spool") for file in (disk / "state" / folder).rglob("*") if file.is_file()]
    assert max(file.stat().st_size for file in kept) < 2 * MIB


async def test_a_full_disk(front: FrontDesk, upstream: Registry, disk: Path) -> None:
    """On a disk that others filled to its last byte, what is kept and what is not is served whole; it heals."""
    big, small = BIG.layers[0], SMALL.layers[0]
    assert await reads(front, upstream, small, SMALL.blobs[small]) == 1
    fill(disk / "filler")
    assert await reads(front, upstream, small, SMALL.blobs[small]) == 1
    assert await reads(front, upstream, big, BIG.blobs[big]) == 1
    (disk / "filler").unlink()
    assert await reads(front, upstream, small, SMALL.blobs[small]) == 1
