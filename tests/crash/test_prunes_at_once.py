"""Prunes of one mirror by several processes at once: one after the other, and nothing is deleted twice or wrongly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from tests.support.commands import Desk, Said
from tests.support.walking import walk

TAGS = {f"v{number}": build_image(["linux/amd64"], seed=f"{number}", layer_size=500) for number in range(8)}
GONE = ("v0", "v1", "v2")
LEFT = {tag: str(image.digest) for tag, image in TAGS.items() if tag not in GONE}


@asynccontextmanager
async def waiting(desk: Desk, program: str) -> AsyncIterator[DockerRegistry]:
    """A mirror whose source lost some tags, as a first prune has noted."""
    require(program)
    async with Registry() as source, DockerRegistry(access_log=True, program=program) as target:
        for tag, image in TAGS.items():
            await push(image, source, "up/app", [tag])
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\n"
            f"targets: {{one: {{kind: image, to: {target.host}/m}}}}\n"
            f"mirrors: [{{name: app, kind: image, from: {{repository: {source.host}/up/app, tags: ['*']}}, "
            "to: [one, local], prune: {after: 0s}}]\n"
        )
        assert (await desk.run("sync")).status == 0
        for tag in GONE:
            del source.content.tags["up/app"][tag]
        assert (await desk.run("prune", "app")).status == 0
        yield target


async def ended(desk: Desk, target: DockerRegistry, said: list[Said]) -> None:
    """All of it is done, each deletion once, and nothing else."""
    assert 0 in {one.status for one in said}, said
    assert await walk(target, "m/app") == LEFT
    deleted = [hit.path for hit in target.hits() if hit.method == "DELETE" and hit.status == 202]
    assert len(deleted) == len(set(deleted)) == len(GONE)
    again = await desk.run("prune", "app", "--apply")
    assert (again.status, await walk(target, "m/app")) == (0, LEFT), again
    assert (await desk.run("sync", "--json")).document["runs"][0]["result"] == "noop"


@pytest.mark.parametrize("program", ["docker-registry", "registry3"])
async def test_two_commands(desk: Desk, program: str) -> None:
    """One does it; the other one waits for nothing, and says that the state is in use."""
    async with waiting(desk, program) as target:
        said = await asyncio.gather(*(desk.run("prune", "app", "--apply") for _ in range(2)))
        assert {one.status for one in said} <= {0, 75}, said
        await ended(desk, target, said)


@pytest.mark.parametrize("program", ["docker-registry", "registry3"])
async def test_beside_a_daemon(desk: Desk, program: str) -> None:
    """The daemon prunes for both commands, one after the other, and syncs besides; the second one finds nothing."""
    async with waiting(desk, program) as target, desk.serving():
        *said, synced = await asyncio.gather(
            *(desk.run("prune", "app", "--apply") for _ in range(2)), desk.run("sync", "app")
        )
        assert [one.status for one in (*said, synced)] == [0, 0, 0], (said, synced)
        await ended(desk, target, said)
