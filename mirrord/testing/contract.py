"""What every syncer and every store promises, as checks that a test module runs on each of them.

    @pytest.mark.parametrize("check", SCENARIO_CHECKS)
    async def test_promises(check, tmp_path):
        async with image_scenario(tmp_path) as scenario:
            await check(scenario)

A check raises AssertionError; its docstring is the promise.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from mirrord.model.memory import NO_MEMORY, LastSeen, Memory
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Receipt
from mirrord.syncer.port import Session, Syncer
from mirrord.syncer.values import LOCAL, Mirror, Services
from mirrord.wire.host import HostBook

ROOMS = frozenset({"__init__", "syncer", "spec", "names", "plan", "upstream", "transfer", "front", "through", "kept"})
NOW = datetime(2024, 5, 17, 12, tzinfo=UTC)
URL = "http://127.0.0.1:8080"


class Scenario(Protocol):
    """A small world in which a syncer can work: a source that can change, and at least two targets.

    Attributes:
        syncer: the syncer under test.
        mirror: what to mirror; the first target is the one that can be broken.
        services: real ones.
    """

    syncer: Syncer
    mirror: Mirror
    services: Services

    async def change(self) -> None:
        """Change the source, so that there is something to do again."""

    def wanted(self) -> Mapping[str, str]:
        """Return what each target should have now: digest (or any identity) by published name."""

    def found(self, target: str) -> Mapping[str, str]:
        """Return the same for what a target has, read without the code under test."""

    def flaws(self, target: str) -> Sequence[str]:
        """Name what is wrong within a target: names of missing content, leftovers."""

    def broken(self) -> AbstractAsyncContextManager[None]:
        """Make everything fail that is asked of the first target, until the context is left."""

    def blocked(self) -> AbstractAsyncContextManager[asyncio.Event]:
        """Let content on its way to the first target hang, until the context is left; the event says that it does."""


Opening = Callable[[Path], AbstractAsyncContextManager[Scenario]]


@dataclass(frozen=True, slots=True)
class Pass:
    """One run, as far as the checks look at it."""

    plan: Plan
    receipts: tuple[Receipt, ...]
    read: int

    @property
    def memory(self) -> Memory:
        """What a record would remember of it."""
        known = {
            (receipt.step.target, receipt.step.item): LastSeen(receipt.step.digest, NOW)
            for receipt in self.receipts
            if receipt.good and receipt.step.action is Action.COPY
        }
        return Memory(known)


async def run_once(scenario: Scenario, memory: Memory = NO_MEMORY, now: datetime = NOW) -> Pass:
    """Walk the mirror of `scenario` once: survey, plan, execute every group."""
    syncer, mirror, services = scenario.syncer, scenario.mirror, scenario.services
    survey = await syncer.survey(mirror, services, memory, now)
    plan = syncer.plan(mirror, survey, now)
    receipts: list[Receipt] = []
    async with syncer.open(mirror, plan, services) as session:
        assert isinstance(session, Session), f"{type(session)} lacks execute or read"
        for batch in plan.groups:
            await session.execute(batch, receipts.append)
        read = session.read
    return Pass(plan, tuple(receipts), read)


def check_port(kind: str, syncer: object) -> None:
    """A syncer offers the whole port under the name of its entry point, and its models are closed and frozen."""
    assert isinstance(syncer, Syncer), f"{syncer!r} does not fulfil mirrord.syncer.port.Syncer"
    assert syncer.kind == kind
    for model in (syncer.spec, syncer.target_spec):
        assert issubclass(model, BaseModel), f"{model} is no pydantic model"
        assert model.model_config.get("frozen") is True, f"{model.__name__} can be changed; set frozen=True"
        assert model.model_config.get("extra") == "forbid", f"{model.__name__} takes unknown keys; set extra='forbid'"


def check_rooms(package: str) -> None:
    """A syncer's folder has only the rooms that every syncer may have, and one that plans."""
    file = import_module(package).__file__
    assert file is not None
    assert Path(file).name == "__init__.py", f"{package} is no folder"
    entries = (entry for entry in Path(file).parent.iterdir() if entry.name != "__pycache__")
    rooms = {entry.stem for entry in entries if entry.is_dir() or entry.suffix == ".py"}
    assert rooms <= ROOMS, f"{package} has unknown rooms: {sorted(rooms - ROOMS)}"
    assert {"spec", "plan"} <= rooms, f"{package} lacks spec or plan"


async def check_places(scenario: Scenario) -> None:
    """A syncer says where each target of a mirror is, the same each time."""
    origin, places = scenario.syncer.places(scenario.mirror)
    assert origin
    assert set(places) == {target.name for target in scenario.mirror.targets}
    assert (origin, places) == scenario.syncer.places(scenario.mirror)


async def check_plan(scenario: Scenario) -> None:
    """Deciding is pure: the same survey gives the same plan, and every step says why and belongs to the mirror."""
    before = [scenario.found(target.name) for target in scenario.mirror.targets]
    survey = await scenario.syncer.survey(scenario.mirror, scenario.services, NO_MEMORY, NOW)
    plan = scenario.syncer.plan(scenario.mirror, survey, NOW)
    assert before == [scenario.found(target.name) for target in scenario.mirror.targets], "surveying or planning wrote"
    assert plan == scenario.syncer.plan(scenario.mirror, survey, NOW), "two plans of one survey differ"
    again = await scenario.syncer.survey(scenario.mirror, scenario.services, NO_MEMORY, NOW)
    assert plan == scenario.syncer.plan(scenario.mirror, again, NOW), "surveying changed the world"
    assert (plan.mirror, plan.kind, plan.at) == (scenario.mirror.name, scenario.syncer.kind, NOW)
    assert plan.active, "there is nothing to do in a fresh scenario"
    targets = {target.name for target in scenario.mirror.targets}
    for step in plan.steps:
        assert step.reason, f"no reason: {step}"
        assert step.target in targets, f"unknown target: {step}"
        assert step.names or not step.active, f"no names: {step}"


async def check_converges(scenario: Scenario) -> None:
    """One run brings every target to the state of the source, with one good receipt for each active step."""
    done = await run_once(scenario)
    _receipts_fit(done)
    assert all(receipt.good for receipt in done.receipts), [r for r in done.receipts if not r.good]
    _all_there(scenario)


async def check_nothing_to_do(scenario: Scenario) -> None:
    """A second run does nothing and reads nothing, whether the first one is remembered or not."""
    first = await run_once(scenario)
    for memory in (first.memory, NO_MEMORY):
        second = await run_once(scenario, memory, NOW + timedelta(minutes=1))
        assert second.plan.active == (), f"something to do again: {second.plan.active}"
        assert second.read == 0
    _all_there(scenario)


async def check_follows(scenario: Scenario) -> None:
    """A change at the source arrives at every target, although the state before is remembered."""
    first = await run_once(scenario)
    before = dict(scenario.wanted())
    await scenario.change()
    assert scenario.wanted() != before, "the scenario did not change"
    second = await run_once(scenario, first.memory, NOW + timedelta(minutes=1))
    _receipts_fit(second)
    assert second.receipts, "the change was not seen"
    _all_there(scenario)


async def check_isolation(scenario: Scenario) -> None:
    """A target that fails is told in a receipt or in the plan; the others are served, and later it is served too."""
    bad, *others = (target.name for target in scenario.mirror.targets)
    async with scenario.broken():
        done = await run_once(scenario)
        for target in others:
            assert scenario.found(target) == scenario.wanted(), f"{target} suffers from {bad}"
    _receipts_fit(done)
    refusals = [step for step in done.plan.steps if step.action is Action.REFUSE and step.target == bad]
    failures = [receipt for receipt in done.receipts if receipt.step.target == bad and not receipt.good]
    assert refusals or failures or done.plan.missing, f"nobody says that {bad} failed"
    for receipt in failures:
        assert receipt.code, f"no code: {receipt}"
        assert receipt.detail, f"no detail: {receipt}"
    assert all(receipt.good for receipt in done.receipts if receipt.step.target != bad)
    _sound(scenario)
    await run_once(scenario, done.memory)
    _all_there(scenario)


async def check_cancel(scenario: Scenario) -> None:
    """A run that is cancelled on its way leaves no target half published, and the next one arrives."""
    await run_once(scenario)
    before = dict(scenario.wanted())
    await scenario.change()
    async with scenario.blocked() as hanging:
        running = asyncio.ensure_future(run_once(scenario))
        waiting = asyncio.ensure_future(hanging.wait())
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        assert not running.done(), f"the run did not meet the block: {running}"
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        for target in scenario.mirror.targets:
            found = scenario.found(target.name)
            assert found in (before, scenario.wanted()), f"{target.name} is between two states: {found}"
        _sound(scenario)
    await run_once(scenario)
    _all_there(scenario)


async def check_uses(scenario: Scenario) -> None:
    """A syncer that says how clients use its targets says it the same each time, in commands of one line each."""
    done = await run_once(scenario)
    syncer, mirror, book = scenario.syncer, scenario.mirror, HostBook()
    for target in mirror.targets:
        link = syncer.link_of(mirror, target)
        assert not link or link.startswith(("https://", "http://")), f"{target.name}: nobody can open {link}"
        here = replace(target, page="https://example.org/{mirror}") if syncer.link and target.name != LOCAL else None
        assert here is None or syncer.link_of(mirror, here) == f"https://example.org/{mirror.name}", "`page` is ignored"
        items = {receipt.step.item for receipt in done.receipts if receipt.step.target == target.name}
        for item in ("", *sorted(items)):
            found = syncer.uses_of(mirror, target, URL, book, item)
            assert found == syncer.uses_of(mirror, target, URL, book, item)
            for usage in found:
                words = shlex.split(usage.command)
                assert usage.command.isprintable(), f"not one line: {usage}"
                assert shlex.join(words) == usage.command, f"not quoted: {usage}"
                assert words[0] == usage.tool
        assert not syncer.uses_of(mirror, target, URL, book, "a\nb"), "a name with a line break gets into a command"


SCENARIO_CHECKS: tuple[Callable[[Scenario], Awaitable[None]], ...] = (
    check_places,
    check_plan,
    check_converges,
    check_nothing_to_do,
    check_follows,
    check_isolation,
    check_cancel,
    check_uses,
)


@contextlib.asynccontextmanager
async def session_of(scenario: Scenario) -> AsyncIterator[tuple[Session, tuple[Step, ...]]]:
    """Open a run that a test wants to drive by itself: its session and its active steps."""
    survey = await scenario.syncer.survey(scenario.mirror, scenario.services, NO_MEMORY, NOW)
    plan = scenario.syncer.plan(scenario.mirror, survey, NOW)
    async with scenario.syncer.open(scenario.mirror, plan, scenario.services) as session:
        yield session, plan.active


def _receipts_fit(done: Pass) -> None:
    steps, receipts = Counter(done.plan.active), Counter(receipt.step for receipt in done.receipts)
    assert steps == receipts, f"receipts do not fit the plan: {(steps - receipts) + (receipts - steps)}"


def _sound(scenario: Scenario) -> None:
    for target in scenario.mirror.targets:
        assert list(scenario.flaws(target.name)) == [], f"{target.name} is not sound"


def _all_there(scenario: Scenario) -> None:
    for target in scenario.mirror.targets:
        assert scenario.found(target.name) == scenario.wanted(), f"{target.name} has not arrived"
    _sound(scenario)
