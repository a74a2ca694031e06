"""A chart repository of any length in a process of its own, that grows when it is told to.

    python -m bench.sources [--charts N]

Prints its URL, and ends with its standard input. Each line there adds one version, and is answered by how many
there are.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
from typing import Any

from aiohttp import web

from mirrord.model.digest import Digest
from mirrord.testing.charts import build_chart
from mirrord.testing.server import listen

NAMES = 200  # charts, over which the versions are spread
_ENTRY = """\
  - apiVersion: v2
    created: "2024-01-01T00:00:00Z"
    description: {name}, for measurements
    digest: {digest}
    name: {name}
    urls: [charts/{file}]
    version: {version}
"""


class ChartSource:
    """An index with all its archives, in memory."""

    def __init__(self, count: int) -> None:
        """Make so many versions."""
        self._files: dict[str, bytes] = {}
        self._entries: dict[str, list[str]] = {}
        for _ in range(count):
            self._add()
        self._publish()

    def grow(self) -> int:
        """Add one version."""
        self._add()
        self._publish()
        return len(self._files)

    def _add(self) -> None:
        number = len(self._files)
        name, version = f"chart-{number % NAMES}", f"1.{number // NAMES}.0"
        chart = build_chart(name, version)
        self._files[f"/charts/{chart.file}"] = chart.data
        digest = hashlib.sha256(chart.data).hexdigest()
        entry = _ENTRY.format(name=name, version=version, digest=digest, file=chart.file)
        self._entries.setdefault(name, []).append(entry)

    def _publish(self) -> None:
        parts = ["apiVersion: v1\nentries:\n"]
        for name, entries in self._entries.items():
            parts += [f"  {name}:\n", *entries]
        self._index = "".join([*parts, 'generated: "2024-01-01T00:00:00Z"\n']).encode()
        self._tag = f'"{Digest.of(self._index).hex}"'

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if request.path == "/index.yaml":
            if request.headers.get("If-None-Match") == self._tag:
                return web.Response(status=304)
            return web.Response(body=self._index, headers={"ETag": self._tag})
        data = self._files.get(request.path)
        return web.Response(status=404) if data is None else web.Response(body=data)


async def serve(count: int) -> None:
    """Serve until standard input ends."""
    source = ChartSource(count)
    runner, port = await listen(source.answer)
    print(f"http://127.0.0.1:{port}", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(source.grow(), flush=True)
    await runner.cleanup()


def main(argv: Any = None) -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--charts", type=int, default=1000, help="versions (default 1000)")
    asyncio.run(serve(parser.parse_args(argv).charts))


if __name__ == "__main__":
    main()
