"""Copy one two-platform image from one registry to three: mirrord beside crane, regsync and skopeo.

crane and skopeo are started three times at once, regsync once with a configuration of three targets. Real
docker-registry servers on an address of this machine, fresh targets for every run, the order alternates. Over plain
HTTP and over TLS, as in life; with nothing between, where all there is to measure is the processor, and with the source
behind a line for all who read from it. Every target is asked for the digest of its tag after each run. Requests and
bytes are what the registries' access logs say, for all tools the same.

    python -m bench.fanout [--size MIB] [--runs N] [--rate MB] [--only NAME...] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.certificates import Certificates, own_address
from bench.clients import Copying, tools
from bench.measure import Measured, Results, by_turns, machine, measure, medians, table
from bench.peers import present
from mirrord.testing.images import OCI_INDEX, build_image
from mirrord.testing.pushing import push
from mirrord.testing.servers import DockerRegistry, Hit
from tests.support.line import line

TARGETS = 3
LAYERS = 4  # of each platform
WAYS = ("plain", "tls", "plain-slow", "tls-slow")
REPOSITORY, TAG = "bench/app", "v1"
IMAGE = f"{REPOSITORY}:{TAG}"
VERIFY = "?verify"  # marks our own look at a target, which is nobody's request


@dataclass(frozen=True, slots=True)
class Way:
    """How registries are reached.

    Attributes:
        source: it holds the image.
        at: where clients reach it: the registry itself or a line to it.
        digest: of the image.
        certificates: for TLS, or None.
        folder: for files of a run.
    """

    source: DockerRegistry
    at: str
    digest: str
    certificates: Certificates | None
    folder: Path

    async def once(self, tool: str) -> Measured:
        """Copy to fresh registries with one tool; return what it took and what the registries saw."""
        async with AsyncExitStack() as stack:
            targets = [await stack.enter_async_context(registry(self.certificates)) for _ in range(TARGETS)]
            before = [len(one.hits()) for one in (self.source, *targets)]
            hosts = [target.host for target in targets]
            copying = Copying(self.at, IMAGE, hosts, self.certificates is not None, self.folder)
            env = {"SSL_CERT_FILE": str(self.certificates.ca)} if self.certificates else {}
            found = await measure(copying.commands(tool), env)
            await self._verify(targets)
            came = [one.hits()[start:] for one, start in zip((self.source, *targets), before, strict=True)]
            return found | counted(came[0], [hit for hits in came[1:] for hit in hits if VERIFY not in hit.path])

    async def _verify(self, targets: Iterable[DockerRegistry]) -> None:
        async with aiohttp.ClientSession(headers={"Accept": OCI_INDEX}) as session:
            for target in targets:
                url = f"{target.url}/v2/{REPOSITORY}/manifests/{TAG}{VERIFY}"
                async with session.head(url, ssl=False) as answer:
                    digest = answer.headers.get("Docker-Content-Digest")
                    assert digest == self.digest, f"{target.host}: {answer.status} {digest}"


def counted(source: Iterable[Hit], targets: Iterable[Hit]) -> Measured:
    """Return what the access logs say."""
    reads, writes = list(source), [hit.method for hit in targets]
    blobs = [hit for hit in reads if hit.method == "GET" and "/blobs/" in hit.path]
    return {
        "source: requests": len(reads),
        "source: blob GETs": len(blobs),
        "source: MB": sum(hit.sent for hit in reads if hit.method == "GET") / 1e6,
        "targets: requests": len(writes),
        **{f"targets: {method}": writes.count(method) for method in ("HEAD", "POST", "PATCH", "PUT")},
    }


def registry(certificates: Certificates | None, content: Path | None = None) -> DockerRegistry:
    """Return a registry that is not started yet."""
    if certificates is None:
        return DockerRegistry(access_log=True, folder=content)
    return DockerRegistry(access_log=True, folder=content, address=certificates.address, tls=certificates.server)


def fill(url: str, size: int) -> str:
    """Push the image, from a process of its own, and return its digest."""
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(_fill, url, size).result()


def _fill(folder: str, size: int) -> str:
    image = build_image(layers=LAYERS, layer_size=size * (1 << 20) // LAYERS // 2)

    async def work() -> None:
        async with DockerRegistry(folder=Path(folder)) as source:
            await push(image, source.url, REPOSITORY, [TAG])

    asyncio.run(work())
    return str(image.digest)


@contextlib.asynccontextmanager
async def opened(name: str, content: Path, digest: str, rate: float, folder: Path) -> AsyncIterator[Way]:
    """Start the source with what lies in `content`, and the line to it."""
    certificates = Certificates(folder, own_address()) if name.startswith("tls") else None
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(registry(certificates, content))
        at = await stack.enter_async_context(line(source.host, rate * 1e6)) if name.endswith("slow") else source.host
        yield Way(source, at, digest, certificates, folder)


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=248, help="MiB of the whole image (default 248)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each tool (default 5)")
    parser.add_argument("--rate", type=float, default=25, help="MB/s of the line to the source (default 25)")
    parser.add_argument("--only", nargs="+", choices=WAYS, default=WAYS, help="these ways alone")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    given = parser.parse_args()
    names, missing = tools()
    versions, _ = present(name for name in (*names, "docker-registry") if name != "mirrord")
    told = machine(versions)
    found: dict[str, Results] = {}
    with tempfile.TemporaryDirectory(prefix="fanout-") as folder:
        content = Path(folder) / "source"
        digest = await asyncio.to_thread(fill, str(content), given.size)
        if not given.json:
            print(told, *missing, f"{given.size} MiB, 1 -> {TARGETS}, medians of {given.runs}", sep="\n")
        for name in given.only:
            if name.startswith("tls") and not own_address():
                print(f"{name}: this machine has no address but loopback, where `mirrord copy` speaks no TLS")
                continue
            async with opened(name, content, digest, given.rate, Path(folder)) as way:
                found[name] = await by_turns(names, given.runs, way.once)
            if not given.json:
                behind = f", {given.rate:g} MB/s" if name.endswith("slow") else ""
                print(table(name.removesuffix("-slow") + behind, found[name]), flush=True)
    if given.json:
        print(json.dumps({"machine": told, "medians": {name: medians(one) for name, one in found.items()}}))


if __name__ == "__main__":
    asyncio.run(main())
