"""The contract suite passes a small honest syncer and catches each lie."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import BaseModel, ConfigDict

from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt
from mirrord.syncer.port import OnReceipt
from mirrord.syncer.values import Mirror, Services, Target
from mirrord.testing.contract import SCENARIO_CHECKS, check_port, check_rooms
from tests.support.double import syncer_of

SOURCE = {"a": "1", "b": "2"}


class Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Open(BaseModel):
    pass


class NoteSession:
    """Writes notes into dictionaries, one name after the other."""

    def __init__(self, world: "World", lie: str) -> None:
        self.world, self.lie, self.read = world, lie, 0

    async def execute(self, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
        for receipt in await self._receipts(batch):
            on_receipt(receipt)

    async def _receipts(self, batch: Sequence[Step]) -> Sequence[Receipt]:
        receipts = []
        for step in batch:
            self.read += 1
            await asyncio.sleep(0)
            if step.target == "one" and self.world.broken_now:
                if self.lie == "failures break all":
                    return [Receipt(step, Outcome.FAILED, "broken", "server") for step in batch]
                receipts.append(Receipt(step, Outcome.FAILED, "broken", "" if self.lie == "no code" else "server"))
                continue
            if self.lie == "publishes early":
                self.world.targets[step.target][step.item] = "half"
            if step.target == "one" and self.world.block:
                self.world.block.set()
                await asyncio.Event().wait()
            if self.lie != "forgets a target" or step.target != "two":
                self.world.targets[step.target][step.item] = step.digest
            receipts.append(Receipt(step, Outcome.DONE))
        return receipts[1:] if self.lie == "drops receipts" else receipts


class NoteSyncer:
    """Mirrors notes; honest unless told a lie."""

    kind = "note"
    target_spec = Closed

    def __init__(self, world: "World", lie: str) -> None:
        self.world, self.lie = world, lie
        self.spec = Open if lie == "open model" else Closed
        self._count = itertools.count()

    def places(self, mirror: Mirror) -> tuple[str, Mapping[str, str]]:
        return "source", {target.name: "" for target in mirror.targets[: 1 if self.lie == "hides places" else 9]}

    async def survey(self, mirror: Mirror, services: Services, memory: Any, now: Any) -> Any:
        if self.lie == "surveying writes":
            self.world.targets["two"].update(SOURCE)
        if self.lie == "believes for ever":
            return {t: {i for name, i in memory if name == t} for t in self.world.targets}
        return {t: {i for i in SOURCE if held.get(i) == self.world.source[i]} for t, held in self.world.targets.items()}

    def plan(self, mirror: Mirror, survey: Any, now: Any) -> Plan:
        reason = {"no reasons": "", "chance": f"{next(self._count)}"}.get(self.lie, "differs")
        steps = [
            Step(Action.COPY, item, digest, target.name, (item,), reason, group=item)
            for target in mirror.targets
            for item, digest in self.world.source.items()
            if item not in survey[target.name] or self.lie == "always copies"
        ]
        return Plan(mirror.name, "note", now, tuple(steps))

    @contextlib.asynccontextmanager
    async def open(self, mirror: Mirror, plan: Plan, services: Services) -> AsyncIterator[NoteSession]:
        yield NoteSession(self.world, self.lie)


class World:
    """A `Scenario`."""

    services = cast("Services", None)

    def __init__(self, lie: str = "") -> None:
        self.source = dict(SOURCE)
        self.targets: dict[str, dict[str, str]] = {"one": {}, "two": {}}
        self.broken_now = False
        self.block: asyncio.Event | None = None
        self.syncer = syncer_of(NoteSyncer(self, lie))
        self.mirror = Mirror("notes", "note", Closed(), tuple(Target(n, "note", n, Closed()) for n in self.targets))

    async def change(self) -> None:
        self.source["a"] = "3"

    def wanted(self) -> Mapping[str, str]:
        return dict(self.source)

    def found(self, target: str) -> Mapping[str, str]:
        return dict(self.targets[target])

    def flaws(self, target: str) -> Sequence[str]:
        return []

    @contextlib.asynccontextmanager
    async def broken(self) -> AsyncIterator[None]:
        self.broken_now = True
        yield
        self.broken_now = False

    @contextlib.asynccontextmanager
    async def blocked(self) -> AsyncIterator[asyncio.Event]:
        self.block = asyncio.Event()
        yield self.block
        self.block = None


async def failures(lie: str) -> set[str]:
    failed = set()
    for check in SCENARIO_CHECKS:
        try:
            await check(World(lie))
        except AssertionError:
            failed.add(check.__name__.removeprefix("check_"))
    return failed


async def test_an_honest_syncer_passes() -> None:
    """An honest syncer of a new kind passes every check unedited."""
    check_port("note", World().syncer)
    assert await failures("") == set()


@pytest.mark.parametrize(
    ("lie", "caught"),
    [
        ("hides places", "places"),
        ("chance", "plan"),
        ("no reasons", "plan"),
        ("surveying writes", "plan"),
        ("drops receipts", "converges"),
        ("forgets a target", "converges"),
        ("always copies", "nothing_to_do"),
        ("believes for ever", "follows"),
        ("failures break all", "isolation"),
        ("no code", "isolation"),
        ("publishes early", "cancel"),
    ],
)
async def test_lies_are_caught(lie: str, caught: str) -> None:
    """A syncer that breaks one promise fails the check that is about it."""
    assert caught in await failures(lie)


def test_open_models_are_caught() -> None:
    """Models that can be changed or take unknown keys are no syncer's."""
    with pytest.raises(AssertionError, match="frozen"):
        check_port("note", World("open model").syncer)
    with pytest.raises(AssertionError):
        check_port("other", World().syncer)
    with pytest.raises(AssertionError, match="does not fulfil"):
        check_port("note", object())


def test_unknown_rooms_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A room that no other syncer has is named."""
    folder = tmp_path / "some_notes"
    folder.mkdir()
    for room in ("__init__", "spec", "plan", "attic"):
        (folder / f"{room}.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(AssertionError, match="attic"):
        check_rooms("some_notes")
