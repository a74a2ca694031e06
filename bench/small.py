"""Copy many small images from one registry to three, each a round trip of 20 ms away, beside crane and regsync.

An image is one layer, a config and a manifest, each its own tag of one repository: what counts are the requests. The
tools take turns and begin with empty targets each time. What every tool asked for is counted by the registries
(`bench/registry.py`). crane copies to one target, so three of them run at once.

    python -m bench.small [--images N] [--runs N] [--delay MS] [--parallel N] [--only TOOL...] [--requests]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

TARGETS = 3
REPOSITORY = "bench/app0"
SIZE = 2048  # bytes of a layer

MIRRORD = """
targets:
{targets}
mirrors:
  - {{name: app0, kind: image, from: {{repository: {source}, tags: ["*"]}}, to: [{names}]}}
"""
REGSYNC = """
version: 1
creds:
{creds}
defaults: {{parallel: {parallel}}}
sync:
{syncs}
"""


class Registries:
    """The source, first, and the targets, in a process of their own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Read where they are."""
        self._process = process
        self.hosts = self._line().split()

    def tell(self, line: str) -> list[Counter[str]]:
        """Have something done, and return what was asked since."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return [Counter(hits) for hits in json.loads(self._line())]

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextlib.contextmanager
def registries(delay: float) -> Iterator[Registries]:
    """Run them."""
    argv = [sys.executable, "-m", "bench.registry", "--count", str(TARGETS + 1), "--delay", str(delay)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Registries(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def commands(tool: str, hosts: list[str], parallel: int, folder: Path) -> list[list[str]]:
    """Return what has to run, all at once."""
    source, *targets = (f"{host}/{REPOSITORY}" for host in hosts)
    if tool == "crane":
        jobs = ["-j", str(parallel)] if parallel else []
        return [["crane", "copy", "--insecure", "-a", *jobs, source, target] for target in targets]
    if tool == "regsync":
        creds = "\n".join(f"  - {{registry: {host!r}, tls: disabled}}" for host in hosts)
        syncs = "\n".join(f"  - {{source: {source}, target: {target}, type: repository}}" for target in targets)
        (folder / "regsync.yaml").write_text(REGSYNC.format(creds=creds, syncs=syncs, parallel=parallel or 4))
        return [["regsync", "once", "-c", str(folder / "regsync.yaml")]]
    places = "\n".join(f"  t{n}: {{kind: image, to: {host}/bench}}" for n, host in enumerate(hosts[1:]))
    names = ", ".join(f"t{n}" for n in range(TARGETS))
    text = MIRRORD.format(targets=places, source=source, names=names)
    (folder / "conf.yaml").write_text(text)
    return [[sys.executable, "-m", "mirrord", "sync", "--config", str(folder), "--state", str(folder / "state")]]


def once(tool: str, found: Registries, images: int, parallel: int) -> tuple[dict[str, float], list[Counter[str]]]:
    """Copy everything to empty targets with one tool; return what it took, and what was asked of each registry."""
    found.tell("clear")
    with tempfile.TemporaryDirectory() as folder:
        argvs = commands(tool, found.hosts, parallel, Path(folder))
        before, began = os.times(), time.perf_counter()
        running = [subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for argv in argvs]
        for process in running:
            _, told = process.communicate()
            assert process.returncode == 0, told.decode()
        wall, after = time.perf_counter() - began, os.times()
    hits = found.tell("hits")
    for target in hits[1:]:
        assert target["PUT manifests by tag"] == images, target
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    asked = {"source requests": hits[0].total(), "target requests": sum(one.total() for one in hits[1:])}
    return {"wall s": wall, "CPU s": cpu, **asked, "CPU ms a request": 1000 * cpu / sum(asked.values())}, hits


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500, help="how many (default 500)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each tool (default 3)")
    parser.add_argument("--delay", type=float, default=20, help="milliseconds of a round trip (default 20)")
    parser.add_argument("--parallel", type=int, default=0, help="images at once of the peers (default: as they come)")
    parser.add_argument("--only", nargs="+", help="tools to measure (default: all that are there)")
    parser.add_argument("--requests", action="store_true", help="tell the requests of the source and of one target")
    given = parser.parse_args()
    tools = given.only or ["mirrord", *filter(shutil.which, ("crane", "regsync"))]
    results: dict[str, list[dict[str, float]]] = {tool: [] for tool in tools}
    asked: dict[str, list[Counter[str]]] = {}
    with registries(given.delay / 1000) as found:
        found.tell(f"fill {given.images} 1 {SIZE}")
        for number in range(given.runs):
            for tool in tools if number % 2 == 0 else reversed(tools):
                result, asked[tool] = once(tool, found, given.images, given.parallel)
                results[tool].append(result)
    medians = {
        tool: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for tool, runs in results.items()
    }
    print(f"{given.images} small images, 1 -> {TARGETS}, {given.delay:g} ms, medians of {given.runs}")
    print(f"{'':20}" + "".join(f"{tool:>12}" for tool in tools) + "".join(f"{f'm/{tool}':>12}" for tool in tools[1:]))
    for key, ours in medians[tools[0]].items():
        print(f"{key:20}" + "".join(f"{medians[tool][key]:>12.2f}" for tool in tools), end="")
        print("".join(f"{ours / medians[tool][key]:>12.2f}" for tool in tools[1:]))
    if given.requests:
        for tool, (source, target, *_) in asked.items():
            print(f"\n{tool}\n  source {dict(source)}\n  target {dict(target)}")


if __name__ == "__main__":
    main()
