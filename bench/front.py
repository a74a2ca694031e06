"""Pull through mirrord's front, beside docker-registry 2.8 and 3 as caches and nginx with `proxy_cache`.

All have the same upstream, on loopback, and an empty cache at the begin of each measurement; they take turns.

- cold: one layer by 1 and by 20 clients at once, from an upstream of 25 MB/s for all. Told is how long after upstream's
  first byte the first and the last client had theirs, when all had the whole layer, and what upstream sent.
- warm: the layer by 1, 8 and 64 clients, again and again; manifests by tag and by digest.
- many: memory with 500 clients that ask for a manifest and stay, and with 200 that pull one layer at once, cold and
  warm, while a probe is asked 20 times a second; upstream is as fast as it can be.

The clients run in a process of their own, and what they get is thrown away in the kernel.

    python -m bench.front [--only NAME…] [--size MB] [--rate MB] [--runs N] [--seconds S] [--active N] [--beside NAME…]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import re
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.caches import CACHES, Cache
from bench.measure import OURS, Child, Measured, Results, by_turns, child, machine, medians, table
from bench.peers import present
from mirrord.testing.images import OCI_MANIFEST
from mirrord.testing.running import run
from tests.support.crowd import Address, Client, crowd, request, troubles
from tests.support.lifesigns import Watched
from tests.support.processes import cpu_of, peak_of

PATIENCE: Final = 600.0  # seconds for a crowd
IDLE: Final = 500
ACCEPT: Final = f"Accept: {OCI_MANIFEST}"


class Bench:
    """The upstream, the clients, and what is to be measured with one cache."""

    def __init__(self, upstream: Child, given: argparse.Namespace, pool: ProcessPoolExecutor) -> None:
        """Measure with what was given on the command line."""
        self.upstream, self.given, self._pool = upstream, given, pool
        self.size = given.size * 1_000_000

    def image(self) -> dict[str, str]:
        """Let there be a new image at upstream; forget what was seen."""
        made: dict[str, str] = json.loads(self.upstream.tell(f"image {self.size}"))
        self.seen()
        return made

    def seen(self) -> dict[str, Any]:
        """Return what upstream was asked since the last time."""
        found: dict[str, Any] = json.loads(self.upstream.tell("seen"))
        return found

    @contextlib.asynccontextmanager
    async def opened(self, name: str) -> AsyncIterator[Cache]:
        """Start a cache that is empty."""
        with tempfile.TemporaryDirectory(prefix="front-") as folder:
            async with CACHES[name](self.upstream.first, Path(folder)) as cache:
                yield cache

    async def pulled(self, cache: Cache, image: dict[str, str], many: int) -> Sequence[Client]:
        """Let so many clients ask for the layer at once; all have to get the whole of it."""
        manifest = f"{cache.url}{cache.path}/manifests/{image['tag']}"
        asked = await run("curl", "-sf", "-H", ACCEPT, manifest)
        assert image["layer"] in asked.output, asked.output
        return await self.crowd(cache, [Client(request(f"{cache.path}/blobs/{image['layer']}")) for _ in range(many)])

    async def crowd(self, cache: Cache, clients: Sequence[Client], seconds: float = 0.0) -> Sequence[Client]:
        """Let clients loose, once or for some seconds; none may fail."""
        loop, work = asyncio.get_running_loop(), partial(rounds, seconds=seconds)
        found = await loop.run_in_executor(self._pool, work, cache.server.address, clients)
        assert not troubles(found), f"{cache.url}: {troubles(found)}"
        assert {client.size for client in found} == {self.size}, cache.url
        return found

    async def cold(self, name: str, many: int) -> Measured:
        """Pull what nobody has pulled before."""
        async with self.opened(name) as cache:
            image, before = self.image(), cpu_of(cache.server.pid)
            began = time.monotonic()
            clients = await self.pulled(cache, image, many)
            took, seen = time.monotonic() - began, self.seen()
            late = [1000 * (client.first - seen["first"]) for client in clients]
            return {
                "first byte, ms: first": min(late),
                "first byte, ms: last": max(late),
                "all have it: s": took,
                "upstream: GETs of it": seen["requests"].count("GET blobs"),
                "upstream: bytes, x": seen["sent"] / self.size,
                "CPU: s": cpu_of(cache.server.pid) - before,
                "memory: MiB": peak_of(cache.server.pid),
            }

    @contextlib.asynccontextmanager
    async def warm(self, name: str) -> AsyncIterator[tuple[Cache, dict[str, str]]]:
        """Start a cache and let it have an image: what it sends then comes from it."""
        async with self.opened(name) as cache:
            image = self.image()
            async with asyncio.timeout(PATIENCE):
                sent = -1
                while sent:  # docker-registry reads a layer once more to keep it, after it was pulled
                    await self.pulled(cache, image, 1)
                    await asyncio.sleep(0.5)
                    sent = self.seen()["sent"]
            yield cache, image

    async def layers(self, name: str) -> Measured:
        """Pull a layer that is cached, again and again."""
        found: Measured = {}
        async with self.warm(name) as (cache, image):
            for many in (1, 8, 64):
                asking = [Client(request(f"{cache.path}/blobs/{image['layer']}")) for _ in range(many)]
                before, began = cpu_of(cache.server.pid), time.monotonic()
                clients = await self.crowd(cache, asking, self.given.seconds)
                took, used = time.monotonic() - began, cpu_of(cache.server.pid) - before
                sent = sum(client.size for client in clients) / 1e9
                found |= {f"{many}: GB/s": sent / took, f"{many}: CPU s for a GB": used / sent}
            return found | {"upstream: bytes": self.seen()["sent"], "memory: MiB": peak_of(cache.server.pid)}

    async def manifests(self, name: str) -> Measured:
        """Ask for a manifest that is cached, again and again."""
        found: Measured = {}
        async with self.warm(name) as (cache, image):
            for kind in ("tag", "digest"):
                url = f"{cache.url}{cache.path}/manifests/{image[kind]}"
                command = ("ab", "-q", "-k", "-c", "8", "-t", str(self.given.seconds), "-n", "100000000", "-H", ACCEPT)
                before = cpu_of(cache.server.pid)
                done = await run(*command, url, seconds=PATIENCE)
                used = max(cpu_of(cache.server.pid) - before, 0.01)
                count = re.search(r"Complete requests: +(\d+)", done.output)
                rate = re.search(r"Requests per second: +([\d.]+)", done.output)
                assert count is not None, done.output
                assert rate is not None, done.output
                assert "Non-2xx" not in done.output, done.output
                found |= {f"by {kind}: 1/s": float(rate[1]), f"by {kind}: 1/s of CPU": int(count[1]) / used}
                found[f"by {kind}: upstream's share"] = len(self.seen()["requests"]) / int(count[1])
            return found

    async def idle(self, name: str) -> Measured:
        """Let clients ask for a manifest and stay."""
        async with self.warm(name) as (cache, image), contextlib.AsyncExitStack() as stack:
            lines = (f"GET {cache.path}/manifests/{image['tag']} HTTP/1.1", "Host: h", ACCEPT, "", "")
            pid, before = cache.server.pid, memory_of(cache.server.pid)
            for _ in range(IDLE):
                reader, writer = await asyncio.open_connection(*cache.server.address)
                stack.callback(writer.close)
                writer.write("\r\n".join(lines).encode())
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            return {"before: MiB": before, f"with {IDLE}: MiB": memory_of(pid), "grown: MiB": memory_of(pid) - before}

    async def active(self, name: str, *, cold: bool) -> Measured:
        """Let many clients pull one layer at once, and ask meanwhile whether the server lives."""
        async with self.opened(name) if cold else self.warm(name) as opened:
            cache, image = (opened, self.image()) if isinstance(opened, Cache) else opened

            async def work(found: Watched) -> None:
                found.clients = await self.pulled(cache, image, self.given.active)

            found = await cache.server.watched(work)
            assert not found.failed, found.failed
            probes = sorted(found.probes)
            return {
                "probe, s: p50": probes[len(probes) // 2],
                "probe, s: p99": probes[min(len(probes) - 1, len(probes) * 99 // 100)],
                "probe, s: max": probes[-1],
                "all have it: s": found.seconds,
                "CPU: s": found.cpu,
                "memory: MiB": found.memory,
                "upstream: bytes, x": self.seen()["sent"] / self.size,
            }


def rounds(address: Address, clients: Sequence[Client], seconds: float) -> Sequence[Client]:
    """Let the same crowd come again and again, but at least once."""
    ended: list[Client] = []
    until = time.monotonic() + seconds
    while not ended or time.monotonic() < until:
        ended += crowd(address, [Client(client.request) for client in clients], PATIENCE)
    return ended


def memory_of(pid: int) -> float:
    """Return the memory that a process has now, in MiB."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) / 1024


async def measured(given: argparse.Namespace, pool: ProcessPoolExecutor) -> None:
    """Measure and print."""
    with child("bench.upstream", "--rate", given.rate) as slow, child("bench.upstream", "--rate", 0) as fast:
        line, free = Bench(slow, given, pool), Bench(fast, given, pool)
        plan: list[tuple[str, Callable[[str], Any]]] = [
            ("cold, 1 client", partial(line.cold, many=1)),
            ("cold, 20 clients", partial(line.cold, many=20)),
            ("warm layers", free.layers),
            ("manifests", free.manifests),
            ("idle clients", free.idle),
            (f"{given.active} active, warm", partial(free.active, cold=False)),
            (f"{given.active} active, cold", partial(free.active, cold=True)),
        ]
        results: dict[str, Results] = {}
        for title, once in plan:
            if not given.only or title.startswith(tuple(given.only)):
                results[title] = await by_turns([OURS, *given.beside], given.runs, once)
                print(table(title, results[title]), flush=True)
        if (one := results.get("cold, 1 client")) and (twenty := results.get("cold, 20 clients")):
            first, last = medians(one), medians(twenty)
            shares = {name: last[name]["all have it: s"] / first[name]["all have it: s"] for name in first}
            print("\n20 clients by 1: " + ", ".join(f"{name} {share:.2f}" for name, share in shares.items()))


def main() -> None:
    """Read the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peers = [name for name in CACHES if name != OURS]
    parser.add_argument("--only", nargs="+", help="measurements whose names begin so")
    parser.add_argument("--size", type=int, default=250, help="MB of the layer (default 250)")
    parser.add_argument("--rate", type=float, default=25, help="MB/s of the upstream where it counts (default 25)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--seconds", type=int, choices=range(1, 61), metavar="S", default=5, help="of each (default 5)")
    parser.add_argument("--active", type=int, default=200, help="clients at once (default 200)")
    parser.add_argument("--beside", nargs="*", choices=peers, default=peers, help="these caches alone")
    given = parser.parse_args()
    versions, missing = present(given.beside)
    given.beside = [name for name in given.beside if name in versions]
    print(machine(versions), *missing, f"{given.size} MB, medians of {given.runs}", sep="\n", flush=True)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        asyncio.run(measured(given, pool))


if __name__ == "__main__":
    main()
