"""A replica of its own process, for tests that kill or stop it: `python -m tests.support.fleetworker NAME CONNECT LOG`.

It takes runs from the queue. Each run has the lease of its mirror, and writes a name after each check of it: a line
`MIRROR FENCE NAME REPLICA` in the log, which stands for what a registry would get.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from mirrord.errors import FencedError
from mirrord.record.queue import FleetQueue
from tests.support.fleets import QUICK, join

NAMES = 20


async def main(name: str, connect: str, log: str) -> None:
    """Work until somebody ends the process."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    async with join(name, json.loads(connect), QUICK) as fleet:

        async def carry_out(mirror: str, _: str) -> bool:
            try:
                async with fleet.hold(mirror) as lease:
                    for number in range(NAMES):
                        await fleet.check(lease)
                        os.write(file, f"{mirror} {lease.fence} {number} {name}\n".encode())
                        await asyncio.sleep(0.05)
            except FencedError:
                os.write(file, f"{mirror} fenced - {name}\n".encode())
            return True

        queue = FleetQueue(fleet, carry_out, 4)
        await queue.open()
        Path(f"{log}.{name}").touch()
        await asyncio.gather(queue.work(), queue.sweep())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
