"""kill -9 in the middle of adoptions and evictions: the next process knows every byte that is there."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
from pathlib import Path

import pytest

from mirrord.blobs.bounded import BoundedStore
from mirrord.testing import Registry
from tests.support.cached import MIB, CachedFront, bytes_of, data_of

ROOT = Path(__file__).parents[2]

CHILD = """
import asyncio, os, sys
from pathlib import Path
from mirrord.blobs.bounded import BoundedStore
from mirrord.model.digest import Digest

folder = Path(sys.argv[1])

async def adopt(store, worker):
    for number in range(1000):
        data = os.urandom(100_000)
        file = folder / f"spool-{worker}"
        file.unlink(missing_ok=True)
        file.write_bytes(data)
        await store.adopt(Digest.of(data), file)
        print("adopted", flush=True)

async def main():
    store = BoundedStore(folder / "blobs", lambda: 1 << 40, removing=lambda *_: print("evicting", flush=True))
    await store.open_()
    store.order.limit = 1_000_000
    await asyncio.gather(*(adopt(store, worker) for worker in range(20)))

asyncio.run(main())
"""

PULLS = """
import asyncio, sys
from pathlib import Path
from types import SimpleNamespace
from mirrord.model.digest import Digest
from tests.support.cached import CachedFront

async def pull(front, digest):
    async with front.asking(digest) as chunks:
        async for chunk in chunks:
            print(len(chunk), flush=True)

async def main(folder, host, size, *digests):
    registry = SimpleNamespace(host=host, blobs={digest: bytes(int(size)) for digest in digests})
    async with CachedFront(registry, Path(folder)) as front:
        await front.cache.limits(10 * int(size))
        for number in range(0, len(digests), 20):
            await asyncio.gather(*(pull(front, Digest(digest)) for digest in digests[number : number + 20]))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("chunks", [30, 130, 220])
async def test_killed_in_twenty_pulls(chunks: int, tmp_path: Path) -> None:
    """What was pulled is whole or absent after kill -9, and counted; what is there is not asked for again."""
    async with Registry() as registry, CachedFront(registry, tmp_path / "unused") as maker:
        digests = [maker.add(seed) for seed in range(60)]
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PULLS, str(tmp_path), registry.host, str(MIB), *digests),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout
        seen = [await child.stdout.readline() for _ in range(chunks)]
        child.send_signal(signal.SIGKILL)
        await child.communicate()
        assert all(seen)
        assert child.returncode == -signal.SIGKILL
        async with CachedFront(registry, tmp_path) as front:
            files = [file for file in (tmp_path / "cache" / "blobs").rglob("*") if file.is_file()]
            size = front.cache.standing().size
            assert size == bytes_of(tmp_path / "cache" / "blobs") == len(files) * MIB
            for file in files:
                assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name
            registry.forget()
            there = [digest in front.cache.store for digest in digests]
            for seed, digest in enumerate(digests):
                assert await front.get(digest) == data_of(seed)
            assert [registry.count("GET", digest) > 0 for digest in digests].count(True) <= there.count(False)
            assert not any(registry.count("GET", digest) for digest, was in zip(digests, there, strict=True) if was)


@pytest.mark.parametrize("events", [25, 61, 140])
async def test_killed(events: int, tmp_path: Path) -> None:
    """Twenty adopt at once and others are evicted for them: totals are what `du` says, and every file is whole."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout
    seen = [await child.stdout.readline() for _ in range(events)]
    child.send_signal(signal.SIGKILL)
    await child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert seen.count(b"adopted\n") + seen.count(b"evicting\n") == events
    assert b"evicting\n" in seen
    store = BoundedStore(tmp_path / "blobs", lambda: 1 << 40)
    await store.open_()
    files = [file for file in (tmp_path / "blobs").rglob("*") if file.is_file()]
    assert store.order.size == bytes_of(tmp_path / "blobs") == len(store.order) * 100_000 == len(files) * 100_000
    assert len(store.order) >= 10
    for file in files:
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name
    store.order.limit = 1_000_000
    await store.evict()
    assert store.order.size == bytes_of(tmp_path / "blobs") == 1_000_000
