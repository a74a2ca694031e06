"""What all comparisons have in common: runs by turns, medians with their spread, ratios, and what machine it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bench.peers import search_path

OURS = "mirrord"
METER = Path(__file__).with_name("meter.py")
Measured = dict[str, float]
Results = dict[str, list[Measured]]


class Child:
    """A program that says where it is in its first line, and answers lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Wait for its first line."""
        self._process = process
        self.first = self._line()

    def tell(self, line: str) -> str:
        """Say something, and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextlib.contextmanager
def child(*arguments: object) -> Iterator[Child]:
    """Run a module in a process of its own, until the block ends."""
    argv = [sys.executable, "-m", *map(str, arguments)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Child(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


async def measure(commands: Sequence[Sequence[str]], env: Mapping[str, str] | None = None) -> Measured:
    """Run commands at once; return wall and CPU seconds, and the sum of their peak memory in MiB.

    Raises:
        RuntimeError: one of them failed; it carries what they wrote.
    """
    pipe = asyncio.subprocess.PIPE
    compiled = {"PYTHONDONTWRITEBYTECODE": ""}  # as installed programs are: 0.5 s a start
    environ = {**os.environ, **compiled, "PATH": search_path(), **(env or {})}
    argv = [sys.executable, "-I", "-S", str(METER)]  # without what it does not need: it is small
    meter = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, env=environ)
    told, _ = await meter.communicate(json.dumps({"commands": commands}).encode())
    found = json.loads(told)
    failed = found.pop("failed")
    if failed:
        raise RuntimeError(f"{' '.join(commands[0])}: {failed}")
    return {key: float(value) for key, value in found.items()}


async def by_turns(tools: Sequence[str], runs: int, once: Callable[[str], Awaitable[Measured]]) -> Results:
    """Let the tools take turns, in an order that alternates."""
    results: Results = {tool: [] for tool in tools}
    for number in range(runs):
        for tool in tools if number % 2 == 0 else tools[::-1]:
            results[tool].append(await once(tool))
    return results


def medians(results: Results) -> dict[str, Measured]:
    """Return the medians of each tool."""
    return {
        tool: {key: statistics.median(run[key] for run in made) for key in made[0]} for tool, made in results.items()
    }


def table(title: str, results: Results) -> str:
    """Return medians with smallest and largest, and what mirrord's median is of each peer's."""
    middle = medians(results)
    peers = [tool for tool in results if tool != OURS]
    lines = [
        f"\n{title:24}" + "".join(f"{tool:>22}" for tool in results) + "".join(f"{f'/{peer}':>10}" for peer in peers)
    ]
    for key in middle[OURS]:
        row = f"{key:24}"
        for tool, made in results.items():
            values = [run[key] for run in made]
            spread = "" if min(values) == max(values) else f" ({_short(min(values))}-{_short(max(values))})"
            row += f"{_short(middle[tool][key]) + spread:>22}"
        lines.append(row + "".join(f"{_ratio(middle[OURS][key], middle[peer][key]):>10}" for peer in peers))
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _ratio(ours: float, other: float) -> str:
    return f"{ours / other:.2f}" if other else "-"


def machine(versions: Mapping[str, str]) -> str:
    """Return what this was measured on and with: without that no number says anything."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"(?m)^model name\s*: (.*)$", info)
    flags = re.search(r"(?m)^(?:flags|Features)\s*: (.*)$", info)
    sha = "with" if flags and {"sha_ni", "sha2"} & set(flags[1].split()) else "without"
    tools = ", ".join(f"{name} {number}" for name, number in versions.items())
    return (
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {sha} SHA instructions, load before "
        f"{os.getloadavg()[0]:.1f}; Python {platform.python_version()}; {tools}"
    )
