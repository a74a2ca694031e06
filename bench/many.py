"""One mirror of many repositories: memory, requests, and how quick plan and status stay.

Two registries of images and one target, each in a process of its own on loopback; a list names every tag. A daemon
mirrors them, looks again, is asked for its plan and its status, and is started anew.

    python -m bench.many [--repositories N] [--tags N] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.measure import Child, child, machine
from bench.watched import Cost, WatchedDaemon, open_daemon
from mirrord.commands import PlanMirrors
from mirrord.serve.remote import ControlClient

RSS = 250
"""MiB that the daemon may need with 700 repositories of 20 tags."""


@dataclass(slots=True)
class Work:
    """What one piece of work took, and the requests that it cost by registry and kind."""

    work: str
    seconds: float
    cost: Cost
    requests: dict[str, dict[str, int]] = field(default_factory=dict)


def configure(folder: Path, sources: list[str], target: str, repositories: int, tags: int) -> Path:
    """Write a configuration whose list names every tag of both sources, one source after the other."""
    conf = folder / "conf.d"
    conf.mkdir()
    each = repositories // len(sources)
    names = (f"{host}/bench/app{number}:v{tag}" for host in sources for number in range(each) for tag in range(tags))
    (conf / "images.txt").write_text("".join(f"{name}\n" for name in names))
    (conf / "all.yaml").write_text(
        "settings: {listen: '127.0.0.1:0', log: {format: json}}\n"
        f"targets: {{other: {{kind: image, to: '{target}/mirror'}}}}\n"
        "mirrors: [{name: many, kind: image, from: {list: images.txt}, to: [other]}]\n"
    )
    return conf


async def measure(folder: Path, repositories: int, tags: int) -> AsyncIterator[Work]:
    """Yield what each piece of work took."""
    with (
        child("bench.registry", "--delay", 0) as one,
        child("bench.registry", "--delay", 0) as two,
        child("bench.registry", "--delay", 0) as target,
    ):
        registries = {"one": one, "two": two, "target": target}
        for source in (one, two):
            source.tell(f"fill {repositories // 2 * tags} {repositories // 2} 64")
        conf = configure(folder, [one.first, two.first], target.first, repositories, tags)
        for daemon_of in ("first", "again"):
            async with open_daemon(conf, folder / "state") as daemon:
                client = ControlClient(folder / "state")

                works: dict[str, Callable[[], Awaitable[object]]] = {
                    "first": partial(daemon.sync, "many"),
                    "nothing new": partial(daemon.sync, "many"),
                    "plan": partial(client.carry_out, PlanMirrors(("many",))),
                    "/status": partial(asyncio.to_thread, _get, f"{daemon.url}/status"),
                }
                for work, do in works.items():
                    if daemon_of == "first" or work != "first":
                        name = work if daemon_of == "first" else f"{work}, new daemon"
                        yield await _measured(name, do, daemon, registries)


async def _measured(
    work: str, do: Callable[[], Awaitable[object]], daemon: WatchedDaemon, registries: dict[str, Child]
) -> Work:
    for registry in registries.values():
        registry.tell("hits")
    await daemon.cost()
    began = time.monotonic()
    done = await do()
    seconds = time.monotonic() - began
    cost = done if isinstance(done, dict) else await daemon.cost()
    requests = {name: json.loads(registry.tell("hits"))[0] for name, registry in registries.items()}
    return Work(work, seconds, cost, requests)


def _get(url: str) -> None:
    with urllib.request.urlopen(url) as answer:
        answer.read()


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repositories", type=int, default=700, help="of both sources (default 700)")
    parser.add_argument("--tags", type=int, default=20, help="of each repository (default 20)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    given = parser.parse_args()
    found: list[Work] = []
    if not given.json:
        print(machine({}))
        print(f"  {'':26}{'seconds':>9}{'CPU s':>8}{'busy ms':>9}{'peak MiB':>10}  requests")
    with tempfile.TemporaryDirectory(prefix="many-") as folder:
        async for one in measure(Path(folder), given.repositories, given.tags):
            found.append(one)
            if not given.json:
                cost, asked = one.cost, {name: hits for name, hits in one.requests.items() if hits}
                busy, peak = 1000 * float(cost["longest"]), float(cost["peak"])
                print(f"  {one.work:26}{one.seconds:>9.2f}{float(cost['cpu']):>8.2f}{busy:>9.0f}{peak:>10.0f}  {asked}")
    if given.json:
        print(json.dumps([{"work": one.work, "seconds": one.seconds, **one.cost, **one.requests} for one in found]))
    else:
        peak = max(float(one.cost["peak"]) for one in found)
        print(f"  peak {peak:.0f} MiB ({RSS} may be){' TOO MUCH' if peak > RSS else ''}")


if __name__ == "__main__":
    asyncio.run(main())
