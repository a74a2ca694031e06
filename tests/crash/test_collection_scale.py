"""A collection of many names: its work grows as they do, and no turn of the loop passes over all of them."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirrord.blobs.disk import DiskStore
from mirrord.blobs.repositories import ManifestRef
from mirrord.config.load import load_folder
from mirrord.daemon.collecting import GarbageCollection
from mirrord.daemon.lock import StateLock
from mirrord.daemon.runtime import open_runtime
from mirrord.events import Events
from mirrord.model.digest import Digest
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run
from mirrord.syncer.port import load_syncers
from mirrord.syncer.values import LOCAL
from tests.support.localstore import tags_in
from tests.support.turns import Turns


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count what is asked of the disk by names of files."""
    calls = Counter[str]()

    def count(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def wrapped(*args: object, **keys: object) -> object:
            calls[name] += 1
            return real(*args, **keys)

        patched.setattr(owner, name, wrapped)

    with monkeypatch.context() as patched:
        for name in ("open", "stat", "scandir", "unlink", "rename", "replace", "utime", "link"):
            count(os, name)
        for name in ("read_bytes", "unlink", "stat"):
            count(Path, name)
        yield calls


async def collected(folder: Path, many: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Turns]:
    """Fill `local` with so many tags, of which half is kept; return the work on the disk, and the turns of the loop."""
    (folder / "conf.d").mkdir(parents=True)
    (folder / "state").mkdir()
    (folder / "conf.d" / "a.yaml").write_text(
        "mirrors: [{name: app, kind: image, from: {repository: up.test/up/app, tags: ['*']}, "
        f"keep: {{newest: {many // 2}}}, to: local}}]\n"
    )
    syncers = load_syncers()
    configuration = await asyncio.to_thread(load_folder, folder / "conf.d", syncers, {})
    with StateLock(folder / "state"):
        async with open_runtime(configuration, syncers, folder / "state", Events()) as runtime:
            collector, turns = runtime.collector, Turns()
            assert collector
            assert isinstance(collector.store, DiskStore)
            data = {f"1.{number}": b"%d" % number for number in range(many)}
            digests = {tag: Digest.of(body) for tag, body in data.items()}
            for tag, body in data.items():
                await collector.store.put(digests[tag], body)
            links = {digest: ManifestRef("application/x", len(data[tag]), ()) for tag, digest in digests.items()}
            await collector.repositories.publish("app", links, digests)
            at = datetime.now(UTC)
            steps = tuple(Step(Action.COPY, tag, digest, LOCAL, (tag,), "") for tag, digest in digests.items())
            plan, receipts = Plan("app", "image", at, steps), tuple(Receipt(step, Outcome.DONE) for step in steps)
            await runtime.store.add_run(Run("app", "image", "command", at, at, plan, receipts))
            with counted(monkeypatch) as calls, turns.counted():
                found = await GarbageCollection(runtime, collector).collect()
            assert (len(found.gone), found.kept, found.blobs, found.troubles) == (many // 2, many // 2, many // 2, ())
            assert len(await runtime.store.moves("app")) == many // 2
    assert len(tags_in(folder / "state" / "repositories", "app")) == many // 2
    return sum(calls.values()), turns


async def test_the_work_grows_as_the_names_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the names take ten times the work at most; and others have their turn meanwhile."""
    few, _ = await collected(tmp_path / "few", 300, monkeypatch)
    many, turns = await collected(tmp_path / "many", 3000, monkeypatch)
    assert many < 10.5 * few, (few, many)
    assert turns.again < 700, turns
