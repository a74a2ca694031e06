"""Something is taken down while a daemon reads its configuration anew."""

from __future__ import annotations

import asyncio
import threading
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from mirrord.commands import Reload, Takedown
from mirrord.config.load import Configuration, load_folder
from mirrord.daemon.daemon import Daemon
from mirrord.daemon.lock import StateLock
from mirrord.daemon.runtime import now, open_runtime
from mirrord.daemon.systemd import Notifier
from mirrord.events import Events
from mirrord.report.logs import Logs
from mirrord.report.metrics import Metrics
from mirrord.syncer.port import load_syncers

PLUGIN = Path(__file__).parent / "plugin"


class Told(asyncio.Lock):
    """Says when somebody has to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = asyncio.Event()

    async def acquire(self) -> bool:  # type: ignore[override]  # a literal there
        if self.locked():
            self.waits.set()
        return await super().acquire()


async def test_a_reload_does_not_undo_a_takedown(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is taken down after a reload has read the file of denials is denied when both are done."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    place.configure("m")
    file = place.root / "denied.yaml"
    file.touch()
    (place.conf / "b.yaml").write_text(f"settings: {{denied: {file}}}\n")
    loop, read, go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def slow(*arguments: Any) -> Configuration:
        found = load_folder(*arguments)
        loop.call_soon_threadsafe(read.set)
        assert go.wait(60)
        return found

    monkeypatch.setattr("mirrord.daemon.daemon.load_folder", slow)
    syncers = load_syncers()
    with StateLock(place.state):
        async with open_runtime(load_folder(place.conf, syncers, {}), syncers, place.state, Events()) as runtime:
            runtime.changing = lock = Told()
            logs = Logs(StringIO(), now, style="json", level="info")
            where = {"folder": place.conf, "state": place.state, "environ": {}, "listen": ""}
            daemon = Daemon(runtime, logs, Metrics("1"), Notifier({}), **where)
            reloading = asyncio.create_task(daemon.carry_out(Reload()))
            await read.wait()
            taking = asyncio.create_task(daemon.carry_out(Takedown("m", "they asked")))
            waits = asyncio.create_task(lock.waits.wait())
            await asyncio.wait([taking, waits], return_when=asyncio.FIRST_COMPLETED)
            waits.cancel()
            go.set()
            await asyncio.gather(reloading, taking)
            assert runtime.snapshot.configuration.denied.mirror("m")
            assert runtime.snapshot.services.denied
