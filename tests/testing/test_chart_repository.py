"""The double of a chart repository does what static servers do."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from mirrord.syncers.helm.upstream.reading import read_index
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest

CRANE, OTHER = build_chart("crane", "1.2.0+b"), build_chart("crane", "1.3.0")


@pytest.fixture
async def repository() -> AsyncIterator[ChartRepository]:
    async with ChartRepository(path="/stable") as made:
        yield made


async def test_the_double_answers_as_static_servers_do(repository: ChartRepository) -> None:
    """The double knows ETags, gzips the index for who asks, and lists what it holds."""
    repository.add(CRANE)
    call = HttpRequest("GET", f"{repository.url}/index.yaml", repository.host, ok=(200, 304), encoded=True)
    async with Http(HostBook()) as http:
        plain = await http.fetch(call)
        zipped = await http.fetch(replace(call, headers={"Accept-Encoding": "gzip"}))
        again = await http.fetch(replace(call, headers={"If-None-Match": plain.headers["etag"]}))
        assert gzip.decompress(zipped.body) == plain.body
        assert (again.status, again.body) == (304, b"")
        repository.add(OTHER)
        fresh = await http.fetch(replace(call, headers={"If-None-Match": plain.headers["etag"]}))
    assert fresh.status == 200
    listed = {one.version: one.digest for one in read_index(fresh.body).entries}
    assert listed == {CRANE.version: CRANE.digest, OTHER.version: OTHER.digest}
