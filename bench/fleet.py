"""Runs a minute of one replica and of three over one PostgreSQL and one bucket, far from the registries.

Each request to the source and to the target waits 200 ms. Each mirror copies a few small images, to `local` in the
bucket and to the target; `parallel` is 4 in each replica. All runs are handed to the queue at once. Beside it one
machine with SQLite and a disk: what a fleet costs. Then all run once more, with nothing new.

    python -m bench.fleet [--runs N] [--mirrors N] [--delay SECONDS]

It needs Debian's postgresql (and pg_stat_statements, which is part of it) and versitygw, all on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from bench.daemon import running_daemon
from bench.measure import Child, Measured, Results, by_turns, child, machine, medians
from bench.peers import present
from bench.usage import Watch, cpu_of_family
from bench.watched import open_daemon
from mirrord.commands import Sync
from mirrord.model.run import Result
from mirrord.record.connecting import connection_keys
from mirrord.record.fleet import Fleet, Me
from mirrord.record.fleet_database import SharedDatabase, open_shared
from mirrord.record.queue import FleetQueue
from mirrord.serve.remote import ControlClient
from mirrord.wire.database import DatabaseAddress
from tests.support.gateway import ACCESS, BUCKET, SECRET, gateway
from tests.support.postgres import Postgres

IMAGES, SIZE, PARALLEL, CALM = 4, 4096, 4, 10.0
SHAPES = {"SQLite": 0, "1 replica": 1, "3 replicas": 3}
RATIO = 2.5  # the least that three replicas must do of the runs a minute of one
WORKS = {"new images": Result.SUCCESS, "nothing new": Result.NOOP}
SETTINGS = {"fsync": "on", "shared_preload_libraries": "pg_stat_statements"}
_KEYS = {"BENCH_S3_ACCESS": ACCESS, "BENCH_S3_SECRET": SECRET}
_CALLS = """
SELECT coalesce(sum(calls) FILTER (WHERE query !~ '^(BEGIN|COMMIT|ROLLBACK)'), 0)::bigint,
  coalesce(sum(calls) FILTER (WHERE query ~ '^BEGIN'), 0)::bigint
FROM pg_stat_statements WHERE userid = 'mirrord'::regrole
"""
_OPEN = "SELECT 1 FROM queued_runs WHERE state <> 'ended' LIMIT 1"
_MOST = (
    "SELECT max(number) FROM (SELECT count(*) AS number FROM leases WHERE mirror <> '~lead' GROUP BY replica) AS each"
)
_NEXT = count()


@dataclass(frozen=True, slots=True)
class World:
    """What all shapes use: the database server, the source, the target, and how many mirrors there are."""

    postgres: Postgres
    source: Child
    target: Child
    mirrors: int

    @property
    def names(self) -> list[str]:
        """The mirrors."""
        return [f"app{number}" for number in range(self.mirrors)]

    def configure(self, folder: Path, settings: str) -> Path:
        """Write the configuration of all mirrors."""
        conf = folder / "conf.d"
        conf.mkdir()
        mirrors = "".join(
            f"  - {{name: {name}, kind: image, from: {{repository: {self.source.first}/bench/{name}, tags: ['*']}},"
            " to: [local, other]}\n"
            for name in self.names
        )
        (conf / "all.yaml").write_text(
            f"settings: {{parallel: {PARALLEL}, listen: '127.0.0.1:0', log: {{format: json}}{settings}}}\n"
            f"targets: {{other: {{kind: image, to: '{self.target.first}/mirror'}}}}\nmirrors:\n{mirrors}"
        )
        return conf

    def renew(self) -> None:
        """Give the source the images of all mirrors, and the target nothing."""
        self.source.tell(f"fill {IMAGES * self.mirrors} {self.mirrors} {SIZE}")
        self.target.tell("empty")


def database_cpu(postgres: Postgres) -> float:
    """Return the CPU seconds of a server."""
    return cpu_of_family(int((postgres.data / "postmaster.pid").read_text().split()[0]))


async def machine_alone(world: World, folder: Path) -> Measured:
    """One machine: SQLite and a disk, told to run all mirrors."""
    conf, state, found = world.configure(folder, ""), folder / "state", Measured()
    async with running_daemon(conf, state) as (pid, _):
        watch = Watch([pid])
        for work, result in WORKS.items():
            watch.cpu()
            began = time.monotonic()
            ran = await ControlClient(state).carry_out(Sync(()))
            found |= _speed(work, time.monotonic() - began, watch.cpu(), world.mirrors)
            assert {run.result for run in ran} == {result}
        found["peak MiB, a process"] = watch.memory()
    return found


def _speed(work: str, took: float, cpu: float, runs: int) -> Measured:
    return {f"{work}: runs/min": 60 * runs / took, f"{work}: CPU ms/run": 1000 * cpu / runs}


async def statements_alone(world: World, folder: Path) -> Measured:
    """Return how many statements a run costs in SQLite."""
    world.renew()
    found = Measured()
    async with open_daemon(world.configure(folder, ""), folder / "state") as daemon:
        for work in WORKS:
            await daemon.cost()
            await ControlClient(folder / "state").carry_out(Sync(()))
            found[f"{work}: statements/run"] = float((await daemon.cost())["statements"]) / world.mirrors
    return found


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue of a fleet: `defer` hands over a run, and the database tells of those that are open."""

    defer: Callable[[str], Awaitable[bool]]
    database: SharedDatabase


@asynccontextmanager
async def queue_of(address: DatabaseAddress) -> AsyncIterator[Queue]:
    """Open the queue of a fleet without taking part."""
    async with open_shared(partial(connection_keys, address)) as database:

        async def refused(_: str, __: str) -> bool:
            return False  # nothing is taken from the queue here

        queue = FleetQueue(Fleet(database, Me("bench", "bench")), refused, 1)
        await queue.open()
        try:
            yield Queue(queue.defer, database)
        finally:
            await queue.close()


async def replicas(world: World, folder: Path, number: int) -> Measured:
    """So many replicas over one database and one bucket; runs are handed to the queue, all at once."""
    postgres, name, s3 = world.postgres, f"bench{next(_NEXT)}", gateway()
    async with AsyncExitStack() as stack:
        address = stack.enter_context(postgres.database(name))
        [server] = address.servers
        conf = world.configure(
            folder,
            f", record: 'postgresql://mirrord@{server}/{name}', blobs: {{url: 's3://{BUCKET}/bench/{name}',"
            f" endpoint: '{s3.endpoint}', access_key: {{env: BENCH_S3_ACCESS}}, secret_key: {{env: BENCH_S3_SECRET}}}}",
        )
        daemons = [
            await stack.enter_async_context(running_daemon(conf, folder / f"state{one}")) for one in range(number)
        ]
        queue = await stack.enter_async_context(queue_of(address))
        await asyncio.sleep(2)  # what they do at their start
        return await _runs(world, name, queue, [pid for pid, _ in daemons])


async def _runs(world: World, database: str, queue: Queue, pids: list[int]) -> Measured:
    postgres, watch, runs, found = world.postgres, Watch(pids), world.mirrors, Measured()
    for work, result in WORKS.items():
        postgres.sql("SELECT pg_stat_statements_reset()")
        watch.cpu()
        used, asked, looks, began = database_cpu(postgres), _asked(), 1, time.monotonic()
        await asyncio.gather(*map(queue.defer, world.names))
        while await queue.database.do(_OPEN, {}):  # other processes set no event
            looks += 1
            await asyncio.sleep(0.1)
        found |= _speed(work, time.monotonic() - began, watch.cpu(), runs)
        [(calls, transactions)] = postgres.sql(_CALLS)
        found |= {
            f"{work}: database CPU ms/run": 1000 * (database_cpu(postgres) - used) / runs,
            f"{work}: statements/run": (calls - looks) / runs,
            f"{work}: BEGIN and COMMIT/run": 2 * transactions / runs,
            f"{work}: S3 requests/run": (_asked() - asked) / runs,
        }
        ended = postgres.sql(
            f"SELECT result, count(*) FROM runs WHERE result = '{result}' GROUP BY 1", database=database
        )
        assert ended == [(result, runs)], ended
    found["peak MiB, a process"] = watch.memory()
    found["most runs of one replica"] = float(postgres.sql(_MOST, database=database)[0][0])
    return found | await _at_rest(postgres, watch, len(pids))


async def _at_rest(postgres: Postgres, watch: Watch, number: int) -> Measured:
    """Return what each replica does when there is nothing to do."""
    postgres.sql("SELECT pg_stat_statements_reset()")
    watch.cpu()
    await asyncio.sleep(CALM)
    [(calls, _)] = postgres.sql(_CALLS)
    return {
        "at rest: statements/s, each": calls / CALM / number,
        "at rest: CPU ms/s, each": 1000 * watch.cpu() / CALM / number,
    }


def _asked() -> int:
    return sum(f"/{BUCKET}" in line for line in gateway().log.read_text().splitlines())


def shown(results: Results, alone: Measured) -> str:
    """Return medians with smallest and largest, and what three replicas do of one."""
    middle = medians(results)
    middle["SQLite"] |= alone
    lines = [f"\n{'':30}" + "".join(f"{shape:>26}" for shape in results) + f"{'3 of 1':>10}"]
    for key in middle["1 replica"]:
        row = f"{key:30}"
        for shape, made in results.items():
            values = [run[key] for run in made if key in run]
            spread = f" ({min(values):.3g}-{max(values):.3g})" if values else ""
            row += f"{f'{middle[shape][key]:.3g}{spread}' if key in middle[shape] else '-':>26}"
        one = middle["1 replica"][key]
        lines.append(f"{row}{middle['3 replicas'][key] / one if one else 0:>10.2f}")
    pairs = zip(results["1 replica"], results["3 replicas"], strict=True)
    speed = "new images: runs/min"
    ratios = ", ".join(f"{three[speed] / one[speed]:.2f}" for one, three in pairs)
    lines.append(f"3 replicas do {ratios} times the runs of 1 ({RATIO} at least)")
    return "\n".join(lines)


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="turns of each shape (default 3)")
    parser.add_argument("--mirrors", type=int, default=48, help="how many (default 48)")
    parser.add_argument("--delay", type=float, default=0.2, help="seconds that each request waits (default 0.2)")
    parser.add_argument("--only", nargs="+", choices=list(SHAPES), default=list(SHAPES), help="these alone")
    given = parser.parse_args()
    print(machine(present(())[0]))
    os.environ |= _KEYS
    with (
        Postgres(SETTINGS) as postgres,
        child("bench.registry", "--delay", given.delay) as source,
        child("bench.registry", "--delay", given.delay) as target,
        tempfile.TemporaryDirectory(prefix="fleet-") as top,
    ):
        postgres.sql("CREATE EXTENSION pg_stat_statements")
        world = World(postgres, source, target, given.mirrors)

        async def turn(shape: str) -> Measured:
            world.renew()
            folder = Path(tempfile.mkdtemp(dir=top))
            number = SHAPES[shape]
            found = await replicas(world, folder, number) if number else await machine_alone(world, folder)
            print(f"{shape}, load {os.getloadavg()[0]:.1f}: {found}", flush=True)
            return found

        results = await by_turns(given.only, given.runs, turn)
        if len(results) == len(SHAPES):
            alone = await statements_alone(world, Path(tempfile.mkdtemp(dir=top)))
            print(f"{given.mirrors} mirrors of {IMAGES} new images a run, medians of {given.runs}")
            print(shown(results, alone))


if __name__ == "__main__":
    asyncio.run(main())
