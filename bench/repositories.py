"""Mirror a repository of 5 000 refs and 50 MB: mirrord beside `git clone --mirror` + `git push --mirror`, and others.

Real `git http-backend` on loopback in a process of its own; receivers take 10 MB/s each, so that the network is the
bottleneck, as in life. Prints seconds and ratios for: the first mirror, one new commit, nothing to do; to one and to
three destinations, and to none (served by mirrord itself), which is what `git fetch` does. mirrord runs inside one
process, as in its daemon.

    python -m bench.repositories [--refs N] [--size MB] [--runs N] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from aiohttp import web

from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from tests.support.gitcontent import fill
from tests.support.gitworld import GitWorld, open_git_world

RATE = 10_000_000.0
NAMES = ("one", "two", "three")
IDLE = 7  # runs with nothing to do, of which the median counts
ENVIRON = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
Seconds = dict[str, float]


class Logged(GitHost):
    """A host that writes each request to a file."""

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        with (self.folder / "requests").open("a") as log:
            log.write(f"{request.method} {request.path_qs}\n")
        return await super()._handle(request)


async def serve(folder: Path, rate: float | None) -> None:
    """Run a host until standard input ends; print its URL."""
    async with Logged(folder, rate=rate) as host:
        print(host.base, flush=True)
        await asyncio.to_thread(sys.stdin.read)


@contextlib.asynccontextmanager
async def hosts_of(folder: Path) -> AsyncIterator[dict[str, str]]:
    """Start a source and three receivers, each in a process of its own as it would be a machine of its own."""
    with contextlib.ExitStack() as stack:
        hosts = {}
        for name in ("source", *NAMES):
            (folder / name).mkdir(parents=True)
            argv = [sys.executable, "-m", "bench.repositories", "--serve", str(folder / name)]
            argv += [] if name == "source" else ["--rate", str(RATE)]
            process = stack.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE))  # noqa: ASYNC220 - once
            assert process.stdout is not None
            assert process.stdin is not None
            stack.callback(process.stdin.close)
            hosts[name] = (await asyncio.to_thread(process.stdout.readline)).decode().strip()
        yield hosts


class Bench:
    """One round: fresh receivers, fresh caches, each tool on its own."""

    def __init__(self, folder: Path, hosts: dict[str, str]) -> None:
        """Work below `folder`."""
        self.folder, self.hosts = folder, hosts
        self._fresh = 0
        self.upstream = Upstream(self.folder / "hosts" / "source" / "app.git")

    def places(self, count: int) -> list[str]:
        """Make empty repositories at `count` receivers; return their URLs."""
        self._fresh += 1
        name = f"app{self._fresh}.git"
        for host in NAMES[:count]:
            GitHost(self.folder / "hosts" / host).create(name)
        return [f"{self.hosts[host]}/{name}" for host in NAMES[:count]]

    @property
    def source(self) -> str:
        """URL of the source."""
        return f"{self.hosts['source']}/app.git"

    def requests(self) -> int:
        """Count the requests at the source until now."""
        return len((self.folder / "hosts" / "source" / "requests").read_text().splitlines())

    def pack(self) -> None:
        """Put the refs of all hosts into one file each, as hosts do before long."""
        for folder in (self.folder / "hosts").glob("*/*.git"):
            subprocess.run(["git", "-C", str(folder), "pack-refs", "--all"], env=ENVIRON, check=True)

    def work(self) -> Path:
        """Return a fresh folder."""
        self._fresh += 1
        return self.folder / f"work{self._fresh}"


async def mirrord(bench: Bench, count: int) -> Seconds:
    """Run a mirror: first, after a commit, and with nothing to do; to no destination: it is only served."""
    folder = bench.work()
    async with open_git_world(folder) as world:
        mirror = world.mirror(bench.source, dict(zip(NAMES, bench.places(count), strict=False)) or {LOCAL: LOCAL})
        found = {"first": await _timed(world, mirror)}
        bench.upstream.commit("main", {"news": os.urandom(2000)})
        bench.pack()
        found["commit"] = await _timed(world, mirror)
        before, cpu = bench.requests(), resource.getrusage(resource.RUSAGE_SELF)
        found["idle"] = statistics.median([await _timed(world, mirror) for _ in range(IDLE)])
        after = resource.getrusage(resource.RUSAGE_SELF)
        found["idle cpu"] = (after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime) / IDLE
        found["idle requests"] = (bench.requests() - before) / IDLE
    return found


async def _timed(world: GitWorld, mirror: object) -> float:
    began = time.perf_counter()
    run = await world.run(mirror)  # type: ignore[arg-type]  # made by the same world
    assert run.result in (Result.SUCCESS, Result.NOOP), run
    return time.perf_counter() - began


def script(bench: Bench, count: int) -> Seconds:
    """`git clone --mirror` and `git push --mirror` to all at once; later `git fetch --prune` and the same pushes."""
    folder, places = bench.work(), bench.places(count)

    def push() -> float:
        return _together([["git", "-C", str(folder), "push", "-q", "--mirror", place] for place in places])

    clone = _together([["git", "clone", "-q", "--mirror", bench.source, str(folder)]])
    found = {"clone": clone, "first": clone + push()}
    bench.upstream.commit("main", {"news": os.urandom(2000)})
    fetch = ["git", "-C", str(folder), "fetch", "-q", "--prune"]
    found["commit"] = _together([fetch]) + push()
    bench.pack()
    found["fetch"] = statistics.median([_together([fetch]) for _ in range(IDLE)])
    found["idle"] = found["fetch"] + push()
    return found


def hub_mirror(bench: Bench, count: int) -> Seconds:
    """What hub-mirror-action does: a clone with files, then one push after the other, tags and all, forced."""
    folder, places = bench.work(), bench.places(count)

    def push() -> float:
        refs = ["refs/remotes/origin/*:refs/heads/*", "--tags", "--prune", "-f"]
        return sum(_together([["git", "-C", str(folder), "push", "-q", place, *refs]]) for place in places)

    first = _together([["git", "clone", "-q", bench.source, str(folder)]])
    first += _together([["git", "-C", str(folder), "remote", "set-head", "origin", "-d"]]) + push()
    found = {"first": first}
    bench.upstream.commit("main", {"news": os.urandom(2000)})
    pull = ["git", "-C", str(folder), "pull", "-q", "--prune"]
    found["commit"] = _together([pull]) + push()
    found["idle"] = _together([pull]) + push()
    return found


def _together(commands: Sequence[Sequence[str]]) -> float:
    """Run commands at once; return the seconds until the slowest is through."""
    began = time.perf_counter()
    running = [subprocess.Popen(command, env=ENVIRON) for command in commands]
    assert all(process.wait() == 0 for process in running)
    return time.perf_counter() - began


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--refs", type=int, default=5000, help="branches and tags (default 5000)")
    parser.add_argument("--size", type=int, default=50, help="MB (default 50)")
    parser.add_argument("--runs", type=int, default=1, help="rounds (default 1)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        await serve(given.serve, given.rate)
        return
    folder = Path(tempfile.mkdtemp(prefix="bench-git-"))
    try:
        async with hosts_of(folder / "hosts") as hosts:
            GitHost(folder / "hosts" / "source").create("app.git")
            bench = Bench(folder, hosts)
            fill(bench.upstream, given.refs, given.size * 1_000_000)
            bench.pack()
            results = [await _round(bench) for _ in range(given.runs)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    tell(results, as_json=given.json)


async def _round(bench: Bench) -> dict[str, Seconds]:
    others: dict[str, Callable[[Bench, int], Seconds]] = {"script": script, "hub-mirror": hub_mirror}
    found = {}
    found["mirrord 0"] = await mirrord(bench, 0)
    for count in (1, 3):
        found[f"mirrord {count}"] = await mirrord(bench, count)
        for name, tool in others.items():
            found[f"{name} {count}"] = await asyncio.to_thread(tool, bench, count)
    return found


def tell(results: Sequence[dict[str, Seconds]], *, as_json: bool) -> None:
    """Print medians, and the ratios that matter."""
    medians = {
        name: {key: statistics.median(one[name][key] for one in results) for key in results[0][name]}
        for name in results[0]
    }
    none, one, three = medians["mirrord 0"], medians["mirrord 1"], medians["mirrord 3"]
    fetch = medians["script 1"]["fetch"]
    ratios = {
        "first mirror / (clone + push)": one["first"] / medians["script 1"]["first"],
        "first mirror to 3 / (clone + slowest push)": three["first"] / medians["script 3"]["first"],
        "3 destinations / 1": three["first"] / one["first"],
        "idle, served here only / git fetch": none["idle"] / fetch,
        "idle, 1 destination looked at too / git fetch": one["idle"] / fetch,
        "idle requests at the source": one["idle requests"],
    }
    if as_json:
        print(json.dumps({"medians": medians, "ratios": ratios}))
        return
    print(f"{'seconds':14}{'first':>10}{'commit':>10}{'idle':>10}")
    for name, row in medians.items():
        print(f"{name:14}" + "".join(f"{row[key]:>10.3f}" for key in ("first", "commit", "idle")))
    for name, ratio in ratios.items():
        print(f"{name:45}{ratio:>8.2f}")
    print(f"{'CPU of an idle run, ms':45}{none['idle cpu'] * 1000:>8.1f}")


if __name__ == "__main__":
    asyncio.run(main())
