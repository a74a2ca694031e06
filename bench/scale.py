"""Whether cost grows as the work does: CPU for each unit of work as there is more of it, and what keeps the event loop.

Every size has a fresh daemon (`mirrord serve`) in a process of its own that mirrors from sources on loopback, in
processes of their own. `grows` is what a unit costs with the most of it, compared with the least; 1.3 is what may be.
`busy` is the CPU time for which the event loop did nothing else, `late` by how much it came late by the clock: a
busy machine and other threads count there too.

    python -m bench.scale [--only PART...] [--sizes N...] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import child, machine
from bench.watched import Cost, WatchedDaemon, open_daemon
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Run
from mirrord.record.store import open_store
from mirrord.testing.gitrepos import Upstream
from tests.support.gitcontent import fill

LIMIT = 1.3
RUNS, REPEATED = 20, 10  # mirrors that are run, and pages that are looked at; how often one has nothing to do
GIT = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
LONG_AGO = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one kind of work took; `units` is by what its cost is divided."""

    work: str
    cost: Cost
    units: int


@contextlib.asynccontextmanager
async def daemon_of(folder: Path, *lines: str) -> AsyncIterator[WatchedDaemon]:
    """Run a daemon with a configuration."""
    conf = folder / "conf.d"
    conf.mkdir()
    (conf / "all.yaml").write_text("\n".join(("settings: {listen: '127.0.0.1:0', log: {format: json}}", *lines)) + "\n")
    async with open_daemon(conf, folder / "state") as daemon:
        yield daemon


async def tags(folder: Path, size: int, *, to: str = "") -> list[Measurement]:
    """Mirror so many tags of one repository, then look again."""
    with child("bench.registry", "--count", 2, "--delay", 0) as registries:
        registries.tell(f"fill {size} 1 64")
        source, target = registries.first.split()
        place = f"targets: {{other: {{kind: image, to: '{to or f'{target}/bench'}'}}}}"
        name = "local" if to == "local" else "other"
        mirror = (
            f"  - {{name: app0, kind: image, from: {{repository: {source}/bench/app0, tags: ['*']}}, to: [{name}]}}"
        )
        async with daemon_of(folder, *([place] if name == "other" else []), "mirrors:", mirror) as daemon:
            first = await daemon.sync("app0")
            return [Measurement("first", first, size), Measurement("nothing new", await daemon.sync("app0"), size)]


async def local_tags(folder: Path, size: int) -> list[Measurement]:
    """Tags to `local`."""
    return await tags(folder, size, to="local")


async def layout_tags(folder: Path, size: int) -> list[Measurement]:
    """Tags to one OCI layout, whose index lists all of them."""
    return await tags(folder, size, to=f"oci:{folder}/layouts")


async def registry_tags(folder: Path, size: int) -> list[Measurement]:
    """Tags to a registry."""
    return await tags(folder, size)


async def mirrors(folder: Path, size: int) -> list[Measurement]:
    """Start with so many mirrors that all have run, run some with nothing to do, and look at pages."""
    names = [f"app{number}" for number in range(size)]
    (folder / "state").mkdir(mode=0o700)
    store = await open_store(folder / "state" / "mirrord.db", LONG_AGO)
    for name in names:
        step = Step(Action.KEEP, "v0", f"sha256:{0:064x}", "local", ("v0",), "as it is", confirmed=True)
        plan = Plan(name, "image", LONG_AGO, (step,))
        await store.add_run(Run(name, "image", "schedule", LONG_AGO, LONG_AGO, plan, places={"local": "there"}))
    await store.close()
    with child("bench.registry", "--count", 1, "--delay", 0) as registry:
        registry.tell(f"fill {RUNS} {RUNS} 64")
        lines = [
            f"  - {{name: {name}, kind: image, from: {{repository: {registry.first}/bench/{name}, tags: ['*']}},"
            " to: [local]}"
            for name in names
        ]
        async with daemon_of(folder, "mirrors:", *lines) as daemon:
            found = [Measurement("start", daemon.started, size)]
            some = names[:RUNS]
            await daemon.sync(*some)
            again = await daemon.sync(*some * REPEATED)
            found.append(Measurement("run, nothing new", again, len(some) * REPEATED))
            found += [
                Measurement(path, await _page(daemon, path, names), len(some) * size) for path in ("/status", "/")
            ]
    return found


async def _page(daemon: WatchedDaemon, path: str, names: list[str]) -> Cost:
    """Ask for a page again and again, each time after something happened; the cost is that of the page alone."""
    costs = []
    for name in names[:RUNS]:
        await daemon.sync(name)
        await asyncio.to_thread(_get, daemon.url + path)
        costs.append(await daemon.cost())
    worst = max(costs, key=lambda cost: float(cost["longest"]))
    return worst | {"cpu": sum(float(cost["cpu"]) for cost in costs)}


def _get(url: str) -> None:
    with urllib.request.urlopen(url) as answer:
        answer.read()


async def refs(folder: Path, size: int) -> list[Measurement]:
    """Mirror a repository of so many refs to `local`, then look again."""
    upstream = Upstream(folder / "hosts" / "app.git")
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", upstream.path], env=GIT, check=True)
    fill(upstream, size, 1_000_000)
    subprocess.run(["git", "-C", upstream.path, "pack-refs", "--all"], env=GIT, check=True)
    with child("bench.repositories", "--serve", folder / "hosts") as host:
        mirror = f"  - {{name: app, kind: git, from: '{host.first}/app.git', to: [local]}}"
        async with daemon_of(folder, "mirrors:", mirror) as daemon:
            first = await daemon.sync("app")
            return [Measurement("first", first, size), Measurement("nothing new", await daemon.sync("app"), size)]


async def charts(folder: Path, size: int) -> list[Measurement]:
    """Mirror so many versions to `local`, then one new, then nothing."""
    with child("bench.sources", "--charts", size) as source:
        async with daemon_of(
            folder, "mirrors:", f"  - {{name: app, kind: helm, from: '{source.first}', to: [local]}}"
        ) as one:
            found = [Measurement("first", await one.sync("app"), size)]
            source.tell("more")
            found.append(Measurement("one new", await one.sync("app"), size))
            return [*found, Measurement("nothing new", await one.sync("app"), size)]


PARTS: dict[str, tuple[Callable[[Path, int], Awaitable[list[Measurement]]], tuple[int, ...]]] = {
    "tags-local": (local_tags, (100, 1000, 10_000)),
    "tags-layout": (layout_tags, (100, 1000, 10_000)),
    "tags-registry": (registry_tags, (100, 1000, 10_000)),
    "mirrors": (mirrors, (100, 1000, 5000)),
    "refs": (refs, (1000, 10_000, 50_000)),
    "charts": (charts, (1000, 15_000)),
}


async def curve(part: str, sizes: list[int] | None) -> dict[str, dict[int, Measurement]]:
    """Measure one part at all its sizes; return by work and size."""
    work, usual = PARTS[part]
    found: dict[str, dict[int, Measurement]] = {}
    for size in sizes or usual:
        with tempfile.TemporaryDirectory(prefix="scale-") as folder:
            for one in await work(Path(folder), size):
                found.setdefault(one.work, {})[size] = one
    return found


def lines(found: dict[str, dict[int, Measurement]]) -> Iterator[str]:
    """Write a curve: one line for each size, and by how much a unit grows."""
    for work, sizes in found.items():
        each = [1000 * float(one.cost["cpu"]) / one.units for one in sizes.values()]
        grows = each[-1] / each[0] if each[0] else 0.0
        for (size, one), unit in zip(sizes.items(), each, strict=True):
            cost = one.cost
            yield (
                f"  {work:18}{size:>8}{float(cost['cpu']):>10.2f}{unit:>12.3f}{1000 * float(cost['longest']):>9.0f}"
                f"{1000 * float(cost['late']):>9.0f}{float(cost['peak']):>9.0f}  {cost['during']}"
            )
        yield f"  {work:18}   grows {grows:.2f} ({LIMIT} may be){' TOO MUCH' if grows > LIMIT else ''}"


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts alone")
    parser.add_argument("--sizes", nargs="+", type=int, help="instead of the usual ones")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    given = parser.parse_args()
    if not given.json:
        print(machine({}))
        print(f"  {'':18}{'units':>8}{'CPU s':>10}{'ms a unit':>12}{'busy ms':>9}{'late ms':>9}{'MiB':>9}  where")
    found = {}
    for part in given.only:
        measured = await curve(part, given.sizes)
        found[part] = {work: {size: one.cost for size, one in sizes.items()} for work, sizes in measured.items()}
        if not given.json:
            print(part, *lines(measured), sep="\n", flush=True)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
