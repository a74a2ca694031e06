"""Copy one image to three registries of which one is behind a slow line: do the others wait for it?

Told is when both healthy targets had the tag, and when all had it, beside crane, regsync and skopeo; `alone` is the
same copy to the two healthy ones. Real docker-registry servers on loopback, fresh for every run.

    python -m bench.slow [--size MIB] [--runs N] [--rate MB] [--only TOOL...]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from bench.clients import Copying, tools
from bench.fanout import IMAGE, REPOSITORY, TAG, fill
from bench.measure import Measured, by_turns, machine, measure, table
from bench.peers import present
from mirrord.testing.images import OCI_INDEX
from mirrord.testing.servers import DockerRegistry
from tests.support.line import line

HEALTHY = 2
LOOK = 0.02  # seconds between two looks


async def seconds_until_there(target: DockerRegistry, digest: str) -> float:
    """Ask until a target has the tag, and return how long that took."""
    began, url = time.monotonic(), f"{target.url}/v2/{REPOSITORY}/manifests/{TAG}"
    async with aiohttp.ClientSession(headers={"Accept": OCI_INDEX}) as session:
        while True:
            async with session.head(url) as answer:
                if answer.headers.get("Docker-Content-Digest") == digest:
                    return time.monotonic() - began
            await asyncio.sleep(LOOK)


async def once(tool: str, source: str, digest: str, rate: float, folder: Path) -> Measured:
    """Copy with one tool, to the healthy targets and then to fresh ones and the slow one."""
    found: Measured = {}
    for name in ("alone", "healthy"):
        async with AsyncExitStack() as stack:
            targets = [await stack.enter_async_context(DockerRegistry()) for _ in range(HEALTHY)]
            hosts = [target.host for target in targets]
            looks = [asyncio.create_task(seconds_until_there(target, digest)) for target in targets]
            if name == "healthy":
                slow = await stack.enter_async_context(DockerRegistry())
                hosts.append(await stack.enter_async_context(line(slow.host, rate)))
                looks.append(asyncio.create_task(seconds_until_there(slow, digest)))
            took = await measure(Copying(source, IMAGE, hosts, tls=False, folder=folder).commands(tool))
            times = await asyncio.gather(*looks)
            found[f"{name}: s"] = max(times[:HEALTHY])
    return found | {"all: s": max(times), "all: CPU s": took["cpu"], "all: memory": took["memory"]}


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=40, help="MiB of the whole image (default 40)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each tool (default 5)")
    parser.add_argument("--rate", type=float, default=2, help="MB/s of the line to the slow target (default 2)")
    parser.add_argument("--only", nargs="+", help="tools to measure (default: all that are there)")
    given = parser.parse_args()
    here, missing = tools()
    names = [tool for tool in here if not given.only or tool in given.only]
    print(machine(present(name for name in names if name != "mirrord")[0]), *missing, sep="\n")
    with tempfile.TemporaryDirectory(prefix="slow-") as folder:
        content = Path(folder) / "source"
        digest = await asyncio.to_thread(fill, str(content), given.size)
        async with DockerRegistry(folder=content) as source:

            async def turn(tool: str) -> Measured:
                return await once(tool, source.host, digest, given.rate * 1e6, Path(folder))

            results = await by_turns(names, given.runs, turn)
    print(f"{given.size} MiB, 1 -> {HEALTHY} and one behind {given.rate:g} MB/s, medians of {given.runs}")
    print(table("", results))


if __name__ == "__main__":
    asyncio.run(main())
