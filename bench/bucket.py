"""Requests to S3 for each blob, and for a list of 100 tags with 300 blobs: `local` in a bucket beside docker-registry.

One versitygw on loopback, whose access log counts. docker-registry uses its s3 driver on the same server, and gets the
same pushes that mirrord's source got. Then each tool copies 100 images of a config and two layers from one registry,
and does it once more, with nothing new: mirrord to `local` in the bucket, and to `local` on the disk; mirrord, crane
and skopeo to docker-registry. CPU is that of the tool and of docker-registry together.

    python -m bench.bucket [--runs N] [--tags N] [--size BYTES]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from bench.daemon import running_daemon
from bench.measure import Child, Measured, by_turns, child, machine, measure, table
from bench.peers import find, present
from bench.registry import CONFIG, LAYER, MANIFEST, digest_of
from bench.usage import Watch
from mirrord.commands import Sync
from mirrord.model.run import Result
from mirrord.serve.remote import ControlClient
from mirrord.testing.servers import DockerRegistry
from tests.support.gateway import ACCESS, BUCKET, SECRET, gateway

BLOBS = {"10 kB": os.urandom(10_000), "20 MB": os.urandom(20_000_000)}
KINDS = {"Head": "HEAD", "Get": "GET", "List": "LIST", "Create": "POST", "Complete": "POST", "DeleteObjects": "POST"}
KINDS |= {"Delete": "DELETE", "Abort": "DELETE"}
"""Of the operations of S3; what writes is a PUT."""
METHODS = ("HEAD", "GET", "LIST", "PUT", "POST", "DELETE")
WAYS = ("mirrord", "mirrord, disk", "mirrord, push", "crane, push", "skopeo, push")
KEYS = {"BENCH_S3_ACCESS": ACCESS, "BENCH_S3_SECRET": SECRET}
Counts = dict[str, Counter[str]]


def new_prefix() -> str:
    """Return where nothing is yet."""
    return f"bench/{secrets.token_hex(4)}"


def registry(prefix: str, *, redirect: bool = False) -> DockerRegistry:
    """Return docker-registry over the bucket."""
    where = {"region": "us-east-1", "regionendpoint": gateway().endpoint, "secure": False, "v4auth": True}
    keys = {"accesskey": ACCESS, "secretkey": SECRET}
    s3 = {**where, **keys, "bucket": BUCKET, "rootdirectory": f"/{prefix}"}
    return DockerRegistry(storage={"s3": s3, "redirect": {"disable": not redirect}})


def configure(folder: Path, mirrors: str, *, prefix: str = "", redirect: bool = False, target: str = "") -> Path:
    """Write a configuration, with `local` in the bucket where there is a prefix."""
    (conf := folder / "conf.d").mkdir(exist_ok=True)
    blobs = (
        f", blobs: {{url: 's3://{BUCKET}/{prefix}', endpoint: '{gateway().endpoint}',"
        f" redirect: {str(redirect).lower()},"
        " access_key: {env: BENCH_S3_ACCESS}, secret_key: {env: BENCH_S3_SECRET}}"
    )
    (conf / "all.yaml").write_text(
        f"settings: {{listen: '127.0.0.1:0', log: {{format: json}}{blobs if prefix else ''}}}\n"
        f"targets: {{other: {{kind: image, to: '{target or '127.0.0.1:9'}/mirror'}}}}\nmirrors:\n{mirrors}"
    )
    return conf


async def sync(state: Path, name: str) -> None:
    """Run a mirror."""
    (run,) = await ControlClient(state).carry_out(Sync((name,)))
    assert run.result in (Result.SUCCESS, Result.NOOP), (run.error, run.counts)


class Counting:
    """Counts what is asked below a prefix since the last look, by what the keys stand for."""

    def __init__(self, prefix: str, names: Mapping[str, str] | None = None) -> None:
        """`names` say what keys are that hold one of these texts; without them all are one."""
        self._prefix, self._names, self._seen = prefix, names or {"": ""}, 0

    async def since(self) -> Counts:
        """Return how often each kind of request came."""
        operations = await gateway().operations(self._prefix)
        new, self._seen = operations[self._seen :], len(operations)
        found = Counts()
        for operation, path in new:
            name = next((name for text, name in self._names.items() if text in path), "others")
            kind = next((kind for word, kind in KINDS.items() if operation.startswith(word)), "PUT")
            found.setdefault(name, Counter())[kind] += 1
        return found


def manifest() -> bytes:
    """Return a manifest of both blobs."""
    config, *layers = ({"mediaType": LAYER, "digest": digest_of(data), "size": len(data)} for data in _content())
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {**config, "mediaType": CONFIG}, "layers": layers}
    return json.dumps(document).encode()


def _content() -> list[bytes]:
    return [b'{"architecture": "amd64", "os": "linux"}', *BLOBS.values()]


async def send_blob(session: aiohttp.ClientSession, base: str, data: bytes) -> None:
    """Push a blob as crane, docker and skopeo do, unless it is there."""
    async with session.head(f"{base}/blobs/{digest_of(data)}") as answer:
        if answer.status == 200:
            return
    async with session.post(f"{base}/blobs/uploads/") as answer:
        place = answer.headers["Location"]
    async with session.patch(place, data=data, headers={"Content-Type": "application/octet-stream"}) as answer:
        place = answer.headers["Location"]
    async with session.put(f"{place}&digest={digest_of(data)}") as answer:
        assert answer.status == 201, await answer.text()


async def send_manifest(session: aiohttp.ClientSession, base: str) -> None:
    """Push the manifest."""
    url, headers = f"{base}/manifests/v1", {"Content-Type": MANIFEST}
    async with session.put(url, data=manifest(), headers=headers) as answer:
        assert answer.status == 201, await answer.text()


async def pull(session: aiohttp.ClientSession, base: str) -> None:
    """Pull the blob of 10 kB, wherever the server sends us."""
    data = BLOBS["10 kB"]
    async with session.get(f"{base}/blobs/{digest_of(data)}") as answer:
        assert await answer.read() == data


async def of_mirrord(folder: Path) -> Counts:
    """Count what a daemon asks for an image of a config and two layers, and for pulls of a layer."""
    prefix, state, found = new_prefix(), folder / "state", Counts()
    names = {digest_of(data).partition(":")[2]: name for name, data in BLOBS.items()}
    names |= {digest_of(manifest()).partition(":")[2]: "manifest", "/repositories/": "names", "/removals": "removals"}
    counting = Counting(prefix, names)
    async with DockerRegistry() as source, aiohttp.ClientSession() as session:
        for repository in ("one", "two"):
            for data in _content():
                await send_blob(session, f"{source.url}/v2/{repository}", data)
            await send_manifest(session, f"{source.url}/v2/{repository}")
        mirrors = "".join(
            f"  - {{name: {name}, kind: image, from: {{repository: {source.host}/{name}, tags: ['*']}}, as: {name},"
            " to: [local]}\n"
            for name in ("one", "two")
        )
        for name, redirect in (("one", False), ("two", True)):  # two daemons, since each remembers what it saw
            conf = configure(folder, mirrors, prefix=prefix, redirect=redirect)
            async with running_daemon(conf, state) as (_, port):
                await counting.since()
                await sync(state, name)
                asked = await counting.since()
                for kind, blob in (("blob of 10 kB", "10 kB"), ("blob of 20 MB", "20 MB")):
                    found[f"{'there: ' if redirect else 'new: '}{kind}"] = asked.pop(blob, Counter())
                asked.pop("others")  # the config: as any small blob
                found[f"publish, {'content there' if redirect else 'first'}"] = sum(asked.values(), Counter[str]())
        for redirect in (False, True):
            async with running_daemon(configure(folder, mirrors, prefix=prefix, redirect=redirect), state) as (_, port):
                for times in ("first", "again"):
                    await counting.since()
                    await pull(session, f"http://127.0.0.1:{port}/v2/one")
                    asked = await counting.since()
                    way = "redirected" if redirect else "streamed"
                    found[f"pull, {way}, {times}"] = sum(asked.values(), Counter[str]())
    return found


async def of_docker_registry() -> Counts:
    """Count what docker-registry asks for the same pushes and pulls, each in a process that has seen nothing yet."""
    prefix, found = new_prefix(), Counts()
    counting = Counting(prefix)

    async def step(name: str) -> None:
        found[name] = (await counting.since()).get("", Counter())

    async with aiohttp.ClientSession() as session:
        for words in ("new: ", "there: "):
            async with registry(prefix) as server:
                base = f"{server.url}/v2/one"
                await counting.since()
                for name, data in BLOBS.items():
                    await send_blob(session, base, data)
                    await step(f"{words}blob of {name}")
                await send_blob(session, base, _content()[0])
                await counting.since()
                await send_manifest(session, base)
                await step("publish, first" if words == "new: " else "publish, content there")
        for redirect in (False, True):
            async with registry(prefix, redirect=redirect) as server:
                for times in ("first", "again"):
                    await counting.since()
                    await pull(session, f"{server.url}/v2/one")
                    await step(f"pull, {'redirected' if redirect else 'streamed'}, {times}")
    return found


class Copying:
    """Copies all tags of one repository, by one tool, and once more."""

    def __init__(self, source: Child, tags: int, size: int) -> None:
        """Fill the source."""
        self._source, self._tags = source, tags
        source.tell(f"fill {tags} 1 {size} 2")

    async def once(self, way: str) -> Measured:
        """Copy with nothing there, and again; return what each took."""
        tool, _, how = way.partition(", ")
        prefix, found = new_prefix(), Measured()
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bucket-")))
            server = await stack.enter_async_context(registry(prefix)) if how == "push" else None
            watch = Watch([server.pid] if server else [])
            pid = 0
            if tool == "mirrord":
                pid = await self._daemon(stack, folder, "" if how else prefix, server)
                watch = Watch([pid, *([server.pid] if server else [])])
            counting = Counting(prefix)
            for turn in ("cold", "warm"):
                await counting.since()
                began, cpu = time.monotonic(), 0.0
                if tool == "mirrord":
                    await sync(folder / "state", "app")
                elif server:
                    cpu = (await measure([self._command(tool, server.host)]))["cpu"]
                found[f"{turn}: s"] = time.monotonic() - began
                found[f"{turn}: CPU s"] = cpu + watch.cpu()
                asked = (await counting.since()).get("", Counter())
                found |= {f"{turn}: {method}": float(asked[method]) for method in METHODS[:5]}
            found["peak MiB of mirrord"] = Watch([pid]).memory() if pid else 0.0
        return found

    async def _daemon(self, stack: AsyncExitStack, folder: Path, prefix: str, server: DockerRegistry | None) -> int:
        target = "other" if server else "local"
        repository = f"{self._source.first}/bench/app0"
        mirror = f"  - {{name: app, kind: image, from: {{repository: {repository}, tags: ['*']}}, to: [{target}]}}\n"
        conf = configure(folder, mirror, prefix=prefix, target=server.host if server else "")
        pid, _ = await stack.enter_async_context(running_daemon(conf, folder / "state"))
        return pid

    def _command(self, tool: str, target: str) -> list[str]:
        source = f"{self._source.first}/bench/app0"
        if tool == "crane":
            return ["crane", "copy", "--all-tags", source, f"{target}/mirror/app0"]
        flags = ["--src=docker", "--dest=docker", "--src-tls-verify=false", "--dest-tls-verify=false"]
        return ["skopeo", "--insecure-policy", "sync", *flags, source, f"{target}/mirror"]


def counts(found: Mapping[str, Counts]) -> str:
    """Return what each asked, step by step."""
    lines = [f"{'requests to S3':30}" + "".join(f"{who:>40}" for who in found)]
    for step in next(iter(found.values())):
        each = (each[step] for each in found.values())
        told = (", ".join(f"{one[method]} {method}" for method in METHODS if one[method]) or "none" for one in each)
        lines.append(f"{step:30}" + "".join(f"{text:>40}" for text in told))
    return "\n".join(lines)


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="turns of each tool (default 3)")
    parser.add_argument("--tags", type=int, default=100, help="images, of three blobs each (default 100)")
    parser.add_argument("--size", type=int, default=10_000, help="bytes of a layer (default 10000)")
    given = parser.parse_args()
    os.environ |= KEYS
    missing = {name: find(name)[1] for name in ("docker-registry", "crane", "skopeo")}
    print(
        machine(present(name for name, why in missing.items() if not why)[0]), *filter(None, missing.values()), sep="\n"
    )
    ways = [
        way for way in WAYS if not (missing["docker-registry"] and "push" in way) and not missing.get(way.split(",")[0])
    ]
    with tempfile.TemporaryDirectory(prefix="bucket-") as folder:
        found = {"mirrord": await of_mirrord(Path(folder))}
    if not missing["docker-registry"]:
        found["docker-registry"] = await of_docker_registry()
    print(counts(found))
    with child("bench.registry", "--delay", 0) as source:
        copying = Copying(source, given.tags, given.size)
        results = await by_turns(ways, given.runs, copying.once)
    print(table(f"{given.tags} tags", results))


if __name__ == "__main__":
    asyncio.run(main())
