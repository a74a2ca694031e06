"""A chart repository in a process of its own, each of whose answers takes a round trip: for measurements."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from aiohttp import web

from mirrord.model.digest import Digest
from mirrord.testing.charts import build_chart, build_index
from mirrord.testing.server import listen

SPAWN = multiprocessing.get_context("spawn")


@contextmanager
def slow_repository(charts: int, size: int, delay: float) -> Iterator[str]:
    """Serve `charts` versions of twenty charts, `size` bytes each, until the context ends; give the URL."""
    ours, theirs = SPAWN.Pipe()
    child = SPAWN.Process(target=_serve, args=(theirs, charts, size, delay))
    child.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        child.join()


def _serve(pipe: Connection, count: int, size: int, delay: float) -> None:
    charts = [build_chart(f"chart-{n % 20}", f"1.{n}.0", {"files/pad": os.urandom(size)}) for n in range(count)]
    files = {f"/charts/{chart.file}": chart.data for chart in charts}
    files["/index.yaml"] = build_index(chart.entry() for chart in charts)
    tag = f'"{Digest.of(files["/index.yaml"]).hex}"'

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(delay)
        if request.path not in files:
            return web.Response(status=404)
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304)
        return web.Response(body=files[request.path], headers={"ETag": tag} if request.path == "/index.yaml" else {})

    async def work() -> None:
        runner, port = await listen(handle, 0)
        pipe.send(f"http://127.0.0.1:{port}")
        await asyncio.to_thread(pipe.recv)
        await runner.cleanup()

    asyncio.run(work())
