"""A classic chart repository in this process: static files on 127.0.0.1 and a free port, every request remembered.

    async with ChartRepository(path="/stable") as repository:
        repository.add(build_chart("crane", "0.11.0"))
        ...
        assert repository.count("GET", "index.yaml") == 1

Files are kept in memory and may be changed at any time, also behind the index's back.
"""

from __future__ import annotations

import gzip
from types import TracebackType
from typing import Self
from urllib.parse import unquote

from aiohttp import web

from mirrord.model.digest import Digest
from mirrord.testing.auth import Auth
from mirrord.testing.charts import CREATED, Chart, build_index
from mirrord.testing.exchange import Exchange, Moment, Wire
from mirrord.testing.faults import Faults
from mirrord.testing.intake import NO_FAULT, Outlet
from mirrord.testing.listening import listen
from mirrord.testing.reply import Reply

INDEX = "index.yaml"


class ChartRepository:
    """A repository double; an async context manager.

    Files are answered with a strong ETag and honour If-None-Match; index.yaml is gzipped for who asks, archives can
    be had in part.

    Attributes:
        path: where on its host the repository is, such as `/stable`.
        files: what it holds, by path below `path` (or below the host when it begins with `/`); may be changed.
        entries: what its index lists; `publish` writes the index anew.
        auth: who may come in (`Auth(basic=…)`); None lets everybody.
        faults: what goes wrong, on order.
        wire: where all requests are logged.
        page: when not None, what is answered with 200 instead of a 404: many real servers do.
        zips: whether the index is gzipped for who asks.
        ranges: whether parts can be had.
        tags: whether there are ETags.
        host: `127.0.0.1:PORT`, once started.
    """

    def __init__(
        self,
        *,
        path: str = "",
        auth: Auth | None = None,
        faults: Faults | None = None,
        wire: Wire | None = None,
        page: bytes | None = None,
        zips: bool = True,
        ranges: bool = True,
        tags: bool = True,
    ) -> None:
        self.path = path.rstrip("/")
        self.files: dict[str, bytes] = {}
        self.entries: list[dict[str, object]] = []
        self.auth, self.faults, self.wire = auth, faults or Faults(), wire or Wire()
        self.page, self.zips, self.ranges, self.tags = page, zips, ranges, tags
        self.host = ""
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        """URL of the repository, without a trailing slash."""
        return f"http://{self.host}{self.path}"

    @property
    def log(self) -> list[Exchange]:
        """All requests that came here, in order."""
        return [exchange for exchange in self.wire.exchanges if exchange.server == self.host]

    def select(self, method: str, pattern: str) -> list[Exchange]:
        """Return the requests that match: `method` as `GET` or `*`, `pattern` searched in path?query."""
        return [exchange for exchange in self.log if exchange.matches(method, pattern)]

    def count(self, method: str, pattern: str) -> int:
        """Count the requests that match."""
        return len(self.select(method, pattern))

    def sent(self, pattern: str = "") -> int:
        """Count the body bytes sent in answer to requests that match."""
        return sum(exchange.sent for exchange in self.select("*", pattern))

    def forget(self) -> None:
        """Empty the log, to count anew."""
        self.wire.exchanges.clear()

    def add(
        self, chart: Chart, *urls: str, prov: bytes | None = None, digest: str | None = "", created: str = CREATED
    ) -> None:
        """Put a chart to `charts/`, list it (under other `urls`, with another `digest`) and write the index."""
        file = f"charts/{chart.file}"
        self.files[file] = chart.data
        if prov is not None:
            self.files[f"{file}.prov"] = prov
        self.entries.append(chart.entry(*urls, digest=digest, created=created))
        self.publish()

    def publish(self) -> None:
        """Write index.yaml from `entries`."""
        self.files[INDEX] = build_index(self.entries)

    async def start(self) -> None:
        """Listen; after `stop` on the same port again."""
        self._runner, port = await listen(self._handle, int(self.host.rpartition(":")[2] or 0))
        self.host = f"127.0.0.1:{port}"

    async def stop(self) -> None:
        """Break all connections and refuse new ones; files and log stay."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.path_qs.partition("?")
        headers = {name.lower(): value for name, value in request.headers.items()}
        exchange = self.wire.begin(self.host, request.method, path, query, headers)
        fault = self.faults.take(request.method, exchange.target) or NO_FAULT
        outlet = Outlet(request, exchange, self.wire, fault)
        try:
            for action in fault.before:
                action()
            if fault.held:
                await fault.wait()
            if fault.dropped:
                return await outlet.drop()
            response = await outlet.send(Reply(*fault.instead) if fault.instead else self._reply(exchange))
            for action in fault.afterwards:
                action()
            return response
        finally:
            self.wire.mark(exchange, Moment.ENDED)

    def _reply(self, exchange: Exchange) -> Reply:
        if exchange.method not in ("GET", "HEAD"):
            return Reply(405)
        if self.auth is not None:
            denied = self.auth.check(exchange.headers.get("authorization", ""), (), f"http://{self.host}")
            if denied is not None:
                return denied
        path = unquote(exchange.path)
        data = self.files.get(path)
        if data is None and path.startswith(f"{self.path}/"):
            data = self.files.get(path[len(self.path) + 1 :])
        if data is None:
            return Reply(404) if self.page is None else Reply(200, {"Content-Type": "text/html"}, self.page)
        return self._file(path, data, exchange)

    def _file(self, path: str, data: bytes, exchange: Exchange) -> Reply:
        headers = {"Content-Type": "text/yaml" if path.endswith(".yaml") else "application/gzip"}
        if self.tags:
            headers["ETag"] = f'"{Digest.of(data).hex[:16]}"'
            if exchange.headers.get("if-none-match") == headers["ETag"]:
                return Reply(304, headers)
        if self.zips and path.endswith(".yaml") and "gzip" in exchange.headers.get("accept-encoding", ""):
            return Reply(200, {**headers, "Content-Encoding": "gzip"}, gzip.compress(data, mtime=0))
        begin = exchange.headers.get("range", "").removeprefix("bytes=").removesuffix("-")
        if self.ranges and begin.isdigit():
            if int(begin) >= len(data):
                return Reply(416, {"Content-Range": f"bytes */{len(data)}"})
            part = {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}
            return Reply(206, {**headers, **part}, data[int(begin) :])
        return Reply(200, headers, data)
