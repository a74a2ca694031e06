"""The heartbeat: when the watchdog is fed, and when not."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from mirrord.config.load import Configuration
from mirrord.daemon.daemon import Daemon
from mirrord.daemon.systemd import Notifier
from mirrord.events import Events
from mirrord.report.logs import Logs


class Fed(Notifier):
    """Counts instead of telling systemd."""

    def __init__(self) -> None:
        super().__init__({"WATCHDOG_USEC": "1"})
        self.count = 0

    def alive(self) -> None:
        self.count += 1


async def test_the_watchdog_starves_when_a_restart_would_help() -> None:
    """While a run hangs after its cancellation the watchdog is not fed; when it has ended, it is again."""
    overdue = ["m"]
    beats: asyncio.Queue[float] = asyncio.Queue()
    runner = SimpleNamespace(tick=None, stopping=False, overdue=lambda: tuple(overdue))
    snapshot = SimpleNamespace(configuration=Configuration(), services=SimpleNamespace(uses=None))
    runtime = cast(
        "Any",
        SimpleNamespace(
            runner=runner,
            events=Events(),
            snapshot=snapshot,
            store=SimpleNamespace(away=""),
            collector=None,
            fleet=None,
        ),
    )
    metrics = cast("Any", SimpleNamespace(lag=SimpleNamespace(set=beats.put_nowait)))
    notifier = Fed()
    logs = Logs(io.StringIO(), lambda: datetime.now(UTC))
    daemon = Daemon(runtime, logs, metrics, notifier, folder=Path(), state=Path(), environ={}, listen="")
    beating = asyncio.create_task(daemon.beat(every=0.001))
    try:
        for _ in range(5):
            await beats.get()
        assert notifier.count == 0
        overdue.clear()
        for _ in range(5):
            await beats.get()
        assert notifier.count > 0
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
