"""Whether pages cost more with a long history: 1 000 mirrors with a record of 1 day, beside one of 90 days.

Two real daemons (`mirrord serve`) on loopback, each with 1 000 mirrors of two targets that run once an hour and have
50 tags; one in fifty fails. Each page is asked for in turn at both, after a pause in which its last rendering expires:
all is made anew. `p50` is the median time of an answer in milliseconds, `CPU` what the daemon used for it. A ratio is
that of p50, 90 days divided by 1 day; 1.2 is what may be. The page of a mirror may cost more: its first answer after a
run draws each day, and it lists more changes.

    python -m bench.history [--mirrors N] [--requests N] [--days N...]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from bench.daemon import running_daemon
from bench.measure import machine
from mirrord.model.history import Day, RunRecord, TargetRecord
from mirrord.model.ledger import LedgerEntry, Settled
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.record.store import KEEP, open_store
from mirrord.record.tables import row_of
from tests.support.processes import cpu_of, peak_of

TAGS, TARGETS = 50, ("local", "other")
PAUSE = 1.2  # seconds; a page is made at most once a second
LIMIT = 1.2
SAME = ("/status", "/", "/metrics")  # pages that show the same with a short history and a long one
SIZE = 25_000_000


@dataclass(slots=True)
class Watched:
    """A daemon with one of the histories, and what its pages took."""

    pid: int
    url: str
    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    async def ask(self, session: aiohttp.ClientSession, path: str) -> None:
        """Ask for a page once, and note what that took."""
        used, began = cpu_of(self.pid), time.perf_counter()
        async with session.get(f"{self.url}{path}") as answer:
            body = await answer.read()
            assert answer.status == 200, (path, answer.status)
        self.milliseconds.setdefault(path, []).append((time.perf_counter() - began) * 1000)
        self.cpu.setdefault(path, []).append((cpu_of(self.pid) - used) * 1000)
        self.sizes[path] = len(body)


def names(mirrors: int) -> list[str]:
    """Return the names of the mirrors."""
    return [f"m{number:04}" for number in range(mirrors)]


async def fill(file: Path, mirrors: int, days: int, now: datetime) -> None:
    """Write a record: the last run of each mirror as a daemon does, what was before straight into the tables."""
    store = await open_store(file, now)
    with contextlib.closing(sqlite3.connect(file)) as link:
        for name in names(mirrors):
            _history(link, name, days, now)
    entries: list[LedgerEntry] = []
    for number, name in enumerate(names(mirrors)):
        await store.add_run(_last(name, now, failing=not number % 50))
        entries += [
            LedgerEntry(
                name, target, "v1.0", f"{target}.example/team", None, f"sha256:{day:064x}", now, now, Settled.DONE
            )
            for day in range(min(days, 20))
            for target in TARGETS
        ]
    await store.intend(entries)
    await store.close()


def _history(link: sqlite3.Connection, name: str, days: int, now: datetime) -> None:
    runs, hour = min(days * 24, KEEP) - 1, timedelta(hours=1)
    for number in range(runs, 0, -1):
        began = now - number * hour
        at = tuple(TargetRecord(target, Result.NOOP, kept=TAGS) for target in TARGETS)
        run = row_of(RunRecord(name, "image", "schedule", began, began + timedelta(seconds=9), Result.NOOP, targets=at))
        del run["id"], run["targets"]
        added = _insert(link, "runs", run)
        for position, one in enumerate(at):
            _insert(link, "run_targets", {"run": added, "position": position, **row_of(one)})
    for number in range(days - 1, 0, -1):
        day = Day((now - timedelta(days=number)).date(), 24, 0, 216.0, 12.0, SIZE, 2 * SIZE, 4, 0, Result.SUCCESS)
        _insert(link, "days", {"mirror": name, **row_of(day)})
    link.commit()


def _insert(link: sqlite3.Connection, table: str, row: dict[str, object]) -> int | None:
    columns, marks = ", ".join(row), ", ".join("?" * len(row))
    return link.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(row.values())).lastrowid


def _last(name: str, now: datetime, *, failing: bool) -> Run:
    steps = [
        Step(Action.COPY, f"v1.{tag}", f"sha256:{tag:064x}", target, (f"v1.{tag}",), "not there")
        for target in TARGETS
        for tag in range(TAGS)
    ]
    bad = Outcome.FAILED if failing else Outcome.DONE
    receipts = tuple(
        Receipt(one, bad, "connection refused", "unreachable")
        if one.item == "v1.7" and failing
        else Receipt(one, Outcome.DONE, sent=SIZE, size=SIZE, platforms=("linux/amd64", "linux/arm64"))
        for one in steps
    )
    places = {target: f"127.0.0.1:9/team/{name} > {target}" for target in TARGETS}
    plan = Plan(name, "image", now, tuple(steps))
    return Run(name, "image", "schedule", now, now + timedelta(seconds=9), plan, receipts, SIZE, places=places)


@contextlib.asynccontextmanager
async def daemon_of(folder: Path, mirrors: int, days: int) -> AsyncIterator[Watched]:
    """Start a daemon with a record of so many days."""
    conf, state = folder / "conf.d", folder / "state"
    conf.mkdir(parents=True)
    state.mkdir(mode=0o700)
    lines = [
        "settings: {listen: '127.0.0.1:0', log: {format: json}}",
        "targets:",
        "  other: {kind: image, to: 127.0.0.1:9/mirror}",
        "mirrors:",
        *(
            f"  - {{name: {name}, kind: image, from: {{repository: 127.0.0.1:9/team/{name}, tags: ['*']}},"
            " to: [local, other], cron: '0 0 1 1 *'}"
            for name in names(mirrors)
        ),
    ]
    (conf / "all.yaml").write_text("\n".join(lines) + "\n")
    await fill(state / "mirrord.db", mirrors, days, datetime.now(UTC))
    async with running_daemon(conf, state) as (pid, port):
        yield Watched(pid, f"http://127.0.0.1:{port}")


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirrors", type=int, default=1000, help="mirrors (default 1000)")
    parser.add_argument("--requests", type=int, default=20, help="answers of each page (default 20)")
    parser.add_argument("--days", type=int, nargs=2, default=[1, 90], help="days of the two records (default 1 90)")
    given = parser.parse_args()
    print(machine({}))
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="history-")))
        found = [
            await stack.enter_async_context(daemon_of(folder / str(days), given.mirrors, days)) for days in given.days
        ]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        paths = [*SAME, f"/mirrors/{names(given.mirrors)[7]}"]
        for number in range(given.requests + 1):
            for path in paths:
                await asyncio.sleep(PAUSE)
                for one in found if number % 2 else reversed(found):
                    await one.ask(session, path)
        for path in paths:
            print(row(path, found), flush=True)
        print(
            "peak MiB: "
            + ", ".join(f"{days} days {peak_of(one.pid):.0f}" for days, one in zip(given.days, found, strict=True))
        )


def row(path: str, found: list[Watched]) -> str:
    """Write a line of the table; the first answer of each page, which makes all parts of it, does not count."""
    few, many = (statistics.median(one.milliseconds[path][1:]) for one in found)
    used_few, used_many = (statistics.mean(one.cpu[path][1:]) for one in found)
    verdict = "" if many <= few * LIMIT or path not in SAME else "  MORE THAN IT MAY BE"
    return (
        f"{path:16}{found[1].sizes[path] / 1000:8.0f} kB  p50 {few:6.1f} ms {many:6.1f} ms, ratio {many / few:.2f};"
        f"  CPU {used_few:6.1f} ms {used_many:6.1f} ms{verdict}"
    )


if __name__ == "__main__":
    asyncio.run(main())
