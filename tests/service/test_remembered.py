"""How mirrors stand, as the daemon has it in memory: it follows runs, and what the record could not be told."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import BaseModel

from mirrord.config.load import Configuration
from mirrord.daemon.daemon import Daemon
from mirrord.daemon.systemd import Notifier
from mirrord.errors import StorageError
from mirrord.events import Events
from mirrord.model.history import Standing
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.report.logs import Logs
from mirrord.report.metrics import Metrics
from mirrord.report.status import MirrorStatus
from mirrord.syncer.values import Mirror, Target
from tests.support.store import MemoryStore

T0 = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)


class Nothing(BaseModel):
    pass


class AskedStore(MemoryStore):
    """Says which mirrors it was asked for; "" stands for all."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def standing(self, mirror: str | None = None) -> Sequence[Standing]:
        self.asked.append(mirror or "")
        return await super().standing(mirror)


@pytest.fixture
def store() -> AskedStore:
    return AskedStore()


@pytest.fixture
async def daemon(store: AskedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """Return a daemon of three mirrors, each to `a`, that was just started, on a disk of which nothing is held."""
    monkeypatch.setattr("mirrord.blobs.reserve.keep", lambda _: None)
    mirrors = tuple(Mirror(f"m{n}", "image", Nothing(), (Target("a", "image", "x", Nothing()),)) for n in range(3))
    runner = SimpleNamespace(tick=None, stopping=False, running=dict, overdue=tuple)
    snapshot = SimpleNamespace(configuration=Configuration(mirrors=mirrors), names=[one.name for one in mirrors])
    snapshot.addresses = lambda _: {}
    snapshot.denied = dict
    snapshot.services = SimpleNamespace(spools=SimpleNamespace(cache=SimpleNamespace(trim=lambda: None)), uses=None)
    runtime = SimpleNamespace(
        runner=runner, events=Events(), snapshot=snapshot, store=store, fleet=None, check=lambda: None
    )
    runtime.collector = None
    made = Daemon(
        cast("Any", runtime),
        Logs(io.StringIO(), lambda: T0),
        Metrics("1"),
        Notifier({}),
        folder=tmp_path,
        state=tmp_path,
        environ={},
        listen="",
    )
    await made.shown.follow()
    return made


def run(name: str, outcome: Outcome = Outcome.DONE, minute: int = 0) -> Run:
    at = T0 + timedelta(minutes=minute)
    step = Step(Action.COPY, "v1", "sha256:1", "a", ("v1",), "")
    receipt = Receipt(step, outcome, "no room" if outcome is Outcome.FAILED else "")
    return Run(name, "image", "schedule", at, at, Plan(name, "image", at, (step,)), (receipt,))


async def ended(daemon: Daemon, store: MemoryStore, one: Run) -> None:
    """Let a run end as the corridor does."""
    try:
        await store.add_run(one)
    except StorageError as error:
        one = Run(
            one.mirror, one.kind, one.trigger, one.started, one.finished, one.plan, one.receipts, error=str(error)
        )
    await daemon.after(one)


async def shown(daemon: Daemon, number: int) -> MirrorStatus:
    return (await daemon.shown.status()).mirrors[number]


async def test_a_status_asks_no_record(daemon: Daemon, store: AskedStore) -> None:
    """The record is read whole at the start, and for each mirror after its run; however many ask for the status."""
    for _ in range(10):
        assert [mirror.state for mirror in (await daemon.shown.status()).mirrors] == ["new"] * 3
    await ended(daemon, store, run("m1"))
    for _ in range(10):
        assert [mirror.result for mirror in (await daemon.shown.status()).mirrors] == [None, Result.SUCCESS, None]
    assert store.asked == ["", "m1"]


async def test_what_the_record_was_not_told_is_shown(daemon: Daemon, store: AskedStore) -> None:
    """On a full disk a run that could not be written down counts in the status, until the record says how it is."""
    await ended(daemon, store, run("m1"))
    store.broken = "disk full"
    await ended(daemon, store, run("m1", minute=1))
    whole = await shown(daemon, 1)
    assert (whole.result, whole.consecutive_failures, whole.last_success) == (Result.FAILED, 1, T0)
    assert whole.last_error is not None
    assert whole.last_error.message == "disk full"
    assert whole.items == 1
    assert daemon.shown.health().storage == "disk full"
    store.broken = ""
    await daemon.look()
    assert daemon.shown.health().storage == ""
    assert (await shown(daemon, 1)).result is Result.SUCCESS
