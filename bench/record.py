"""What the record costs: runs a second in SQLite and in PostgreSQL, and their statements.

    python -m bench.record FOLDER [URL]

URL is that of an empty database of PostgreSQL; its password is taken from where libpq finds it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, event

from mirrord.model.ledger import LedgerEntry
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run
from mirrord.record.store import open_store
from mirrord.wire.database import DatabaseAddress, read_database_url

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def run(number: int, items: int) -> Run:
    at = NOW + timedelta(seconds=number)
    steps = tuple(Step(Action.COPY, f"v{item}", f"sha256:{number}-{item}", "a", (), "") for item in range(items))
    receipts = tuple(Receipt(step, Outcome.DONE) for step in steps)
    return Run("m", "image", "schedule", at, at, Plan("m", "image", at, steps), receipts)


async def measure(place: Path | DatabaseAddress) -> None:
    statements: list[str] = []
    event.listen(Engine, "before_cursor_execute", lambda _, __, statement, *___: statements.append(statement))
    store = await open_store(place, NOW)
    number = 0
    for items, times in ((1, 200), (100, 50), (10_000, 3)):
        statements.clear()
        began = time.perf_counter()
        for _ in range(times):
            number += 1
            await store.add_run(run(number, items))
        took = time.perf_counter() - began
        each = f"{1000 * took / times:.1f} ms each, {len(statements) / times} statements"
        print(f"{times / took:8.1f} runs/s of {items} items, {each}")
    began = time.perf_counter()
    for move in range(500):
        await store.intend([LedgerEntry("m", "a", f"v{move}", "here", None, "sha256:1", NOW, NOW)])
    print(f"{500 / (time.perf_counter() - began):8.1f} moves/s, one after another")
    statements.clear()
    began = time.perf_counter()
    for _ in range(200):
        await store.standing("m")
    took = time.perf_counter() - began
    print(f"{200 / took:8.1f} standings/s, {len(statements) / 200} statements")
    await store.close()


async def main() -> None:
    folder, *urls = sys.argv[1:]
    await measure(Path(folder) / "bench.db")
    for url in urls:
        await measure(read_database_url(url))


if __name__ == "__main__":
    asyncio.run(main())
