"""Every store keeps the same promises: the one in memory, and those in SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirrord import failpoints
from mirrord.errors import StorageError
from mirrord.model.memory import LastSeen
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.request import AskRecord
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.record.requests import old_requests
from mirrord.record.sqlite import on_network
from mirrord.record.store import Store, open_store
from tests.support.store import MemoryStore

T0 = datetime(2026, 11, 21, 1, 2, 3, 456789, tzinfo=UTC)
HOUR = timedelta(hours=1)


def step(item: str, target: str, action: Action = Action.COPY, reason: str = "not there") -> Step:
    return Step(action, item, f"sha256:{item}", target, (item,), reason)


def run(*receipts: Receipt, minute: int = 0, mirror: str = "m", steps: tuple[Step, ...] = (), **more: object) -> Run:
    planned = tuple(receipt.step for receipt in receipts) + steps
    at = T0 + timedelta(minutes=minute)
    plan = Plan(mirror, "image", at, planned)
    fields: dict[str, object] = {"plan": plan, "receipts": receipts, "read": 10} | more
    return Run(mirror, "image", "schedule", at, at + timedelta(seconds=9), **fields)  # type: ignore[arg-type]  # fields by keyword


def done(item: str, target: str = "a") -> Receipt:
    return Receipt(step(item, target), Outcome.DONE, sent=5, mounted=1)


def failed(item: str, target: str = "a") -> Receipt:
    return Receipt(step(item, target), Outcome.FAILED, "connection refused", "unreachable")


async def test_what_is_no_text_is_written_out(tmp_path: Path) -> None:
    """Half a surrogate pair (a branch in Latin-1, an error in odd JSON) costs no run its place in the record."""
    store = await open_store(tmp_path / "mirrord.db", T0)
    odd = [
        Receipt(step("refs/heads/\udcff", "a"), Outcome.FAILED, "host: \ud800 é", "server"),
        done("refs/heads/\udce9"),
    ]
    for minute in range(2):
        await store.add_run(run(*odd, minute=minute))
    assert [one.targets[0].error for one in await store.runs("m")] == ["refs/heads/\\udcff: host: \\ud800 é"] * 2
    assert [item for _, item in await store.memory("m")] == ["refs/heads/\\udce9"]
    await store.close()


async def test_nothing(store: Store) -> None:
    """A new record knows nothing and says so without an error."""
    assert await store.memory("m") == {}
    assert await store.runs("m") == []
    assert await store.standing() == []
    await store.check()


async def test_good_receipts_become_memory(store: Store) -> None:
    """Only good receipts become memory, and it survives a later failure at the same place."""
    await store.add_run(run(done("v1"), failed("v2"), done("v1", "b")))
    await store.add_run(run(failed("v1"), minute=1))
    at = T0 + timedelta(seconds=9)
    assert await store.memory("m") == {("a", "v1"): LastSeen("sha256:v1", at), ("b", "v1"): LastSeen("sha256:v1", at)}
    assert await store.memory("other") == {}


async def test_confirmed_steps_become_memory(store: Store) -> None:
    """What a target itself confirmed is known anew; what was believed from memory does not get younger."""
    confirmed = replace(step("v1", "a", Action.KEEP), confirmed=True)
    await store.add_run(run(steps=(confirmed, step("v2", "a", Action.KEEP)), minute=1))
    assert await store.memory("m") == {("a", "v1"): LastSeen("sha256:v1", T0 + timedelta(minutes=1))}


async def test_deleted_items_are_forgotten(store: Store) -> None:
    """A good delete takes the item out of memory."""
    await store.add_run(run(done("v1")))
    await store.add_run(run(Receipt(step("v1", "a", Action.DELETE), Outcome.DONE), minute=1))
    assert await store.memory("m") == {}


async def test_history(store: Store) -> None:
    """Runs come back newest first, with what they did at each target."""
    await store.add_run(run(done("v1"), done("v2"), failed("v1", "b")))
    await store.add_run(run(minute=1, steps=(step("v1", "a", Action.KEEP),)))
    newest, oldest = await store.runs("m")
    assert (newest.result, oldest.result) == (Result.NOOP, Result.PARTIAL)
    assert (oldest.code, oldest.error) == ("unreachable", "v1: connection refused")
    a, b = oldest.targets
    assert (a.target, a.result, a.done, a.sent, a.mounted) == ("a", Result.SUCCESS, 2, 10, 2)
    assert (b.target, b.result, b.failed, b.code) == ("b", Result.FAILED, 1, "unreachable")
    assert newest.targets[0].kept == 1
    assert (oldest.started, oldest.finished, oldest.read) == (T0, T0 + timedelta(seconds=9), 10)
    assert len(await store.runs("m", 1)) == 1


async def test_which_replica_ran(store: Store) -> None:
    """Each run has the name of the replica that recorded it; one machine has none."""
    await store.add_run(run(done("v1")))
    for minute, store.replica in enumerate(("one-1a2b3c", "two-4d5e6f"), 1):
        await store.add_run(run(done("v1"), minute=minute))
    assert [one.replica for one in await store.runs("m")] == ["two-4d5e6f", "one-1a2b3c", ""]


async def test_standing(store: Store) -> None:
    """Standings count failures since the last success, for the mirror and for each target by itself."""
    await store.add_run(run(done("v1"), done("v1", "b")))
    await store.add_run(run(done("v2"), failed("v2", "b"), minute=1))
    await store.add_run(run(done("v3"), failed("v3", "b"), minute=2))
    whole, a, b = await store.standing()
    ends = [T0 + timedelta(minutes=minute, seconds=9) for minute in range(3)]
    assert (whole.target, whole.failures, whole.last_success, whole.last_attempt) == ("", 2, ends[0], ends[2])
    assert (a.target, a.failures, a.last_success, a.items) == ("a", 0, ends[2], 3)
    assert (b.target, b.failures, b.last_success, b.items) == ("b", 2, ends[0], 1)
    assert (whole.items, whole.code, b.error) == (3, "unreachable", "v3: connection refused")
    await store.add_run(run(done("v2", "b"), done("v3", "b"), minute=3))
    assert [entry.failures for entry in await store.standing()] == [0, 0, 0]


@pytest.mark.parametrize(("code", "result"), [("throttled", Result.DEFERRED), ("interrupted", Result.INTERRUPTED)])
async def test_put_off_is_no_failure(store: Store, code: str, result: Result) -> None:
    """A run that was put off or interrupted is an attempt, and neither success nor failure."""
    await store.add_run(run(done("v1")))
    await store.add_run(run(plan=None, code=code, error="later", minute=1))
    whole = (await store.standing())[0]
    assert (whole.failures, whole.result, whole.code) == (0, result, code)
    assert whole.last_success == T0 + timedelta(seconds=9)
    assert whole.last_attempt == T0 + timedelta(minutes=1, seconds=9)


async def test_when_a_deferred_run_goes_on(store: Store) -> None:
    """It is known until a run ends in another way, at the targets that were put off, too."""
    later = T0 + timedelta(hours=1)
    put_off = replace(failed("v2", "b"), code="throttled")
    await store.add_run(replace(run(done("v1"), put_off), until=later))
    whole, a, b = await store.standing()
    assert (whole.until, a.until, b.until) == (later, None, later)
    assert (whole.result, b.result, whole.failures, b.failures) == (Result.DEFERRED, Result.DEFERRED, 0, 0)
    await store.add_run(run(done("v2", "b"), minute=1))
    assert {one.until for one in await store.standing()} == {None}


async def test_time_never_goes_back(store: Store) -> None:
    """A machine clock that was set back does not make the last success older (fault F30)."""
    await store.add_run(run(done("v1"), minute=60))
    await store.add_run(run(done("v1"), minute=1))
    assert (await store.standing())[0].last_success == T0 + timedelta(minutes=60, seconds=9)


async def test_a_success_that_never_was(store: Store) -> None:
    """A clock that was years ahead does not hide for years that a mirror is stale: the next success is the last one."""
    await store.add_run(run(done("v1"), minute=40_000_000))
    await store.add_run(run(done("v1"), minute=1))
    for one in (await store.standing())[:2]:
        assert one.last_success == one.last_attempt == T0 + timedelta(minutes=1, seconds=9)


async def test_batch_that_never_started(store: Store) -> None:
    """A target whose steps were never started stands as interrupted, not as good."""
    await store.add_run(run(done("v1"), steps=(step("v1", "b"),), error="stopped", code="interrupted"))
    b = (await store.standing())[2]
    assert (b.target, b.result, b.last_success) == ("b", Result.INTERRUPTED, None)


async def test_many_tasks(store: Store) -> None:
    """Runs added at the same time are all kept."""
    await asyncio.gather(*(store.add_run(run(done(f"v{n}"), minute=n)) for n in range(20)))
    assert len(await store.runs("m", 100)) == 20
    assert len(await store.memory("m")) == 20


async def test_history_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old runs are forgotten, with their rows at targets; standings stay."""
    path = tmp_path / "mirrord.db"
    store = await open_store(path, T0)
    store._opened.keep = 3
    for minute in range(5):
        await store.add_run(run(done("v1"), minute=minute))
    await store.add_run(run(done("v1"), mirror="n"))
    await store.close()
    with sqlite3.connect(path) as raw:
        assert raw.execute("select count(*) from runs where mirror = 'm'").fetchone() == (3,)
        assert raw.execute("select count(*) from run_targets").fetchone() == (4,)
    raw.close()
    double = MemoryStore(keep=3)
    for minute in range(5):
        await double.add_run(run(done("v1"), minute=minute))
    assert len(await double.runs("m", 100)) == 3


async def test_survives_reopening(tmp_path: Path) -> None:
    """What was added is there after the file is opened again."""
    first = await open_store(tmp_path / "mirrord.db", T0)
    await first.add_run(run(done("v1")))
    await first.close()
    second = await open_store(tmp_path / "mirrord.db", T0)
    assert second.lost == ""
    assert ("a", "v1") in await second.memory("m")
    await second.close()


@pytest.mark.parametrize("damage", ["text", "flipped", "truncated"])
async def test_damaged_file_is_moved_aside(tmp_path: Path, damage: str) -> None:
    """A damaged record is moved aside, a new one begun, and nothing of the old one lost (fault F36)."""
    path = tmp_path / "mirrord.db"
    store = await open_store(path, T0)
    for minute in range(50):
        await store.add_run(run(*(done(f"v{n}") for n in range(20)), minute=minute))
    await store.close()
    body = bytearray(path.read_bytes())
    if damage == "text":
        body = bytearray(b"hello, this is not a database at all\n" * 100)
    elif damage == "flipped":
        body[4096 * 3 : 4096 * 6] = b"\xff" * (4096 * 3)
    else:
        del body[4096 * 4 :]
    path.write_bytes(body)
    again = await open_store(path, T0)
    aside = tmp_path / "mirrord.db.corrupt-20261121T010203"
    assert again.lost.endswith(f"the old one is {aside}")
    assert aside.read_bytes() == bytes(body)
    assert await again.runs("m") == []
    await again.add_run(run(done("v1")))
    await again.close()


async def test_directory_is_refused(tmp_path: Path) -> None:
    """A directory where the file should be is named, not removed (bad input 80)."""
    path = tmp_path / "mirrord.db"
    path.mkdir()
    with pytest.raises(StorageError, match=r"mirrord\.db: not a file; move it away"):
        await open_store(path, T0)


async def test_newer_schema_is_refused(tmp_path: Path) -> None:
    """A record of a newer mirrord is refused and left alone (bad input 80)."""
    path = tmp_path / "mirrord.db"
    await (await open_store(path, T0)).close()
    with sqlite3.connect(path) as raw:
        raw.execute("update alembic_version set version_num = '9999'")
    raw.close()
    with pytest.raises(StorageError, match="newer mirrord") as caught:
        await open_store(path, T0)
    assert caught.value.exit_code == 74
    assert not list(tmp_path.glob("*.corrupt-*"))


async def test_read_only_place_is_refused() -> None:
    """A place that cannot be written to is an error with the file's name (bad input 80)."""
    with pytest.raises(StorageError, match=r"/proc/mirrord\.db: unable to open"):
        await open_store(Path("/proc/mirrord.db"), T0)


@pytest.mark.parametrize(
    ("path", "network"),
    [
        ("/srv/x", True),
        ("/srv", True),
        ("/srvx/y", False),
        ("/srv/disk/x", False),
        ("/with space/x", True),
        ("/x", False),
    ],
)
def test_network_file_systems(path: str, network: bool) -> None:
    """The file system that counts is the one mounted deepest above the file (bad input 80)."""
    mounts = (
        "1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
        "2 1 0:5 / /srv rw shared:1 - nfs4 host:/srv rw\n"
        "3 2 8:2 / /srv/disk rw - ext4 /dev/sdb1 rw\n"
        "4 1 0:6 / /with\\040space rw - cifs //host/share rw\n"
    )
    assert on_network(Path(path), mounts) is network


async def test_failed_write_changes_nothing(tmp_path: Path) -> None:
    """When the disk fails in the middle of a run's rows, none of them is kept, and the record goes on."""
    store = await open_store(tmp_path / "mirrord.db", T0)
    failpoints.arm("record.receipts", failpoints.fail)
    try:
        with pytest.raises(StorageError, match="failpoint"):
            await store.add_run(run(done("v1"), done("v2")))
    finally:
        failpoints.disarm()
    assert await store.runs("m") == []
    assert await store.memory("m") == {}
    await store.add_run(run(done("v1")))
    assert len(await store.runs("m")) == 1
    await store.close()


@pytest.mark.parametrize("place", ["record.receipts", "record.days"])
def test_kill_in_the_middle(place: str, tmp_path: Path) -> None:
    """After a crash in the middle of a run's rows the record opens, without a part of that run."""
    code = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_store as t
from mirrord.record.sqlite import on_network
from mirrord.record.requests import old_requests
from mirrord.record.store import open_store
async def main():
    store = await open_store(Path(sys.argv[1]), t.T0)
    await store.add_run(t.run(t.done("v1")))
    await store.add_run(t.run(t.done("v2"), t.failed("v3"), minute=1))
asyncio.run(main())
"""
    path = tmp_path / "mirrord.db"
    child = subprocess.run(
        [sys.executable, "-c", code, str(path), str(Path(__file__).parent)],
        env=os.environ | {"MIRRORD_FAILPOINTS": f"{place}=exit:1"},
        check=False,
    )
    assert child.returncode == failpoints.CRASH_STATUS

    async def look() -> None:
        store = await open_store(path, T0)
        assert store.lost == ""
        assert len(await store.runs("m")) == 1
        assert set(await store.memory("m")) == {("a", "v1")}
        assert [day.runs for day in await store.days("m")] == [1]
        assert await store.behind("m") == []
        assert [(one.target, one.items, one.behind) for one in await store.standing("m")] == [("", 1, 0), ("a", 1, 0)]
        await store.close()

    asyncio.run(look())


def test_import_is_cheap() -> None:
    """Importing the record's modules does not load the database library."""
    code = "import sys, mirrord.record.sql_store, mirrord.record.store; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_images_that_were_asked_for(store: Store) -> None:
    """Each is as it was written last until it ended; those that have not ended are listed by age."""
    later, first = (
        AskRecord(
            f"id{n}", f"docker.io/library/a:{n}", ("linux/amd64",), "token a", "queued", "", "", False, T0 + n * HOUR
        )
        for n in (2, 1)
    )
    for one in (later, first):
        await store.note_asked(one)
    assert [*await store.open_requests()] == [first, later]
    ended = replace(first, state="failed", reason="denied", text="no", copied=True, ended=T0)
    await store.note_asked(ended)
    assert [*await store.open_requests()] == [later]
    for late in (first, replace(ended, state="done", ended=T0 + HOUR)):
        await store.note_asked(late, replace(later, text="waits"))
        assert await store.request("id1") == ended
    assert [*await store.open_requests()] == [replace(later, text="waits")]
    assert await store.request("other") is None


async def test_of_many_images_that_were_asked_for_the_newest_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that ended long ago are forgotten, and none that waits."""
    monkeypatch.setattr("mirrord.record.requests._OLD", old_requests(2))
    store = await open_store(tmp_path / "mirrord.db", T0)
    for n in range(5):
        end = None if n == 0 else T0
        one = AskRecord(f"id{n}", "a", (), "", "done", "", "", copied=False, asked=T0 + n * HOUR, ended=end)
        await store.note_asked(one)
    found = [n for n in range(5) if await store.request(f"id{n}")]
    await store.close()
    assert found == [0, 3, 4]
