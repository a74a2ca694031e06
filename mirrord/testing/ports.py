"""Ports for servers of tests, of which each process has its own."""

from __future__ import annotations

import contextlib
import itertools
import socket
from pathlib import Path
from typing import Final


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago, and that no other process gets which asks for one here.

    Each one is returned once, until all were: a server that is stopped for a while finds its own again.
    """
    for number in itertools.islice(_numbers, _BLOCK):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", number))
            return number
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _own_ports() -> range:
    """Return a block of ports for this process alone, by a name that it holds until it ends; empty if all are held.

    They are below those that the system gives to clients, and to servers that ask for any.
    """
    for first in range(_LOWEST, min(_TAKEN_BY_TESTS, _lowest_taken()) - _BLOCK, _BLOCK):
        held = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError), contextlib.closing(held):
            held.bind(f"\0mirrord.testing ports from {first}")
            held.detach()
            return range(first, first + _BLOCK)
    return range(0)


def _lowest_taken() -> int:
    """Return the first port of those that the system gives."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return 32768


_LOWEST: Final = 16384
_TAKEN_BY_TESTS: Final = 28400  # tests whose servers always have the same ports take them from here on
_BLOCK: Final = 250
_numbers: Final = itertools.cycle(_own_ports())
