"""A server under load: how long its probes take, what it uses, and how its crowd fared.

A probe is asked on a connection of its own every so often, whether the one before it was answered or not: a server that
stands still for a second spoils as many probes as fall into that second.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.crowd import Address, Client, request, troubles
from tests.support.processes import cpu_of, peak_of

PROBES: Final = 0.05
"""Seconds between two probes."""


@dataclasses.dataclass(slots=True)
class Watched:
    """What was seen.

    Attributes:
        probes: seconds that each took; one that was cut off took at least so long.
        syncs: seconds of synchronisations beside it.
        clones: seconds of clones beside it.
        failed: what should not have.
        clients: the crowd.
        seconds: of it all.
        cpu: seconds of the server.
        memory: MiB, its peak.
    """

    probes: list[float] = dataclasses.field(default_factory=list)
    syncs: list[float] = dataclasses.field(default_factory=list)
    clones: list[float] = dataclasses.field(default_factory=list)
    failed: list[str] = dataclasses.field(default_factory=list)
    clients: Sequence[Client] = ()
    seconds: float = 0.0
    cpu: float = 0.0
    memory: float = 0.0

    def row(self, name: str) -> str:
        """Write it as a line of the table."""
        probes = sorted(self.probes) or [float("nan")]
        p50, p99 = (probes[min(len(probes) - 1, int(len(probes) * share))] for share in (0.5, 0.99))
        good = sum(client.good for client in self.clients)
        rate = sum(client.size for client in self.clients) / self.seconds / 1e6
        rest = ", ".join(f"{count} {what}" for what, count in sorted(troubles(self.clients).items()))
        others = "".join(f"; {what} max {max(times):.1f} s" for what, times in self._others() if times)
        failed = f"; FAILED: {', '.join(sorted(set(self.failed)))}" if self.failed else ""
        return (
            f"{name:30}{len(probes):>6}{p50:>8.3f}{p99:>8.3f}{probes[-1]:>8.2f}{good:>8}{good / self.seconds:>8.0f}"
            f"{rate:>8.0f}{self.cpu:>8.1f}{self.memory:>7.0f}  {rest or 'all good'}{others}{failed}"
        )

    def _others(self) -> Sequence[tuple[str, list[float]]]:
        return ("sync", self.syncs), ("clone", self.clones)


Work = Callable[[Watched], Coroutine[Any, Any, None]]
HEAD = (
    f"{'scenario':30}{'probes':>6}{'p50 s':>8}{'p99 s':>8}{'max s':>8}{'good':>8}{'1/s':>8}{'MB/s':>8}{'CPU s':>8}"
    f"{'MiB':>7}  the others"
)


class Server:
    """A server that is watched: where it listens, what it is asked whether it lives, and its process."""

    def __init__(self, address: Address, probe: str, pid: int) -> None:
        """Look at nothing yet."""
        self.address, self._probe, self.pid = address, probe, pid

    async def watched(self, work: Work, *others: Work) -> Watched:
        """Do `work` while the probes go on, and the `others` again and again."""
        found = Watched()
        cpu, began = self._begin(), time.monotonic()
        aside = [
            asyncio.create_task(self._probing(found)),
            *(asyncio.create_task(_again(one, found)) for one in others),
        ]
        await work(found)
        found.seconds, found.cpu, found.memory = time.monotonic() - began, cpu_of(self.pid) - cpu, peak_of(self.pid)
        for task in aside:
            task.cancel()
        await asyncio.wait(aside)
        return found

    async def _probing(self, found: Watched) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._probed(found))
                await asyncio.sleep(PROBES)

    async def _probed(self, found: Watched) -> None:
        began = time.monotonic()
        try:
            reader, writer = await asyncio.open_connection(*self.address)
            with contextlib.closing(writer):
                writer.write(request(self._probe))
                if not (await reader.read()).startswith(b"HTTP/1.1 200 "):
                    found.failed.append("probe refused")
        except OSError as error:
            found.failed.append(f"probe {type(error).__name__}")
        finally:
            found.probes.append(time.monotonic() - began)  # cut off at the end: at least so long

    def _begin(self) -> float:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # VmHWM begins anew
        return cpu_of(self.pid)


async def _again(work: Work, found: Watched) -> None:
    while True:
        await work(found)
        await asyncio.sleep(0.2)
