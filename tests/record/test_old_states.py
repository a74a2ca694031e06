"""State directories of earlier versions are taken over whole: nothing in them is lost, and nothing is done twice."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirrord import failpoints
from mirrord.commands import Backups
from mirrord.config.load import load_folder
from mirrord.daemon import runtime
from mirrord.daemon.dispatcher import Dispatcher
from mirrord.daemon.lock import StateLock
from mirrord.daemon.runtime import Runtime, open_runtime
from mirrord.daemon.taking_over import take_over
from mirrord.errors import StorageError
from mirrord.events import Events
from mirrord.model.run import Result
from mirrord.record.store import open_store
from mirrord.syncer.port import load_syncers
from mirrord.testing.images import build_image
from mirrord.testing.pushing import push
from mirrord.testing.servers import require
from tests.support.oldstates import COMMIT, PORTS, OldWorld, unpack

WRITES = {"15a5d20": frozenset({"charts"}), "6dd72f4": frozenset[str]()}
"""Mirrors whose first run has something to do: indexes have had another form since 15a5d20."""
MIRRORS = ("app", "built", "charts", "code")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Before:
    """What an old record says, read by nothing of ours."""

    runs: Mapping[str, int]
    known: frozenset[tuple[str, str, str, str]]
    last: datetime
    standing: Mapping[tuple[str, str], int]


def read_before(state: Path) -> Before:
    with closing(sqlite3.connect(state / "mirrord.db")) as link:
        (last,) = link.execute("select max(finished) from runs").fetchone()
        return Before(
            dict(link.execute("select mirror, count(*) from runs group by mirror").fetchall()),
            frozenset(link.execute("select mirror, target, item, digest from known where digest <> ''").fetchall()),
            EPOCH + timedelta(microseconds=last),
            {
                (mirror, target): at
                for mirror, target, at in link.execute("select mirror, target, last_success from standing")
            },
        )


async def again(world: OldWorld) -> None:
    """Let the targets have what they had when the state was made."""
    images = {"main": "moved", "v1": "v1"}
    for tag, seed in images.items():
        image = build_image(layer_size=500, layers=1, seed=seed)
        await push(image, f"http://{world.registry.host}", "mirror/app", [tag])
    built = build_image(layer_size=500, layers=1, seed="built")
    names = ["dev-7654321", "dev", f"main-{COMMIT[:7]}", "main"]
    await push(built, f"http://{world.registry.host}", "mirror/built", names)
    world.repository.git("push", "-q", "--mirror", str(world.forge.path("code.git")))


@pytest.mark.parametrize("version", sorted(PORTS))
async def test_nothing_is_lost_and_nothing_done_twice(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state of before opens; runs, memory, standings and backups are there, and every run finds nothing to do."""
    require("docker-registry", "git")
    monkeypatch.chdir(tmp_path)
    unpack(version, tmp_path / "state")
    before = read_before(tmp_path / "state")
    monkeypatch.setattr(runtime, "now", lambda: before.last + timedelta(minutes=1))
    async with OldWorld(tmp_path, PORTS[version]) as world:
        await world.change()
        await again(world)
        world.source.wire.exchanges.clear()
        with StateLock(tmp_path / "state"):
            configuration = await asyncio.to_thread(load_folder, world.configure(), load_syncers(), {})
            for done in (WRITES[version], frozenset[str]()):
                async with open_runtime(configuration, load_syncers(), tmp_path / "state", Events()) as opened:
                    await check(opened, before, done)
                before = read_before(tmp_path / "state")
        asked = [one.status for one in world.charts.select("GET", "index.yaml")]
        assert asked == [200 if WRITES[version] else 304, 304]
        assert world.charts.count("GET", ".tgz") == 0
        assert world.source.count("GET", "/blobs/") == 0
        assert world.forge.count("POST", "git-receive-pack") == 0


@pytest.mark.parametrize("version", sorted(PORTS))
async def test_notes_in_files_go_into_the_record(version: str, tmp_path: Path) -> None:
    """What a chart mirror noted is read once, and its files go; a crash loses none of it, and damage is told."""
    state = tmp_path / "state"
    unpack(version, state)
    notes = {file.stem: json.loads(file.read_bytes()) for file in (state / "helm").glob("*.json")}
    assert {"charts", "charts.items"} <= notes.keys()
    store = await open_store(state / "mirrord.db", EPOCH)
    failpoints.arm("facts.noted", failpoints.after(1, failpoints.fail))
    with pytest.raises(StorageError, match="failpoint"):
        await take_over(state, store)
    failpoints.disarm()
    assert len([*(state / "helm").iterdir()]) == len(notes) - 1
    (state / "helm" / ".charts.json.0123.tmp").write_text("{")
    (state / "helm" / "other.json").write_text("{damaged")
    (said,) = await take_over(state, store)
    assert said.startswith(f"{state}/helm/other.json: is damaged, and was removed: ")
    assert "the next run of other asks for everything again, and deletes nothing" in said
    assert await take_over(state, store) == ()
    assert not (state / "helm").exists()
    found = {name: await store.recall("charts", "helm" + name.removeprefix("charts")) for name in notes}
    assert found == notes
    await store.close()


async def check(opened: Runtime, before: Before, done: Collection[str]) -> None:
    """Look at what is remembered, run all mirrors, and look at the backups."""
    assert opened.losses == ()
    runs = {name: await opened.store.runs(name, 1000) for name in MIRRORS}
    assert {name: len(found) for name, found in runs.items()} == before.runs
    known = {(m, *key, seen.digest) for m in MIRRORS for key, seen in (await opened.store.memory(m)).items()}
    assert known == before.known
    standing = {(one.mirror, one.target): one.last_success for one in await opened.store.standing()}
    assert standing == {key: EPOCH + timedelta(microseconds=at) for key, at in before.standing.items()}
    ended = {name: (await opened.runner.sync(name)).result for name in MIRRORS}
    assert ended == {name: Result.SUCCESS if name in done else Result.NOOP for name in MIRRORS}
    backups = {one.item for one in await Dispatcher(opened).carry_out(Backups("code"))}
    assert backups == {"refs/heads/dev", "refs/heads/old"}
