"""The control socket, with runs of any length."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mirrord import __version__, cli
from mirrord.asking.asked import AskedImage, AskState
from mirrord.commands import (
    COMMANDS,
    AskImages,
    Backups,
    Cancel,
    Changes,
    CollectGarbage,
    Command,
    Delivered,
    GetCatalog,
    GetDenied,
    GetMirrors,
    GetRuns,
    GetStatus,
    Lift,
    LookAtFront,
    PlanMirrors,
    PlanPrune,
    PlanRestore,
    Prune,
    Publish,
    Reload,
    Restore,
    Sync,
    Takedown,
    TryReceiver,
    Verify,
    word,
)
from mirrord.daemon.dispatcher import Dispatcher
from mirrord.errors import BusyError, ConfigError, DeniedError, MirrordError, UsageError
from mirrord.events import Events, Planned, RunFinished, StepDone
from mirrord.model.cancelled import CancelledRun
from mirrord.model.catalog import CatalogEntry, CatalogPart
from mirrord.model.collected import Collected, Gone
from mirrord.model.history import Behind, Day, ItemRow, RunRecord
from mirrord.model.memory import LastSeen
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.model.takedown import DeniedThing, TakenDown
from mirrord.model.verification import Level, TargetVerification, Verification, VerifyFinding
from mirrord.report.documents import PIECE
from mirrord.report.mirror import MirrorDetail
from mirrord.report.status import MirrorStatus, Status
from mirrord.serve import control, remote
from mirrord.serve.control import make_control
from mirrord.serve.remote import VERSION, ControlClient, bind_control, short
from mirrord.syncer.serving import FrontLook
from mirrord.syncer.values import Backup, PruneWish, Publication, Schedule, Usage

T0 = datetime(2024, 1, 1, tzinfo=UTC)
MANY = 5_000


class FakeDaemon:
    """Stands in for the daemon: every run has `MANY` steps, all with a receipt."""

    def __init__(self) -> None:
        digest = f"sha256:{'0' * 64}"
        steps = [
            Step(Action.COPY, f"chart-{number}", digest, "t", (f"{number}.tgz",), "x" * 900) for number in range(MANY)
        ]
        self.found = Plan("m", "helm", T0, tuple(steps), tuple(step.reason for step in steps))
        receipts = tuple(Receipt(step, Outcome.FAILED, "y" * 900) for step in steps)
        self.run = Run("m", "helm", "command", T0, T0, self.found, receipts)

    async def carry_out(self, command: Command[Any]) -> Any:
        assert isinstance(command, Sync | PlanMirrors)
        return tuple(self.run if isinstance(command, Sync) else self.found for _ in command.mirrors)


@asynccontextmanager
async def served(
    state: Path, carry_out: Callable[[Command[Any]], Awaitable[Any]], events: Events
) -> AsyncIterator[None]:
    runner = web.AppRunner(make_control(carry_out, events, state), access_log=None)
    await runner.setup()
    await web.SockSite(runner, bind_control(state)).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def test_a_run_of_any_length_comes_through(tmp_path: Path) -> None:
    """A10: a run is told whole, and so are plans, in lines of less than 2 MB, however many steps they have."""
    heard: list[object] = []
    events, daemon = Events(), FakeDaemon()
    events.listen(heard.append)
    async with served(tmp_path, daemon.carry_out, Events()):
        client = ControlClient(tmp_path)
        assert await client.carry_out(Sync(("m",)), events) == (daemon.run,)
        assert heard == [RunFinished(daemon.run)]
        assert await client.carry_out(PlanMirrors(("m", "n"))) == (daemon.found, daemon.found)
        lines = [len(line) for line in (await posted(tmp_path, "sync", {"mirrors": ["m"]})).splitlines()]
    assert max(lines) < 2_000_000 < sum(lines) / 5


async def test_a_run_is_written_once_and_beside_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run of thousands of steps each event and the answer are written once, none of it in the event loop's thread.

    What is told meanwhile goes out in a few writes, and a step is in the answer once, though it has a receipt.
    """
    written: list[tuple[str, int]] = []

    def counted(name: str, write: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def count(value: Any) -> Any:
            written.append((name, threading.get_ident()))
            return write(value)

        return count

    for name in ("event_document", "pieces", "_lines"):
        monkeypatch.setattr(control, name, counted(name, getattr(control, name)))
    events, daemon = Events(), FakeDaemon()

    async def carry_out(command: Command[Any]) -> Any:
        events.emit(Planned(daemon.found, {"local": MANY}))
        for receipt in daemon.run.receipts:
            events.emit(StepDone("m", receipt))
        return await daemon.carry_out(command)

    async with served(tmp_path, carry_out, events):
        lines = (await posted(tmp_path, "sync", {"mirrors": ["m"]})).splitlines()
    assert threading.get_ident() not in {thread for _, thread in written}
    counts = Counter(name for name, _ in written)
    assert (counts["event_document"], counts["pieces"]) == (MANY + 1, 1)
    assert counts["_lines"] <= MANY / PIECE + 2
    answer = b"".join(line for line in lines if not line.startswith(b'{"event"'))
    assert Counter(re.findall(rb'"chart-[0-9]+"', answer)) == {
        f'"chart-{number}"'.encode(): 1 for number in range(MANY)
    }


async def posted(state: Path, path: str, body: object, version: str = __version__) -> bytes:
    """Ask as a client would, and return all that comes."""
    with short(state / "control.sock") as name:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(name)) as session,
            session.post(f"http://mirrord/{path}", json=body, headers={VERSION: version}) as response,
        ):
            return await response.read()


RUN = Run("m", "image", "command", T0, T0, error="x", code="denied")
ANSWERS: dict[Command[Any], Any] = {
    Sync(("m", "n"), allow=True): (RUN, RUN),
    AskImages(("nginx",), ("linux/amd64",)): (AskedImage("7", "q.example/nginx:1", (), AskState.DONE, asked=T0),),
    PlanMirrors(): (Plan("m", "image", T0, missing=("v3: is not there",)),),
    Publish("m", Publication("oci:/caf\udce9", ("main-1", "main"), if_newest=True)): RUN,
    Backups("m"): (Backup("20261121T030000Z/heads/main", "refs/heads/main", "d", "deleted"),),
    Restore("m", ("refs/heads/main",), release=True): RUN,
    PlanRestore("m", run=7): Plan("m", "image", T0, error="x"),
    CollectGarbage(dry=True): Collected((Gone("app", "v1", "d", "came 2026-01-01", 7),), 7, 2, 0, 3, ("x",), dry=True),
    PlanPrune(("m",), PruneWish(adopt=True)): (Plan("m", "image", T0, error="x"),),
    Prune(("m",), PruneWish(irrecoverable=True)): (RUN,),
    Takedown("q.example/a:v1", "they asked"): TakenDown("q.example/a:v1", "they asked", "d.yaml:3", ("sha256:0",)),
    Lift("q.example/a:v1"): "d.yaml:3",
    GetDenied(): (DeniedThing("d.yaml:3", "q.example/a:v1", "they asked", "2026-11-21", 1, ("hub: v1",)),),
    GetStatus(): Status("1", "ready", T0, T0, "", (MirrorStatus("m", items=2, kind="git", next_run=T0),)),
    GetCatalog(("m",)): (
        CatalogPart(
            (CatalogEntry("m", "image", "v1", "q.example/a:v1", "hub", "r.example/a:v1", "d", T0, 7, ("linux/arm64",)),)
        ),
        CatalogPart(),
    ),
    GetMirrors(("m", "a*"), every=True): (
        MirrorDetail(
            MirrorStatus("m", kind="image"),
            T0,
            items=[ItemRow("v1", {"hub": LastSeen("d", T0, "p", 7, ("linux/arm64",))})],
            uses={"hub": [Usage("docker", "docker pull r.example/a:v1")]},
            whole={},
            days=[Day(T0.date(), 1)],
            runs=[],
            behind=[Behind("hub", "v2", "d", T0)],
            moves=[],
            schedule=Schedule(every=60.0),
        ),
    ),
    GetRuns("m", 2, 7): (RunRecord("m", "image", "command", T0, T0, RUN.result, code="denied", error="x"),),
    Verify(("m",), Level.DEEP, repair=True): (
        Verification(
            "m",
            "image",
            Level.DEEP,
            (
                TargetVerification(
                    "t", T0, Level.DEEP, 2, 1, 0, 3, 4, (VerifyFinding("t", "v1", "blob", "gone", "sha256:0"),)
                ),
            ),
            repaired=1,
        ),
    ),
    TryReceiver("ops"): Delivered("ops", "webhook", "hooks.example", "200 ok"),
    LookAtFront("nginx"): FrontLook("docker.io/library/nginx:latest", "cache", "allows.txt:3", fresh_until=T0),
    Cancel(("m",)): (CancelledRun("m", "schedule", Result.INTERRUPTED, T0, T0, "two"), CancelledRun("n")),
    Reload(): Changes(("new",), waiting=("settings.listen",), notices=("b.yaml: passed over",)),
}


@pytest.mark.parametrize("command", ANSWERS, ids=lambda command: type(command).__name__)
async def test_a_command_is_a_value_a_method_and_a_file(command: Command[Any], tmp_path: Path) -> None:
    """A command and its answer come over the socket as they are; the dispatcher does it, and a user can ask."""
    asked: list[Command[Any]] = []

    async def carry_out(command: Command[Any]) -> Any:
        asked.append(command)
        return ANSWERS[command]

    async with served(tmp_path, carry_out, Events()):
        assert await ControlClient(tmp_path).carry_out(command) == ANSWERS[command]
    assert asked == [command]
    assert set(COMMANDS.values()) == {type(command) for command in ANSWERS}
    assert iscoroutinefunction(getattr(Dispatcher, word(type(command))))
    files = [file.read_text() for file in Path(cli.__file__).parent.glob("*.py")]
    assert any(re.search(rf"\bask(_whom)?\({type(command).__name__}\(", text) for text in files)


@pytest.mark.parametrize(
    "error",
    [
        UsageError("no mirror is called 'x'"),
        BusyError("later"),
        ConfigError("a.yaml:1: x", "b.yaml:2: y"),
        DeniedError("no"),
    ],
    ids=lambda error: error.code,
)
async def test_errors_come_through(error: MirrordError, tmp_path: Path) -> None:
    """What the daemon raises is raised where it was asked for, with its code, its words and its problems."""

    async def carry_out(_: Command[Any]) -> Any:
        raise error

    async with served(tmp_path, carry_out, Events()):
        with pytest.raises(type(error)) as raised:
            await ControlClient(tmp_path).carry_out(GetStatus())
    assert raised.value.args == error.args
    assert getattr(raised.value, "problems", None) == getattr(error, "problems", None)


async def test_a_bug_reaches_who_asked(tmp_path: Path) -> None:
    """What nobody meant to raise is an error of whoever asked, too, and not the end of the connection."""

    async def carry_out(_: Command[Any]) -> Any:
        raise RuntimeError("unexpected")

    async with served(tmp_path, carry_out, Events()):
        with pytest.raises(MirrordError, match="RuntimeError: unexpected"):
            await ControlClient(tmp_path).carry_out(Reload())


async def test_both_ends_are_of_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of another version gets one error that names both, from whichever end is newer; nothing is done."""
    daemon = FakeDaemon()
    async with served(tmp_path, daemon.carry_out, Events()):
        refused = json.loads(await posted(tmp_path, "sync", {}, "0.0.1"))["error"]
        assert refused["code"] == "usage"
        assert {"0.0.1", __version__} <= set(re.findall(r"\d[\w.]*\w", refused["message"]))
        monkeypatch.setattr(remote, "__version__", "99.1")
        with pytest.raises(UsageError, match=f"99.1, but the daemon is {__version__}"):
            await ControlClient(tmp_path).carry_out(Sync())


async def test_what_is_no_command_is_refused(tmp_path: Path) -> None:
    """Unknown words and wrong fields are errors with a reason."""
    async with served(tmp_path, FakeDaemon().carry_out, Events()):
        for path, body in (("syncc", {}), ("sync", {"mirrors": 3}), ("sync", []), ("publish", {"mirror": "m"})):
            assert json.loads(await posted(tmp_path, path, body))["error"]["code"] == "usage"
