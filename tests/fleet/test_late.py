"""A replica that stops between the check of its fence and what it writes then."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from mirrord.testing import Registry, build_image, push
from tests.support.commands import PATIENCE
from tests.support.fencelog import read, wrong
from tests.support.fleets import FleetWorld, until
from tests.support.quickreplica import shared_record
from tests.support.troubled import ServedReplica

OLD, NEW, OTHER = (
    build_image(["linux/amd64"], layers=1, layer_size=1000, seed=seed) for seed in ("old", "new", "other")
)


async def stopped(pid: int) -> None:
    """Wait until a process is stopped (field 3 of /proc/PID/stat)."""
    await until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")


async def test_one_batch_is_late(fleet_world: FleetWorld, tmp_path: Path) -> None:
    """F42: it writes the one name of that batch when it goes on, and none of the next one; others put that right.

    Whoever takes over, and every run afterwards, asks the target although the record is to be trusted for a day.
    """
    record = shared_record(tmp_path, fleet_world.postgres)
    async with Registry() as source, Registry() as target, AsyncExitStack() as stack:
        await push(OLD, source, "app", ["main"])
        await push(OTHER, source, "app", ["other"])
        text = (
            f"settings: {{listen: '127.0.0.1:0', record: {record}, parallel: 1, trust: 1d}}\n"
            f"targets: {{far: {{kind: image, to: {target.host}/m}}}}\n"
            f"mirrors: [{{name: app, kind: image, every: 10s, to: far,"
            f" from: {{repository: {source.host}/app, tags: [main, other]}}}}]\n"
        )
        late, other = ServedReplica.at(tmp_path / "late", text), ServedReplica.at(tmp_path / "other", text)
        stack.push_async_callback(late.aclose)
        stack.push_async_callback(other.aclose)
        await late.start(MIRRORD_FAILPOINTS="ledger.intended=stop")
        pid = late.lives[0].process.pid
        await stopped(pid)
        assert target.tags == {}
        await push(NEW, source, "app", ["main"])
        await other.start()
        await other.lives[0].logged("run.finished")
        assert target.tags == {"m/app": {"main": NEW.digest, "other": OTHER.digest}}
        os.kill(pid, signal.SIGCONT)
        await until(lambda: target.tags["m/app"]["main"] == OLD.digest)
        fenced = await late.lives[0].logged("run.finished")
        async with asyncio.timeout(PATIENCE):
            while target.tags["m/app"]["main"] != NEW.digest:  # noqa: ASYNC110 - the target sets no event
                await asyncio.sleep(0.02)
        assert [await one.end() for one in (late, other)] == [0, 0]
        fences = read([*late.lives, *other.lives])["app"]
    assert fenced["error_code"] == "fenced"
    assert [run.fence for run in fences if not run.doubtful] == [1]
    assert wrong(fences, 1) == []
    written = [entry.path for entry in target.log if entry.method == "PUT" and "/manifests/" in entry.path]
    assert [path.rpartition("/")[2] for path in written].count("other") == 1
