"""Collections of `local` by a daemon: what fails is said, and the next one is not far; a reload meanwhile counts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mirrord import failpoints
from mirrord.config.load import Configuration, load_folder
from mirrord.daemon.collecting import GarbageCollection
from mirrord.daemon.daemon import Daemon
from mirrord.daemon.lock import StateLock
from mirrord.daemon.runtime import Snapshot, open_runtime
from mirrord.daemon.systemd import Notifier
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

    def __init__(self, error: Exception) -> None:
        self.ends: list[Exception] = [error]

    async def collect(self) -> Collected:
        if self.ends:
            raise self.ends.pop()
        return Collected(blobs=1)


@pytest.mark.parametrize("error", [StorageError("disk full"), OSError(5, "Input/output error")])
async def test_a_collection_that_fails(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the log, and after the next run there is another one."""
    monkeypatch.setattr("mirrord.daemon.daemon.COLLECT_EVERY", 0.0)
    snapshot = SimpleNamespace(configuration=Configuration(), services=SimpleNamespace(uses=None))
    runner = SimpleNamespace(tick=None)
    runtime = SimpleNamespace(runner=runner, events=Events(), snapshot=snapshot, store=None, collector=None)
    logs, folder = Logs(), Path()
    some = cast("Any", runtime), cast("Any", logs), cast("Any", None), Notifier({})
    daemon = Daemon(*some, folder=folder, state=folder, environ={}, listen="")
    daemon.collecting = cast("Any", Collecting(error))
    going = asyncio.create_task(daemon.collect_on())
    try:
        daemon._collect.set()
        async with asyncio.timeout(30):
            assert await logs.lines.get() == ("warning", "gc.failed", str(error))
            daemon._collect.set()
            assert (await logs.lines.get())[:2] == ("info", "gc.done")
    finally:
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going


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
