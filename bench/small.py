"""Copy many small images from one registry to three, each a round trip of 20 ms away, beside crane and regsync.

An image is one layer, a config and a manifest, each its own tag of one repository: what counts are the requests. The
tools take turns and begin with empty targets each time; `again` is the same command once more, when nothing is to do.
What every tool asked for is counted by the registries (`bench/registry.py`), and that all tags are there. crane and
skopeo copy to one target, so three of them run at once. `skopeo sync` asks one thing after the other and takes many
times as long as the others: it is measured when it is named. With `--signed` each image has a signature, as cosign
makes them, and mirrord is measured once more with `signatures.require`.

    python -m bench.small [--images N] [--runs N] [--delay MS] [--parallel N] [--only TOOL...] [--requests]
                          [--platforms PLATFORM...] [--signed]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from bench.clients import tools
from bench.measure import OURS, Child, Measured, by_turns, child, machine, measure, table
from bench.peers import present
from mirrord.testing.pushing import push
from tests.support.cosigning import new_key, pem_of, simple_by

TARGETS = 3
REPOSITORY = "bench/app0"
SIZE = 2048  # bytes of a layer
KEY = new_key()
REQUIRING = f"{OURS}, require"
SYNC = ["skopeo", "sync", "--all", "--src=docker", "--dest=docker", "--src-tls-verify=false", "--dest-tls-verify=false"]


def commands(
    tool: str, hosts: Sequence[str], parallel: int, folder: Path, platforms: Sequence[str] = ()
) -> list[list[str]]:
    """Return what has to run, all at once; `folder` stays for the second time, `platforms` are for mirrord alone."""
    source, *targets = (f"{host}/{REPOSITORY}" for host in hosts)
    if tool == "crane":
        jobs = ["-j", str(parallel)] if parallel else []
        return [["crane", "copy", "--insecure", "-a", *jobs, source, target] for target in targets]
    if tool == "skopeo":
        return [[*SYNC, "--insecure-policy", source, target.rpartition("/")[0]] for target in targets]
    file = folder / f"{tool.partition(',')[0]}.yaml"
    if tool == "regsync":
        config = {
            "version": 1,
            "creds": [{"registry": host, "tls": "disabled"} for host in hosts],
            "defaults": {"parallel": parallel or 4},
            "sync": [{"source": source, "target": target, "type": "repository"} for target in targets],
        }
        argv = ["regsync", "once", "-c", str(file)]
    else:
        places = {f"t{number}": {"kind": "image", "to": f"{host}/bench"} for number, host in enumerate(hosts[1:])}
        mirror = {"name": "app0", "kind": "image", "from": {"repository": source, "tags": ["*"]}, "to": list(places)}
        more: dict[str, object] = {"platforms": [*platforms]} if platforms else {}
        if tool == REQUIRING:
            (folder / "release.pub").write_bytes(pem_of(KEY))
            more["signatures"] = {"require": {"key": str(folder / "release.pub")}}
        config = {"targets": places, "mirrors": [mirror | more]}
        argv = [sys.executable, "-m", "mirrord", "sync", "--config", str(folder), "--state", str(folder / "state")]
    file.write_text(json.dumps(config))  # JSON is YAML
    return [argv]


@dataclass
class Bench:
    """Registries and what is copied; `hits` are the requests of each tool's last copy, by registry."""

    registries: Child
    images: int
    parallel: int
    platforms: Sequence[str] = ()
    hits: dict[str, list[Counter[str]]] = field(default_factory=dict)

    async def once(self, tool: str) -> Measured:
        """Copy everything to empty targets with one tool, then once more."""
        self.registries.tell("clear")
        with tempfile.TemporaryDirectory() as folder:
            argvs = commands(tool, self.registries.first.split(), self.parallel, Path(folder), self.platforms)
            first = await self._timed("first", argvs)
            self.hits[tool] = self._hits
            put = [sum(target[f"PUT manifests by {by}"] for by in ("tag", "digest")) for target in self._hits[1:]]
            assert min(put) >= self.images, put
            return first | await self._timed("again", argvs)

    async def _timed(self, name: str, argvs: Sequence[Sequence[str]]) -> Measured:
        found = await measure(argvs)
        self._hits = [Counter(hits) for hits in json.loads(self.registries.tell("hits"))]
        found["source requests"] = self._hits[0].total()
        found["target requests"] = sum(one.total() for one in self._hits[1:])
        found["CPU ms a request"] = 1000 * found["cpu"] / (found["source requests"] + found["target requests"])
        return {f"{name}: {key}": value for key, value in found.items()}


async def sign(host: str, images: int) -> None:
    """Push a signature of each image, under the tag that cosign gives it."""
    async with aiohttp.ClientSession(f"http://{host}") as session:
        for number in range(images):
            async with session.head(f"/v2/{REPOSITORY}/manifests/v{number}") as answer:
                digest = answer.headers["Docker-Content-Digest"]
            await push(simple_by(digest, KEY), f"http://{host}", REPOSITORY, [f"{digest.replace(':', '-')}.sig"])


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500, help="how many (default 500)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each tool (default 5)")
    parser.add_argument("--delay", type=float, default=20, help="milliseconds of a round trip (default 20)")
    parser.add_argument("--parallel", type=int, default=0, help="images at once of the peers (default: as they come)")
    parser.add_argument("--only", nargs="+", help="tools to measure (default: all but skopeo)")
    parser.add_argument("--requests", action="store_true", help="tell the requests of the source and of one target")
    parser.add_argument("--platforms", nargs="+", default=(), help="what mirrord chooses (default: no choice)")
    parser.add_argument("--signed", action="store_true", help="let each image be signed, and require that, too")
    given = parser.parse_args()
    here, missing = tools()
    names = [tool for tool in here if (tool in given.only if given.only else tool != "skopeo")]
    versions, _ = present(name for name in names if name != OURS)
    names += [REQUIRING] if given.signed else []
    print(machine(versions), *missing, sep="\n")
    with child("bench.registry", "--count", TARGETS + 1, "--delay", given.delay / 1000) as registries:
        registries.tell(f"fill {given.images} 1 {SIZE}")
        if given.signed:
            await sign(registries.first.split()[0], given.images)
        bench = Bench(registries, given.images, given.parallel, given.platforms)
        results = await by_turns(names, given.runs, bench.once)
    print(f"{given.images} small images, 1 -> {TARGETS}, {given.delay:g} ms, medians of {given.runs}")
    print(table("", results))
    if given.requests:
        for tool, (source, target, *_) in bench.hits.items():
            print(f"\n{tool}\n  source {dict(source)}\n  target {dict(target)}")


if __name__ == "__main__":
    asyncio.run(main())
