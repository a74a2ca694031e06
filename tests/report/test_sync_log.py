"""The log of what is where, made of a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mirrord.daemon.sync_log import sync_log
from mirrord.errors import StorageError
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run
from mirrord.pipeline import places
from mirrord.record.store import PAGE
from mirrord.syncer.port import Syncer, load_syncers
from mirrord.syncer.values import Mirror, Services, Target
from mirrord.syncers.git.plan.steps import EVERYTHING
from tests.support.opening import open_services
from tests.support.store import MemoryStore

T0 = datetime(2026, 11, 27, 16, 39, 5, tzinfo=UTC)
SYNCERS = load_syncers()
ADDRESSES = {
    "git": ("https://git.example/a/b.git", "https://h.example/c/{name}.git"),
    "image": ({"repository": "quay.io/a/b", "tags": ["v*"]}, "r.example/c"),
}


@dataclass
class Configured:
    """As much of a snapshot as the log asks for."""

    mirrors: dict[str, Mirror]
    services: Services | None = None

    def mirror(self, name: str) -> Mirror:
        return self.mirrors[name]

    def syncer(self, mirror: Mirror) -> Syncer:
        return SYNCERS[mirror.kind]


def mirror_of(kind: str) -> Mirror:
    source, to = ADDRESSES[kind]
    keys, options = SYNCERS[kind].models()
    targets = tuple(Target(name, kind, to.replace("example", f"{name}.example"), options()) for name in ("one", "two"))
    return Mirror("m", kind, keys.model_validate({"from": source}), targets)


async def log_of(mirror: Mirror, store: Any, services: Services | None = None) -> list[str]:
    snapshot: Any = Configured({"m": mirror}, services)
    return (b"".join([piece async for piece in sync_log(snapshot, store, ["m"])])).decode().splitlines()


async def record(mirror: Mirror, good: Sequence[str], bad: Sequence[str] = (), *, moved: bool = False) -> MemoryStore:
    """Return the record of a run after which the first target has all items, and the second one only the good ones."""
    steps = [
        Step(Action.COPY, item, f"sha256:{item}", target, (item,), "") for target in ("one", "two") for item in good
    ]
    receipts = [Receipt(step, Outcome.DONE) for step in steps]
    steps += [Step(Action.COPY, item, "sha256:x", "two", (item,), "") for item in bad]
    receipts += [Receipt(step, Outcome.FAILED, "403", "denied") for step in steps[len(receipts) :]]
    at = {**places(mirror, SYNCERS[mirror.kind]), **({"one": "elsewhere"} if moved else {})}
    plan = Plan("m", mirror.kind, T0, tuple(steps))
    store = MemoryStore()
    end = T0 + timedelta(seconds=9)
    await store.add_run(Run("m", mirror.kind, "command", T0, end, plan, tuple(receipts), places=at).add_up())
    return store


async def test_names_at_both_ends() -> None:
    """Each line has the item's name at the source and at the target, the time, and a digest or a reason."""
    mirror = mirror_of("image")
    error, *present, behind = await log_of(mirror, await record(mirror, ["v1"], ["v0"]))
    assert error == "2026-11-27T16:39:14Z ERROR: m: denied: v0: 403"
    assert present == [
        f"2026-11-27T16:39:14Z SYNCHRONIZED: quay.io/a/b:v1 and r.{name}.example/c/m:v1 are synchronized: sha256:v1"
        for name in ("one", "two")
    ]
    names = "quay.io/a/b:v0 and r.two.example/c/m:v0"
    assert behind == f"2026-11-27T16:39:05Z NOT-SYNCHRONIZED: {names} are not synchronized: denied: 403"


async def test_refs_of_git_have_names(tmp_path: Path) -> None:
    """A ref is named by its repository, `#` and its own name at both ends; the whole repository by its address."""
    mirror = mirror_of("git")
    async with open_services(tmp_path) as services:
        lines = await log_of(mirror, await record(mirror, ["refs/heads/main", EVERYTHING]), services)
    assert [line.split()[2:5:2] for line in lines] == [
        [f"git.example/a/b{ref}", f"h.{name}.example/c/m{ref}"]
        for ref in ("", "#refs/heads/main")
        for name in ("one", "two")
    ]


async def test_many_items_come_in_pages() -> None:
    """However many items there are, each is there once; of too many that are behind the number is there."""
    mirror = mirror_of("image")
    items = [f"v{number}" for number in range(PAGE + 5)]
    lines = await log_of(mirror, await record(mirror, items))
    assert len(set(lines)) == len(lines) == 2 * len(items)
    lines = await log_of(mirror, await record(mirror, [], items))
    assert len([line for line in lines if " NOT-SYNCHRONIZED: " in line]) == PAGE
    assert lines[-1] == "- NOTE: m: 5 more items are not synchronized"


async def test_former_places_are_left_out() -> None:
    """What a target had at another address says nothing of the present one."""
    mirror = mirror_of("image")
    lines = await log_of(mirror, await record(mirror, ["v1"], moved=True))
    assert [line.split()[4] for line in lines] == ["r.two.example/c/m:v1"]


async def test_a_record_that_cannot_be_read() -> None:
    """Then there is no log, rather than an empty one."""
    store = MemoryStore()
    store.broken = "no disk"
    with pytest.raises(StorageError):
        await log_of(mirror_of("image"), store)
