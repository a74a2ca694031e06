"""Limits of clients at the front over a real registry: what is refused, what is not, and what upstream sees of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mirrord.testing import build_image, push
from mirrord.testing.servers import DockerRegistry
from tests.support.judges import judged
from tests.support.pulling import UPSTREAM, Pulls, pulling

IMAGE = build_image(["linux/amd64", "linux/arm64"], shared_layers=1)
OTHER = build_image(["linux/amd64"])


async def status(pulls: Pulls, name: str) -> int:
    """Return the status of an answer with the manifest `v1` of a repository."""
    return (await pulls.ask(f"{UPSTREAM}/{name}/manifests/v1")).status


async def test_a_pull_beyond_the_minute_gets_429_with_reason_and_time(tmp_path: Path) -> None:
    """The answer is the specification's, HEAD has its headers, upstream is not asked, and the time is true."""
    async with DockerRegistry(access_log=True) as upstream:
        for name in ("one", "two", "three"):
            await push(OTHER, upstream.url, name, ["v1"])
        async with pulling(tmp_path, upstream.host, limits={"pulls_a_minute": 2}) as pulls:
            assert await status(pulls, "one") == 200
            pulls.now += 20.0
            assert await status(pulls, "two") == 200
            before = upstream.hits()

            refused = await pulls.ask(f"{UPSTREAM}/three/manifests/v1")
            head = await pulls.ask(f"{UPSTREAM}/three/manifests/v1", "HEAD")
            blob = await pulls.ask(f"{UPSTREAM}/three/blobs/{next(iter(OTHER.blobs))}")

            assert [one.status for one in (refused, head, blob)] == [429, 429, 429]
            assert refused.code == "TOOMANYREQUESTS"
            assert refused.message == "2 pulls a minute are allowed for each client; 127.0.0.1 may ask again in 40 s"
            assert refused.headers["retry-after"] == head.headers["retry-after"] == "40"
            assert refused.headers["content-type"] == head.headers["content-type"] == "application/json"
            assert upstream.hits() == before
            pulls.now += 40.0
            assert await status(pulls, "three") == 200


async def test_real_clients_pull_a_whole_image_as_one_pull(tmp_path: Path) -> None:
    """Skopeo copies two platforms where one pull a minute, one at once and 1 MiB are allowed; then nothing is."""
    limits = {"pulls": 1, "pulls_a_minute": 1, "bytes": {"amount": "1MiB", "each": "1h"}}
    big = build_image(["linux/amd64", "linux/arm64"], layer_size=2 << 20)
    async with DockerRegistry(access_log=True) as upstream:
        await push(big, upstream.url, "team/app", ["v1"])
        await push(OTHER, upstream.url, "other", ["v1"])
        async with pulling(tmp_path / "front", upstream.host, limits=limits) as pulls:
            reference = f"{pulls.host}/{UPSTREAM}/team/app:v1"
            assert await judged("skopeo", reference, tmp_path / "one") == big.digest
            pulls.now += 59.0
            assert (
                await judged("skopeo", f"{reference.removesuffix(':v1')}@{big.digest}", tmp_path / "two") == big.digest
            )
            pulls.now += 6.0
            answer = await pulls.ask(f"{UPSTREAM}/other/manifests/v1")
            assert answer.status == 429
            assert answer.message.startswith("1MiB in 1h are allowed for each client; 127.0.0.1 may ask again in 3")
            pulls.configure(limits={"pulls_a_minute": 1})
            assert await status(pulls, "other") == 200


async def test_machines_behind_one_address_that_pull_one_image_are_one_pull(tmp_path: Path) -> None:
    """The same tag, its children and its blobs, asked for again and again and three at a time."""
    async with DockerRegistry(access_log=True) as upstream:
        await push(IMAGE, upstream.url, "team/app", ["v1"])
        async with pulling(tmp_path, upstream.host, limits={"pulls": 1, "pulls_a_minute": 1}) as pulls:
            paths = ["manifests/v1", *(f"manifests/{one}" for one in IMAGE.manifests)]
            paths += [f"blobs/{one}" for one in IMAGE.blobs]
            for path in paths * 5:
                answers = await asyncio.gather(*(pulls.ask(f"{UPSTREAM}/team/app/{path}") for _ in range(3)))
                assert {answer.status for answer in answers} == {200}


async def test_exempt_clients_are_not_limited(tmp_path: Path) -> None:
    """A reload that exempts a network holds for the next request."""
    async with DockerRegistry(access_log=True) as upstream:
        for number in range(4):
            await push(OTHER, upstream.url, f"app{number}", ["v1"])
        async with pulling(tmp_path, upstream.host, limits={"pulls_a_minute": 1}) as pulls:
            assert await status(pulls, "app0") == 200
            assert await status(pulls, "app1") == 429
            pulls.configure(limits={"pulls_a_minute": 1, "exempt": ["127.0.0.0/8"]})
            for number in range(4):
                assert await status(pulls, f"app{number}") == 200


@pytest.mark.parametrize("name", ["team/app", "nothing"])
async def test_what_does_not_exist_counts_as_it_costs(tmp_path: Path, name: str) -> None:
    """Guessing tags and names of repositories is limited like pulling."""
    async with (
        DockerRegistry(access_log=True) as upstream,
        pulling(tmp_path, upstream.host, limits={"pulls_a_minute": 1}) as pulls,
    ):
        await push(OTHER, upstream.url, "team/app", ["v1"])
        missing = [(await pulls.ask(f"{UPSTREAM}/{name}/manifests/{tag}")).status for tag in ("v2", "v3")]
        assert missing == [404, 429]
