"""An upstream that says nothing, on a clock that tests set, or that fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mirrord.model.digest import Digest
from mirrord.testing import Registry
from tests.image.through.test_blobs import an_image
from tests.support.pulling import Pulls, pulling

LAYER = random.Random(5).randbytes(100_000)
BLOB = f"up.test/team/app/blobs/{Digest.of(LAYER)}"


class Scene(NamedTuple):
    """A front, its upstream, and seconds by which the clock of the loop is ahead."""

    pulls: Pulls
    upstream: Registry
    ahead: list[float]

    async def later(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due."""
        self.ahead[0] += seconds
        for _ in range(50):
            await asyncio.sleep(0)


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    loop, ahead = asyncio.get_running_loop(), [0.0]
    real = loop.time
    async with Registry() as upstream, pulling(tmp_path, upstream.host) as pulls:
        an_image(upstream.content, LAYER)
        assert (await pulls.ask("up.test/team/app/manifests/v1")).status == 200
        upstream.forget()
        monkeypatch.setattr(loop, "time", lambda: real() + ahead[0])
        yield Scene(pulls, upstream, ahead)
        monkeypatch.undo()


async def test_a_first_byte_after_25_seconds(scene: Scene) -> None:
    """An upstream that reads a blob whole before it sends it, as other caches do, is waited for: one GET."""
    fault = scene.upstream.faults.on("GET", "/blobs/").hold()
    asked = asyncio.create_task(scene.pulls.ask(BLOB))
    await fault.reached.wait()
    await scene.later(25)
    assert not asked.done()
    fault.release()
    answer = await asked
    assert (answer.status, answer.body) == (200, LAYER)
    assert scene.upstream.count("GET", "/blobs/") == 1


async def test_an_upstream_that_says_nothing(scene: Scene) -> None:
    """After 30 s of silence clients get 504, not after each try of each reader, and the next one is served again."""
    fault = scene.upstream.faults.on("GET", "/blobs/", times=None).hold()
    asked = [asyncio.create_task(scene.pulls.ask(BLOB)) for _ in range(3)]
    await fault.reached.wait()
    await scene.later(27)
    assert not any(one.done() for one in asked)
    await scene.later(3)
    for answer in await asyncio.gather(*asked):
        assert (answer.status, answer.code) == (504, "UNAVAILABLE")
        assert "up.test does not answer in time" in answer.message
        assert answer.headers["retry-after"] == "10"
    assert scene.upstream.count("GET", "/blobs/") == 1
    fault.release()
    scene.upstream.faults.clear()
    healed = await scene.pulls.ask(BLOB)
    assert (healed.status, healed.body) == (200, LAYER)


@pytest.mark.parametrize(
    ("status", "headers", "answer", "asked"),
    [
        (503, {}, (502, "UNAVAILABLE"), 3),
        (429, {}, (429, "TOOMANYREQUESTS"), 3),
        (429, {"Retry-After": "3000"}, (429, "TOOMANYREQUESTS"), 1),
        (503, {"Retry-After": "3000"}, (502, "UNAVAILABLE"), 1),
    ],
)
async def test_how_often_an_upstream_that_fails_is_asked(
    scene: Scene, status: int, headers: dict[str, str], answer: tuple[int, str], asked: int
) -> None:
    """Three times for one client before the first byte of a blob, and once when it names a time that is too far off."""
    scene.upstream.faults.on("GET", "/blobs/", times=None).status(status, headers=headers)
    found = await scene.pulls.ask(BLOB)
    assert (found.status, found.code) == answer
    assert found.headers["retry-after"] == headers.get("Retry-After", "10")
    assert scene.upstream.count("GET", "/blobs/") == asked
