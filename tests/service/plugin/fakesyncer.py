"""A tiny syncer, installed as others are: copies files from a folder to folders.

Files in the source folder steer it: `hang` waits while it is there, `bug` raises what no syncer may raise.
They are no items.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from mirrord.events import FrontAnswered
from mirrord.model.memory import Memory
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt
from mirrord.names.denied import Denied
from mirrord.syncer.port import OnReceipt, Syncer
from mirrord.syncer.serving import FrontLook, FrontStanding, Request, Response
from mirrord.syncer.through import CheckedFront, PullThrough
from mirrord.syncer.values import Mirror, Publication, Services

STEERING = {"hang", "bug"}


class Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    from_: str = Field(alias="from")


class TargetSpec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Session:
    read = 0

    def __init__(self, mirror: Mirror, source: Path) -> None:
        self._mirror, self._source = mirror, source

    async def execute(self, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
        targets = {target.name: Path(target.to) for target in self._mirror.targets}
        for step in batch:
            data = (self._source / step.item).read_bytes()
            (targets[step.target] / step.item).write_bytes(data)
            self.read += len(data)
            receipt = Receipt(step, Outcome.DONE, sent=len(data))
            if step is batch[-1]:
                await steered(self._source)
            on_receipt(receipt)


async def steered(source: Path) -> None:
    if (source / "bug").exists():
        raise RuntimeError("a syncer may not raise this")
    while (source / "hang").exists():  # noqa: ASYNC110 - see below
        await asyncio.sleep(0.02)  # a file is the only gate that a test can open in another process


def places(mirror: Mirror) -> tuple[str, Mapping[str, str]]:
    return mirror.spec.from_, {target.name: target.to for target in mirror.targets}


async def survey(mirror: Mirror, services: Services, memory: Memory, now: datetime) -> dict[str, str]:
    source = Path(mirror.spec.from_)
    files = [file for file in sorted(source.iterdir()) if file.name not in STEERING]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def plan(mirror: Mirror, survey: dict[str, str], now: datetime) -> Plan:
    steps = []
    for name, digest in survey.items():
        for target in mirror.targets:
            there = Path(target.to) / name
            same = there.exists() and hashlib.sha256(there.read_bytes()).hexdigest() == digest
            action, reason = (Action.KEEP, "same content") if same else (Action.COPY, "not there")
            steps.append(Step(action, name, f"sha256:{digest}", target.name, (name,), reason))
    return Plan(mirror.name, "fake", now, tuple(steps))


@asynccontextmanager
async def begin(mirror: Mirror, plan: Plan, services: Services) -> AsyncIterator[Session]:
    yield Session(mirror, Path(mirror.spec.from_))


def publishing(mirror: Mirror, publication: Publication) -> Mirror:
    return replace(mirror, spec=Spec(**{"from": publication.source}))


class Front:
    prefixes = ("/fake/",)

    async def respond(self, request: Request, services: Services) -> Response:
        return Response(200, {"Content-Type": "text/plain"}, body=f"fake {request.path}".encode())


class FrontSection(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    greeting: str


class Through(Front):
    """Greets as the configuration in use says, and writes a file when it is closed."""

    def __init__(self, services: Callable[[], Services]) -> None:
        self._services = services

    async def respond(self, request: Request, services: Services) -> Response:
        rules = self._services().fronts.get("fake")
        answer = await super().respond(request, services)
        self._services().events.emit(FrontAnswered("fake.example", "blob", "miss"))
        return replace(answer, body=rules.keys.greeting.encode()) if rules else answer

    async def look(self, text: str) -> FrontLook:
        return FrontLook(text, "refused", reason="nothing is pulled through")

    async def follow(self) -> None:
        """Read no list."""

    async def purge(self, denied: Denied) -> int:
        return 0

    def standing(self) -> FrontStanding:
        return FrontStanding(7, 2, list_errors={"allows.txt": "allows.txt:1: <b>bad</b>"})


@asynccontextmanager
async def through(services: Callable[[], Services]) -> AsyncIterator[Through]:
    yield Through(services)
    keep = services().keep
    assert keep is not None
    (keep / "through-closed").touch()


SYNCER = Syncer(
    "fake",
    lambda: (Spec, TargetSpec),
    places,
    survey,
    plan,
    begin,
    publishing=publishing,
    front=Front(),
    through=PullThrough(lambda: FrontSection, lambda keys: {"fake.example": False}, lambda *_: CheckedFront(), through),
)
