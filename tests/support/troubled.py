"""Replicas of `mirrord serve` that are killed and stopped, with a database and a bucket that go away meanwhile.

Each kind of trouble has a hand of its own, and they do not wait for each other: two faults at once are usual.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mirrord.errors import BrokenError
from tests.support.bucketproxy import BucketProxy
from tests.support.commands import Desk, Served
from tests.support.fleets import QUICK
from tests.support.gateway import ACCESS, SECRET, gateway
from tests.support.postgres import Postgres
from tests.support.quickreplica import ROOT

LATE: Final = QUICK.stale + 2
"""Seconds for which a replica is stopped: others take over what it ran."""
_SLOW_DOWN: Final = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_LOOKS: Final = 200
_ENDS: Final = 60.0  # seconds in which a replica ends when it is asked to


@dataclass(slots=True, eq=False)
class ServedReplica:
    """A replica: each start of it is a process of its own.

    Attributes:
        desk: where its state is.
        lives: its processes so far.
    """

    desk: Desk
    lives: list[Served] = field(default_factory=list)
    _life: AsyncExitStack = field(default_factory=AsyncExitStack)

    @classmethod
    def at(cls, folder: Path, text: str) -> ServedReplica:
        """Make its folder, with this configuration."""
        folder.mkdir()
        desk = Desk(folder, PYTHONPATH=str(ROOT), S3_ACCESS=ACCESS, S3_SECRET=SECRET)
        desk.configure(text)
        return cls(desk)

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://{self.lives[-1].address}"

    async def start(self, **environ: str) -> int:
        """Start it, again where it ends at once, as systemd does; return how often it did."""
        failed = 0
        while True:
            try:
                serving = self.desk.serving(module="tests.support.quickreplica", **environ)
                self.lives.append(await self._life.enter_async_context(serving))
            except BrokenError:
                failed += 1
                await asyncio.sleep(1)
            else:
                return failed

    async def kill(self) -> None:
        """End it with SIGKILL."""
        self.send(signal.SIGKILL)
        await self.aclose()

    async def aclose(self) -> None:
        """End what is left of it; its log stays in its folder."""
        await self._life.aclose()
        lines = (json.dumps(line) for life in self.lives for line in life.lines)
        (self.desk.folder / "log").write_text("".join(f"{line}\n" for line in lines))

    @property
    def busy(self) -> bool:
        """Whether a run is under way in it, as far as its log says."""
        events = Counter(line["event"] for line in self.lives[-1].lines)
        return events["run.started"] > events["run.finished"]

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.lives[-1].process.send_signal(number)

    async def end(self) -> int:
        """Ask it to end; return its exit status."""
        self.send(signal.SIGTERM)
        async with asyncio.timeout(_ENDS):
            status = await self.lives[-1].process.wait()
        await self._life.aclose()
        return status


@dataclass(slots=True)
class Trouble:
    """What goes wrong, in an order that `seed` decides.

    Attributes:
        replicas: who is killed and stopped.
        postgres: the server of the record.
        proxy: before the bucket.
        seed: of the order, and of how long each fault lasts.
        count: how often each fault happened.
    """

    replicas: Sequence[ServedReplica]
    postgres: Postgres
    proxy: BucketProxy
    seed: int
    count: Counter[str] = field(default_factory=Counter)

    async def make(self, seconds: float) -> None:
        """Make trouble for so long, and end when everything is there again."""
        end = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            for number, faults in enumerate(
                (
                    (self.killed, self.stopped, self.killed_for_long, self.stopped),
                    (self.database_restarted, self.database_paused),
                    (self.bucket_paused, self.bucket_slow),
                )
            ):
                group.create_task(self._hand(random.Random(self.seed * 10 + number), faults, end))

    async def _hand(
        self, chance: random.Random, faults: Sequence[Callable[[random.Random], Awaitable[None]]], end: float
    ) -> None:
        while True:
            for fault in chance.sample(faults, len(faults)):
                await asyncio.sleep(chance.uniform(0.5, 3))
                if asyncio.get_running_loop().time() > end:
                    return
                self.count[fault.__name__] += 1
                await fault(chance)

    async def _victim(self, chance: random.Random) -> ServedReplica:
        """Choose a replica, and wait for a moment in which it runs something, if there is one soon."""
        replica = chance.choice(self.replicas)
        for _ in range(_LOOKS):
            if replica.busy:
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(chance.uniform(0, 0.1))
        return replica

    async def killed(self, chance: random.Random) -> None:
        """End a replica with SIGKILL, and start it at once."""
        replica = await self._victim(chance)
        await replica.kill()
        self.count["started in vain"] += await replica.start()

    async def killed_for_long(self, chance: random.Random) -> None:
        """End a replica with SIGKILL, and start it when it counts as dead."""
        replica = await self._victim(chance)
        await replica.kill()
        await asyncio.sleep(LATE)
        self.count["started in vain"] += await replica.start()

    async def stopped(self, chance: random.Random) -> None:
        """Stop a replica for longer than it counts as alive, and continue it."""
        replica = await self._victim(chance)
        replica.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(LATE + chance.uniform(0, 2))
        finally:
            replica.send(signal.SIGCONT)

    async def database_restarted(self, _: random.Random) -> None:
        """End the database as a crash does, and start it."""
        await asyncio.to_thread(self.postgres.restart)

    async def database_paused(self, chance: random.Random) -> None:
        """Let the database hang, sometimes for longer than replicas count as alive."""
        with self.postgres.paused():
            await asyncio.sleep(chance.uniform(1, LATE))

    async def bucket_paused(self, chance: random.Random) -> None:
        """Let the bucket hang."""
        os.kill(gateway().pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(chance.uniform(1, 4))
        finally:
            os.kill(gateway().pid, signal.SIGCONT)

    async def bucket_slow(self, chance: random.Random) -> None:
        """Let the bucket refuse half of what it is asked: 503 SlowDown."""
        slow = self.proxy.faults.on("*", "", times=None).status(503, _SLOW_DOWN)
        try:
            await asyncio.sleep(chance.uniform(1, 3))
        finally:
            self.proxy.faults.scripted.remove(slow)
