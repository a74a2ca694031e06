"""What is told of builds: of each pull request the newest, a few attempts, and nothing of other runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from mirrord.config.pull_requests import BuiltMirror, PullRequestRules
from mirrord.daemon import pull_desk
from mirrord.daemon.pull_desk import ATTEMPTS, PullBuild, PullDesk, build_of
from mirrord.errors import BusyError, DeniedError, FencedError, MirrordError, StorageError, ThrottledError
from mirrord.model.run import Run
from mirrord.wire.git.address import Address
from mirrord.wire.secret import Secret

NOW = datetime(2026, 11, 28, tzinfo=UTC)
MIRROR: Any = SimpleNamespace(name="app")
RULES = PullRequestRules(
    "here",
    "github",
    Address.parse("https://github.com/acme/app"),
    Secret("a-token-of-the-test"),
    (BuiltMirror(MIRROR, "app"),),
    "",
    "en",
)


def published(*names: str, trigger: str = "publish", mirror: str = "app") -> Run:
    step: Any = SimpleNamespace(names=names, named=[SimpleNamespace(name=name, number=5) for name in names])
    plan: Any = SimpleNamespace(steps=(step,)) if names else None
    return Run(mirror, "image", trigger, NOW, NOW, plan)


class Scene:
    """A desk whose forge answers as it is told to, and what it was asked to write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[tuple[str, str]] = []
        self.errors: list[MirrordError] = []
        self.lines: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        configuration = SimpleNamespace(pull_requests=(RULES, replace(RULES, name="else", built=())))
        runtime: Any = SimpleNamespace(snapshot=SimpleNamespace(configuration=configuration))
        self.desk = PullDesk(runtime, lambda _, name, **__: self.lines.append(name))
        monkeypatch.setattr(pull_desk, "_PAUSE", 0.0)
        monkeypatch.setattr(PullDesk, "_say", lambda _, *words: self.say(*words))

    async def say(self, rules: PullRequestRules, build: PullBuild) -> None:
        await self.gate.wait()
        self.said.append(build[:2])
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Scene]:
    return lambda: Scene(monkeypatch)


@pytest.mark.parametrize(
    ("run", "found"),
    [
        (published("pr-7-abcdef0", "pr-7"), PullBuild("7", "abcdef0", "app", 5)),
        (published("pr-7-v1-3-gabc", "pr-7"), PullBuild("7", "v1-3-gabc", "app", 5)),
        (published("main-abcdef0", "main"), None),
        (published("pr-7-abcdef0", "pr-7", trigger="schedule"), None),
        (published(), None),
    ],
)
def test_the_tags_say_which_pull_request(run: Run, found: PullBuild | None) -> None:
    """Of a publish alone; a branch may have no such name."""
    assert build_of(run) == found


async def test_the_newest_build_counts(scene: Callable[[], Scene]) -> None:
    """While a comment is written, of each pull request the last build waits; other mirrors are nothing to it."""
    here = scene()
    here.gate.clear()
    here.desk.built(published("pr-7-a", "pr-7"))
    await asyncio.sleep(0)
    for build in ("b", "c"):
        here.desk.built(published(f"pr-7-{build}", "pr-7"))
        here.desk.built(published(f"pr-8-{build}", "pr-8"))
    here.desk.built(published("pr-9-a", "pr-9", mirror="other"))
    here.gate.set()
    await here.desk.close(20)
    assert here.said == [("7", "a"), ("7", "c"), ("8", "c")]
    here.desk.built(published("pr-7-d", "pr-7"))
    await here.desk.close(20)
    assert here.said[-1] == ("7", "d")


async def test_a_forge_that_limits_the_rate_is_asked_again(scene: Callable[[], Scene]) -> None:
    """As it says, and a few times at most; what it refuses is told once."""
    here = scene()
    here.errors = [ThrottledError("later", 0.0)]
    here.desk.built(published("pr-7-a", "pr-7"))
    await here.desk.close(20)
    assert (len(here.said), here.lines) == (2, ["pull_request.failed"])
    here.errors = [ThrottledError("later", 0.0)] * 9
    here.desk.built(published("pr-7-b", "pr-7"))
    await here.desk.close(20)
    assert len(here.said) == 2 + ATTEMPTS
    here.errors = [DeniedError("no", 403)]
    here.desk.built(published("pr-7-c", "pr-7"))
    await here.desk.close(20)
    assert len(here.said) == 3 + ATTEMPTS


@pytest.mark.parametrize("error", [BusyError, FencedError, StorageError])
async def test_replicas_wait_for_each_other(scene: Callable[[], Scene], error: type[MirrordError]) -> None:
    """What another replica holds up, or a record that is away, is tried again."""
    here = scene()
    here.errors = [error("away")]
    here.desk.built(published("pr-7-a", "pr-7"))
    await here.desk.close(20)
    assert (len(here.said), here.lines) == (2, ["pull_request.failed"])


async def test_the_end_of_the_daemon_waits_for_no_forge(scene: Callable[[], Scene]) -> None:
    """What is not told by then is left; the next build tells it."""
    here = scene()
    here.gate.clear()
    here.desk.built(published("pr-7-a", "pr-7"))
    await here.desk.close(0.01)
    assert here.said == []
