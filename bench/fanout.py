"""Copy one two-platform image from one registry to three: mirrord beside `skopeo copy --all` three times in parallel.

Real docker-registry servers on loopback, fresh targets for every run, the order alternates. Once with the source
behind a line of 25 MB/s, as in life, and once with nothing between: then all there is to measure is the processor.
Prints medians and ratios (mirrord / skopeo): wall, CPU of the clients, peak memory, source bytes.

    python -m bench.fanout [--size MIB] [--runs N] [--rate MB] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack

from mirrord.testing.images import build_image
from mirrord.testing.pushing import push
from mirrord.testing.servers import DockerRegistry
from tests.support.line import line

TARGETS = 3
LAYERS = 4  # of each platform


def run(argv: list[str]) -> tuple[int, int, resource.struct_rusage]:
    """Run a command to its end; return process id, status and usage."""
    return os.wait4(os.posix_spawnp(argv[0], argv, os.environ, file_actions=SILENT), 0)


async def measure(commands: list[list[str]]) -> dict[str, float]:
    """Run commands at once; return wall seconds, CPU seconds and the sum of their peak memory in MiB."""
    began = time.perf_counter()
    ends = await asyncio.gather(*(asyncio.to_thread(run, argv) for argv in commands))
    wall = time.perf_counter() - began
    assert all(status == 0 for _, status, _ in ends), [status for _, status, _ in ends]
    cpu = sum(usage.ru_utime + usage.ru_stime for _, _, usage in ends)
    return {"wall": wall, "cpu": cpu, "memory": sum(usage.ru_maxrss for _, _, usage in ends) / 1024}


SILENT = [
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
]


async def once(tool: str, source: DockerRegistry, way: str) -> dict[str, float]:
    """Copy to three fresh registries with one tool; `way` is where the source is reached."""
    async with AsyncExitStack() as stack:
        targets = [await stack.enter_async_context(DockerRegistry()) for _ in range(TARGETS)]
        before = len(source.hits())
        names = [f"{target.host}/bench/app:v1" for target in targets]
        if tool == "mirrord":
            commands = [[sys.executable, "-m", "mirrord", "copy", f"{way}/bench/app:v1", *names]]
        else:
            flags = ["--all", "--src-tls-verify=false", "--dest-tls-verify=false", "--insecure-policy"]
            commands = [
                ["skopeo", "copy", *flags, f"docker://{way}/bench/app:v1", f"docker://{name}"] for name in names
            ]
        found = await measure(commands)
        hits = source.hits()[before:]
        found["requests"] = len(hits)
        found["blob GETs"] = sum(hit.method == "GET" and "/blobs/" in hit.path for hit in hits)
        return found


def fill(url: str, size: int) -> int:
    """Push the image from a process of its own: a child's peak memory begins with that of its parent."""
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(_fill, url, size).result()


def _fill(url: str, size: int) -> int:
    image = build_image(layers=LAYERS, layer_size=size * (1 << 20) // LAYERS // 2)
    asyncio.run(push(image, url, "bench/app", ["v1"]))
    return len(image.blobs)


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=248, help="MiB of the whole image (default 248)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each tool (default 3)")
    parser.add_argument("--rate", type=float, default=25, help="MB/s of the line to the source (default 25)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    given = parser.parse_args()
    assert shutil.which("skopeo"), "skopeo is not installed"
    async with DockerRegistry(access_log=True) as source, line(source.host, given.rate * 1e6) as slow:
        blobs = await asyncio.to_thread(fill, source.url, given.size)
        ways = {f"source behind {given.rate:g} MB/s": slow, "nothing between": source.host}
        found = {name: await compare(source, way, given.runs, blobs) for name, way in ways.items()}
    if given.json:
        print(json.dumps(found))
        return
    print(f"{given.size} MiB, {blobs} blobs, 1 -> {TARGETS}, medians of {given.runs}")
    for name, one in found.items():
        print(f"\n{name:22}{'mirrord':>10}{'3 x skopeo':>12}{'ratio':>8}")
        for key, ratio in one["ratios"].items():
            print(f"{key:22}{one['mirrord'][key]:>10.2f}{one['skopeo'][key]:>12.2f}{ratio:>8.2f}")
        print(f"every blob left the source {one['reads']['per blob']:.2f} times with mirrord")


async def compare(source: DockerRegistry, way: str, runs: int, blobs: int) -> dict[str, dict[str, float]]:
    """Let the tools take turns; return medians, ratios and how often a blob was read."""
    results: dict[str, list[dict[str, float]]] = {"mirrord": [], "skopeo": []}
    for number in range(runs):
        for tool in sorted(results, reverse=number % 2 == 1):
            results[tool].append(await once(tool, source, way))
    found = {
        tool: {key: statistics.median(run[key] for run in made) for key in made[0]} for tool, made in results.items()
    }
    found["ratios"] = {key: found["mirrord"][key] / found["skopeo"][key] for key in found["mirrord"]}
    found["reads"] = {"per blob": found["mirrord"]["blob GETs"] / blobs}
    return found


if __name__ == "__main__":
    asyncio.run(main())
