"""The daemon as a process: start, ticks, reload, control socket, end."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from mirrord.commands import GetStatus, LookAtFront, PlanMirrors, Publish, Reload, Sync
from mirrord.config.load import load_folder
from mirrord.daemon.lock import StateLock
from mirrord.daemon.main import FILES
from mirrord.daemon.runtime import open_runtime
from mirrord.errors import BusyError, ConfigError, UnreachableError, UsageError
from mirrord.events import Event, Events, Planned, RunFinished, RunStarted, StepDone
from mirrord.model.run import Result
from mirrord.serve.remote import SOCKET, ControlClient
from mirrord.syncer.port import load_syncers
from mirrord.syncer.serving import FrontLook
from mirrord.syncer.values import Publication

PLUGIN = Path(__file__).parent / "plugin"


async def test_ticks_and_ends(place: Any) -> None:
    """Scheduled mirrors run by themselves, staggered; SIGTERM ends with 0, and nothing is left but the state."""
    place.source("m", "one", "two")
    place.configure("m", extra=", every: 6h")
    async with place.daemon() as daemon:
        finished = await daemon.logged("run.finished")
        assert (finished["mirror"], finished["trigger"], finished["result"]) == ("m", "schedule", "success")
        assert sorted(file.name for file in (place.root / "to-m-b").iterdir()) == ["one", "two"]
        await daemon.noted("running: none", 2)
        entry = await daemon.mirror("m")
        assert (entry["state"], entry["items"], entry["consecutive_failures"]) == ("idle", 2, 0)
        assert entry["next_run"] > entry["last_success"]
        code, body = await daemon.get("/metrics")
        assert b'mirrord_sync_runs_total{kind="fake",mirror="m",result="success"} 1.0' in body
        assert b'mirrord_sync_last_success_timestamp_seconds{mirror="m",target="m-b"}' in body
        assert [(await daemon.get(path))[0] for path in ("/livez", "/readyz", "/startupz", "/")] == [200] * 4
        assert await daemon.get("/fake/x") == (200, b"fake x")
        assert code == 200
        daemon.kill(signal.SIGTERM)
        assert await daemon.end() == 0
        assert any("STOPPING=1" in note for note in daemon.notes)
        assert daemon.lines[-1]["event"] == "daemon.stopped"
    assert not (place.state / SOCKET).exists()
    assert list((place.state / "scratch").iterdir()) == []


async def test_opens_as_many_files_as_it_may(place: Any) -> None:
    """A shell's limit of a thousand open files is raised as far as this user may: clients need two each."""
    place.source("m", "one")
    place.configure("m")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        async with place.starting() as daemon:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await daemon.logged("daemon.ready")
            raised, _ = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert raised == (FILES if hard == resource.RLIM_INFINITY else min(FILES, hard))


async def test_history_survives_restart(place: Any) -> None:
    """After a restart the status and the metrics still know the last success."""
    place.source("m", "one")
    place.configure("m")
    async with place.daemon() as daemon:
        await ControlClient(place.state).carry_out(Sync(("m",)))
        before = await daemon.mirror("m")
        daemon.kill(signal.SIGKILL)
        assert await daemon.end() == -signal.SIGKILL
    async with place.daemon() as daemon:
        assert (await daemon.mirror("m"))["last_success"] == before["last_success"]
        assert b'last_success_timestamp_seconds{mirror="m",target="m-a"}' in (await daemon.get("/metrics"))[1]


async def test_second_daemon_is_refused(place: Any) -> None:
    """A second daemon on the same state ends with 75 and names the first; the first does not notice."""
    place.configure("m")
    async with place.daemon() as first:
        async with place.starting() as second:
            assert await second.end() == 75
            assert second.process.stderr is not None
            assert str(first.process.pid) in (await second.process.stderr.read()).decode()
        assert (await first.get("/livez"))[0] == 200
        assert (await ControlClient(place.state).carry_out(GetStatus())).state == "ready"


async def test_broken_configuration_at_start(place: Any) -> None:
    """A wrong configuration ends with 78, before anything is made."""
    place.conf.joinpath("a.yaml").write_text("mirorrs: []\n")
    async with place.starting() as daemon:
        assert await daemon.end() == 78
    assert not place.state.exists()


async def test_reload(place: Any) -> None:
    """SIGHUP takes a good configuration, and a bad one changes nothing (bad input 73)."""
    place.configure("m")
    async with place.daemon() as daemon:
        place.configure("m", "n")
        daemon.kill(signal.SIGHUP)
        await daemon.logged("reload.done")
        await daemon.noted("READY=1", 2)
        reloading = next(note for note in daemon.notes if note.startswith("RELOADING=1"))
        assert reloading.splitlines()[1].startswith("MONOTONIC_USEC=")
        assert (await daemon.mirror("n"))["state"] == "new"
        place.conf.joinpath("b.yaml").write_text("mirrors:\n  - {name: x, kind: fakke}\n")
        daemon.kill(signal.SIGHUP)
        refused = await daemon.logged("reload.refused")
        assert "b.yaml:2" in refused["error"]
        await daemon.noted("READY=1", 3)
        assert b"mirrord_config_last_reload_successful 0.0" in (await daemon.get("/metrics"))[1]
        assert (await daemon.mirror("n"))["state"] == "new"
        assert [(await daemon.get(path))[0] for path in ("/livez", "/readyz")] == [200, 200]
        with pytest.raises(ConfigError, match=r"b\.yaml:2"):
            await ControlClient(place.state).carry_out(Reload())
        place.conf.joinpath("b.yaml").unlink()
        await ControlClient(place.state).carry_out(Reload())
        assert b"mirrord_config_last_reload_successful 1.0" in (await daemon.get("/metrics"))[1]


async def test_a_front_is_open_from_start_to_end(place: Any) -> None:
    """A front is open also without `front:`, answers by the new rules after a reload, and is closed at the end."""
    place.configure("m")
    rules = place.conf / "front.yaml"
    closed = place.state / "through-closed"
    async with place.daemon() as daemon:
        assert await daemon.get("/fake/x") == (200, b"fake x")
        rules.write_text("front: {fake: {greeting: hello}}\n")
        changes = await ControlClient(place.state).carry_out(Reload())
        assert changes.taken == ("front",)
        assert changes.notices[-1].endswith("the one before it stays in use: allows.txt:1: <b>bad</b>")
        assert await daemon.get("/fake/x") == (200, b"hello")
        rules.write_text("front: {fake: {greting: hello}}\n")
        with pytest.raises(ConfigError, match=r"front\.yaml:1: front\.fake\.greting: unknown key"):
            await ControlClient(place.state).carry_out(Reload())
        assert await daemon.get("/fake/x") == (200, b"hello")
        front = json.loads((await daemon.get("/status"))[1])["front"]
        assert (front["answers"], front["cache_bytes"], front["cache_entries"]) == ({"miss": 3}, 7, 2)
        assert front["list_errors"] == {"allows.txt": "allows.txt:1: <b>bad</b>"}
        series = (await daemon.get("/metrics"))[1].decode()
        listed = 'mirrord_front_answers_total{kind="blob",outcome="miss",upstream="fake.example"} 2.0'
        assert listed in series
        assert listed.replace("fake.example", "other").replace("2.0", "1.0") in series  # before `front:` listed it
        assert "mirrord_front_lists_refused 1.0" in series
        assert b"stays in use: allows.txt:1: &lt;b&gt;bad&lt;/b&gt;" in (await daemon.get("/"))[1]
        look = await ControlClient(place.state).carry_out(LookAtFront("x"))
        assert look == FrontLook("x", "refused", reason="nothing is pulled through")
        assert not closed.exists()
        daemon.kill(signal.SIGTERM)
        assert await daemon.end() == 0
    assert closed.exists()


async def test_running_run_keeps_its_configuration(place: Any) -> None:
    """A run whose mirror is removed by a reload finishes with what it began with (bad input 74)."""
    source = place.source("m", "one", "hang")
    place.configure("m", "n")
    async with place.daemon() as daemon:
        asking = asyncio.create_task(ControlClient(place.state).carry_out(Sync(("m",))))
        await daemon.logged("run.planned")
        place.configure("n")
        await ControlClient(place.state).carry_out(Reload())
        with pytest.raises(UsageError, match="no mirror is called 'm'"):
            await ControlClient(place.state).carry_out(Sync(("m",)))
        (source / "hang").unlink()
        assert [run.result for run in await asking] == [Result.SUCCESS]
        assert (place.root / "to-m-b" / "one").exists()
        assert b'mirror="m"' not in (await daemon.get("/metrics"))[1]


async def test_control_socket(place: Any) -> None:
    """Other commands reach the daemon: progress as it happens, then the runs themselves; only the owner may ask."""
    place.source("m", "one", "two")
    place.source("other", "three")
    place.configure("m", "n")
    heard: list[Event] = []
    events = Events()
    events.listen(heard.append)
    client = ControlClient(place.state)
    with pytest.raises(UnreachableError, match="no daemon answers"):
        await client.carry_out(GetStatus())
    async with place.daemon():
        assert stat.S_IMODE((place.state / SOCKET).stat().st_mode) == 0o600
        assert stat.S_IMODE(place.state.stat().st_mode) == 0o700
        plans = await client.carry_out(PlanMirrors())
        assert [(plan.mirror, len(plan.active)) for plan in plans] == [("m", 4), ("n", 0)]
        runs = await client.carry_out(Sync(("m",)), events)
        assert [(run.mirror, run.result, run.trigger, len(run.receipts)) for run in runs] == [
            ("m", Result.SUCCESS, "command", 4)
        ]
        kinds = [type(event) for event in heard]
        assert kinds == [RunStarted, Planned, StepDone, StepDone, StepDone, StepDone, RunFinished]
        assert heard[-1] == RunFinished(runs[0])
        published = await client.carry_out(Publish("n", Publication(str(place.root / "from-other"), ("v1",))), events)
        assert (published.result, published.trigger) == (Result.SUCCESS, "publish")
        assert (place.root / "to-n-a" / "three").exists()
        with pytest.raises(UsageError, match="did you mean m"):
            await client.carry_out(Sync(("mm",)), events)
        assert [run.result for run in await client.carry_out(Sync(), events)] == [Result.NOOP, Result.NOOP]


async def test_client_that_leaves(place: Any) -> None:
    """A run goes on when the one who asked for it goes away."""
    source = place.source("m", "one", "hang")
    place.configure("m")
    async with place.daemon() as daemon:
        asking = asyncio.create_task(ControlClient(place.state).carry_out(Sync(("m",))))
        await daemon.logged("run.planned")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert (await daemon.mirror("m"))["state"] == "running"
        (source / "hang").unlink()
        assert (await daemon.logged("run.finished"))["result"] == "success"


async def test_stop_cancels_what_does_not_end(place: Any) -> None:
    """After SIGTERM nothing starts, `/readyz` is 503, and a run that does not end is cancelled and recorded."""
    place.source("m", "one", "hang")
    place.configure("m")
    async with place.daemon(hurried=True) as daemon:
        client = ControlClient(place.state)
        asking = asyncio.create_task(client.carry_out(Sync(("m",))))
        await daemon.logged("run.planned")
        daemon.kill(signal.SIGTERM)
        await daemon.logged("daemon.stopping")
        code, body = await daemon.get("/readyz")
        assert (code, b"shutting down" in body) == (503, True)
        assert (await daemon.get("/livez"))[0] == 200
        with pytest.raises(BusyError, match="shutting down"):
            await client.carry_out(Sync(("m",)))
        assert await daemon.end() == 0
        assert daemon.named("run.finished")[0]["result"] == "interrupted"
        with pytest.raises(BusyError, match="the next run goes on from there"):
            await asking
    place.source("m").joinpath("hang").unlink()
    async with place.daemon():
        assert (await ControlClient(place.state).carry_out(Sync(("m",))))[0].result is Result.NOOP


async def test_stop_lets_runs_end(place: Any) -> None:
    """After SIGTERM a run under way goes on to its end, and whoever asked for it hears how it ended."""
    source = place.source("m", "one", "hang")
    place.configure("m")
    async with place.daemon() as daemon:
        asking = asyncio.create_task(ControlClient(place.state).carry_out(Sync(("m",))))
        await daemon.logged("run.planned")
        daemon.kill(signal.SIGTERM)
        await daemon.logged("daemon.stopping")
        assert (await daemon.get("/readyz"))[0] == 503
        (source / "hang").unlink()
        assert [run.result for run in await asking] == [Result.SUCCESS]
        assert await daemon.end() == 0
        assert daemon.named("run.finished")[0]["result"] == "success"


async def test_second_sigterm(place: Any) -> None:
    """A second SIGTERM ends at once, as the signal would have."""
    place.source("m", "one", "hang")
    place.configure("m")
    async with place.daemon() as daemon:
        asking = asyncio.create_task(ControlClient(place.state).carry_out(Sync(("m",))))
        await daemon.logged("run.planned")
        daemon.kill(signal.SIGTERM)
        await daemon.logged("daemon.stopping")
        daemon.kill(signal.SIGTERM)
        assert await daemon.end() == -signal.SIGTERM
        await asyncio.gather(asking, return_exceptions=True)


async def test_watchdog(place: Any) -> None:
    """The watchdog is fed from the event loop, again and again."""
    place.configure("m")
    async with place.daemon(WATCHDOG_USEC="2000000") as daemon:
        await daemon.noted("WATCHDOG=1", 2)


async def test_watchdog_of_another_process(place: Any) -> None:
    """A watchdog that is meant for another process is left alone (sd_watchdog_enabled(3))."""
    place.configure("m")
    async with place.daemon(WATCHDOG_USEC="100000", WATCHDOG_PID="1") as daemon:
        await ControlClient(place.state).carry_out(Sync())
        daemon.kill(signal.SIGTERM)
        assert await daemon.end() == 0
        assert not any("WATCHDOG" in note for note in daemon.notes)


async def test_leftovers_are_swept(place: Any) -> None:
    """What a killed process left half done is gone when the next one is ready; a stale socket is replaced."""
    place.configure("m")
    for folder, name in (("scratch", "half"), ("spool", "sha256-00.part")):
        (place.state / folder).mkdir(parents=True, exist_ok=True)
        (place.state / folder / name).write_text("x")
    (place.state / "scratch" / "deep").mkdir()
    (place.state / SOCKET).write_text("stale")
    os.chmod(place.state, 0o700)  # noqa: PTH101 - as the daemon makes it
    async with place.daemon():
        assert list((place.state / "scratch").iterdir()) == []
        assert list((place.state / "spool").iterdir()) == []
        assert (await ControlClient(place.state).carry_out(GetStatus())).mirrors[0].name == "m"


async def test_deep_state_directory(place: Any) -> None:
    """The control socket works however long the path of the state directory is."""
    place.state = place.root / ("d" * 100) / ("e" * 100)
    place.configure("m")
    async with place.daemon():
        assert (await ControlClient(place.state).carry_out(GetStatus())).state == "ready"


async def test_damaged_record_is_replaced(place: Any) -> None:
    """A damaged record stops nothing: it is moved aside, a person is told, and the mirrors run."""
    place.source("m", "one")
    place.configure("m")
    place.state.mkdir()
    (place.state / "mirrord.db").write_text("garbage " * 1000)
    async with place.daemon() as daemon:
        assert ".corrupt-" in (await daemon.logged("daemon.notice"))["message"]
        assert (await ControlClient(place.state).carry_out(Sync(("m",))))[0].result is Result.SUCCESS


async def test_work_without_a_daemon(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command does the same work by itself, and when it is interrupted its run is stopped and remembered."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    source = place.source("m", "one")
    place.configure("m")
    syncers = load_syncers()
    configuration = load_folder(place.conf, syncers, {})
    with StateLock(place.state):
        with pytest.raises(BusyError, match=str(os.getpid())), StateLock(place.state):
            pass
        async with open_runtime(configuration, syncers, place.state, Events()) as shop:
            assert (await shop.runner.sync("m")).result is Result.SUCCESS
            (source / "hang").touch()
            (source / "two").touch()
            events: asyncio.Queue[Event] = asyncio.Queue()
            shop.events.listen(events.put_nowait)
            asking = asyncio.create_task(shop.runner.sync("m"))
            while not isinstance(await events.get(), Planned):
                pass
            asking.cancel()
        async with open_runtime(configuration, syncers, place.state, Events()) as shop:
            results = [entry.result for entry in await shop.store.runs("m")]
            assert results == [Result.INTERRUPTED, Result.SUCCESS]


async def test_what_was_stopped_is_not_waited_for_again(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon waits once for runs that ignore their cancellation: what closes after them does not wait anew."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    place.configure("m")
    configuration = load_folder(place.conf, load_syncers(), {})
    with StateLock(place.state):
        async with open_runtime(configuration, load_syncers(), place.state, Events()) as shop:
            waited: list[float] = []
            stop = shop.runner.stop

            async def stopped(patience: float) -> bool:
                waited.append(patience)
                return await stop(patience)

            shop.runner.stop = stopped  # type: ignore[method-assign]  # counted
            await shop.runner.stop(1.0)
    assert waited == [1.0]
