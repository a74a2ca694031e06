"""kill -9 in the middle of adoptions and evictions: the next process knows every byte that is there."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
from pathlib import Path

import pytest

from mirrord.blobs.bounded import BoundedStore
from tests.support.cached import bytes_of

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
    store = BoundedStore(folder / "blobs", lambda: 1 << 40, evicting=lambda *_: print("evicting", flush=True))
    await store.open_()
    store.order.limit = 1_000_000
    await asyncio.gather(*(adopt(store, worker) for worker in range(20)))

asyncio.run(main())
"""


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
