"""What is asked of a mirror, how often, and how long an answer counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mirrord.events import Events
from mirrord.pointing import present as module
from mirrord.pointing.places import MirrorPlace
from mirrord.pointing.present import LASTS, AskedMirror
from mirrord.testing import Registry, build_image, push
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci.reference import Reference


class Asked:
    """A mirror with `a:v1`, and a clock that stands until it is moved."""

    def __init__(self, registry: Registry, http: Http) -> None:
        self.registry, self.now = registry, 100.0
        self.mirror = AskedMirror(http, clock=lambda: self.now)

    async def present(self, tag: str = "v1") -> bool | str:
        """Ask for a tag of `a`."""
        reference = Reference.parse(f"{self.registry.url.partition('://')[2]}/a:{tag}")
        return await self.mirror.present(MirrorPlace(reference, "t", None, listed=True))

    @property
    def heads(self) -> int:
        """How often the registry was asked."""
        return self.registry.count("HEAD", "/manifests/")


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    """A mirror that is asked."""
    async with Registry() as registry, Http(HostBook(), Events()) as http:
        await push(build_image(["linux/amd64"], layers=1, seed="a"), registry, "a", ["v1"])
        registry.forget()
        yield Asked(registry, http)


async def test_equal_questions_are_asked_once(asked: Asked) -> None:
    """One after another and at the same time, for what is there and for what is not."""
    assert await asyncio.gather(*(asked.present() for _ in range(50))) == [True] * 50
    assert [await asked.present("v2"), await asked.present("v2"), await asked.present()] == [False, False, True]
    assert asked.heads == 2


async def test_an_answer_counts_for_a_time_from_when_it_came(asked: Asked) -> None:
    """It is asked again when the time is over, which begins with the answer and not with the question."""
    held = asked.registry.faults.on("HEAD", "/manifests/").hold()
    question = asyncio.ensure_future(asked.present())
    await held.reached.wait()
    asked.now += 2 * LASTS
    other = asyncio.ensure_future(asked.present())
    await asyncio.sleep(0)
    held.release()
    assert (await question, await other, asked.heads) == (True, True, 1)
    asked.now += LASTS - 1
    assert (await asked.present(), asked.heads) == (True, 1)
    asked.now += 1
    assert (await asked.present(), asked.heads) == (True, 2)


async def test_what_is_not_known_is_asked_again(asked: Asked) -> None:
    """A mirror that refuses is no answer, and nothing of it is remembered; also when who asked first has gone."""
    refused = asked.registry.faults.on("*", "/manifests/", times=None).hold().status(403)
    first, second = (asyncio.ensure_future(asked.present()) for _ in range(2))
    await refused.reached.wait()
    first.cancel()
    refused.release()
    assert isinstance(await second, str)
    refused.times = refused.hits
    assert await asked.present() is True


async def test_the_oldest_answer_goes_first(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory is bounded."""
    monkeypatch.setattr(module, "MOST", 2)
    for tag in ("v1", "v2", "v3", "v3", "v2"):
        await asked.present(tag)
    assert asked.heads == 3
    assert await asked.present() is True
    assert asked.heads == 4


async def test_a_question_is_given_up_when_nobody_waits(asked: Asked) -> None:
    """One of two callers may go; with the last one goes the request, and what waits for its turn is never sent."""
    held = asked.registry.faults.on("HEAD", "/manifests/", times=None).hold()
    first, second = (asyncio.ensure_future(asked.present()) for _ in range(2))
    await held.reached.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    rest = [asyncio.ensure_future(asked.present(f"x{at}")) for at in range(200)]
    await asyncio.sleep(0)
    for one in (second, *rest):
        one.cancel()
    await asyncio.gather(second, *rest, return_exceptions=True)
    held.release()
    assert await asked.present("v2") is False
    assert await asked.present() is True
    assert asked.heads < 3 + module.AT_ONCE
    assert not [task for task in asyncio.all_tasks() if "AskedMirror" in repr(task)]
