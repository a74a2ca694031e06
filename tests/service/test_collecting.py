"""Collections of `local` by a daemon: what fails is said, and the next one is not far; a reload meanwhile counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mirrord import failpoints
from mirrord.config.load import Configuration, load_folder
from mirrord.daemon import scheduled_collection
from mirrord.daemon.collecting import GarbageCollection
from mirrord.daemon.lock import StateLock
from mirrord.daemon.runtime import Snapshot, open_runtime
from mirrord.daemon.scheduled_collection import ScheduledCollection
from mirrord.errors import StorageError
from mirrord.events import Events
from mirrord.model.collected import Collected
from mirrord.syncer.port import load_syncers
from mirrord.testing import Registry, build_image, push
from tests.support.localstore import tags_in


class Logs:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()

    def write(self, level: str, event: str, message: str = "", **_: object) -> None:
        self.lines.put_nowait((level, event, message))


class Collecting:
    """Fails at first."""

    wanted = True

    def __init__(self, *errors: Exception, shared: bool = False) -> None:
        self.ends, self.shared, self.asked = [*errors], shared, 0

    async def collect(self) -> Collected:
        self.asked += 1
        if self.ends:
            raise self.ends.pop()
        return Collected(blobs=1)


@asynccontextmanager
async def at_work(collecting: Collecting, *, leads: bool = True) -> AsyncIterator[tuple[ScheduledCollection, Logs]]:
    logs, runtime = Logs(), SimpleNamespace(leads=leads)
    some = cast("Any", runtime), cast("Any", collecting), cast("Any", logs)
    scheduled = ScheduledCollection(*some)
    going = asyncio.create_task(scheduled.work())
    try:
        async with asyncio.timeout(30):
            yield scheduled, logs
    finally:
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going


@pytest.mark.parametrize("error", [StorageError("disk full"), OSError(5, "Input/output error")])
async def test_a_collection_that_fails(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the log once, and after the next run there is another one."""
    monkeypatch.setattr(scheduled_collection, "EVERY", 0.0)
    async with at_work(Collecting(error, error)) as (scheduled, logs):
        scheduled.ran()
        assert await logs.lines.get() == ("warning", "gc.failed", str(error))
        scheduled.ran()
        while logs.lines.empty():
            scheduled.ran()
            await asyncio.sleep(0)
        assert (await logs.lines.get())[:2] == ("info", "gc.done")


async def test_a_bucket_is_collected_by_who_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no run of this replica, and is tried again when the bucket was away; others wait."""
    for name in ("EVERY", "FIRST", "SHARED"):
        monkeypatch.setattr(scheduled_collection, name, 0.0)
    follower = Collecting(shared=True)
    async with at_work(follower, leads=False) as (scheduled, logs):
        scheduled.ran()
        for _ in range(20):
            await asyncio.sleep(0)
    assert (follower.asked, logs.lines.empty()) == (0, True)
    away = StorageError("s3://bucket: cannot list uses/: away")
    leader = Collecting(away, away, away, shared=True)
    async with at_work(leader) as (_, logs):
        assert await logs.lines.get() == ("warning", "gc.failed", str(away))
        assert (await logs.lines.get())[:2] == ("info", "gc.done")
    assert leader.asked > 3


async def test_a_reload_during_a_collection(tmp_path: Path) -> None:
    """What the configuration in use keeps stays, though the collection began with one that does not keep it."""
    folder, state, syncers = tmp_path / "conf.d", tmp_path / "state", load_syncers()
    folder.mkdir()

    async def read(keep: str) -> Configuration:
        (folder / "a.yaml").write_text(
            "mirrors:\n"
            + "".join(
                f"  - {{name: {name}, kind: image, from: {{repository: {source.host}/up/{name}, tags: ['*']}},"
                f" {keep}to: local}}\n"
                for name in ("one", "two")
            )
        )
        return await asyncio.to_thread(load_folder, folder, syncers, {})

    async with Registry() as source:
        tags = ["v1", "v2", "v3"]
        for name in ("one", "two"):
            for tag in tags:
                await push(
                    build_image(["linux/amd64"], seed=f"{name}{tag}", layer_size=500), source, f"up/{name}", [tag]
                )
        few, all_of_them = await read("keep: {newest: 1}, "), await read("")
        state.mkdir()
        with StateLock(state):
            async with open_runtime(few, syncers, state, Events()) as runtime:
                for name in ("one", "two"):
                    await runtime.runner.sync(name)
                assert runtime.collector

                def reload() -> None:
                    runtime.snapshot = Snapshot(all_of_them, syncers, runtime.snapshot.services)

                failpoints.arm("gc.dropped", reload)
                try:
                    found = await GarbageCollection(runtime, runtime.collector).collect()
                finally:
                    failpoints.disarm()
                assert len(found.gone) == 2
                assert found.troubles == ()
        left = {name: sorted(tags_in(state / "repositories", name)) for name in ("one", "two")}
        assert sorted(map(len, left.values())) == [1, 3]
