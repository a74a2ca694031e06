"""A classic chart repository in this process: static files on 127.0.0.1 and a free port, every request remembered.

    async with ChartRepository(path="/stable") as repository:
        repository.add(build_chart("crane", "0.11.0"))
        ...
        assert repository.count("GET", "index.yaml") == 1

Files are kept in memory and may be changed at any time, also behind the index's back.
"""

from __future__ import annotations

import gzip
from urllib.parse import unquote

from mirrord.model.digest import Digest
from mirrord.testing.charts import CREATED, Chart, build_index
from mirrord.testing.exchange import Exchange, Wire
from mirrord.testing.faults import Faults
from mirrord.testing.intake import Intake
from mirrord.testing.reply import Reply
from mirrord.testing.server import Guard, Server

INDEX = "index.yaml"


class ChartRepository(Server):
    """A repository double.

    Files are answered with a strong ETag and honour If-None-Match; index.yaml is gzipped for who asks, archives can
    be had in part.

    Attributes:
        path: where on its host the repository is, such as `/stable`.
        files: what it holds, by path below `path` (or below the host when it begins with `/`); may be changed.
        entries: what its index lists; `publish` writes the index anew.
        auth: who may come in (`Auth(basic=…)`); None lets everybody.
        page: when not None, what is answered with 200 instead of a 404: many real servers do.
        zips: whether the index is gzipped for who asks.
        ranges: whether parts can be had.
        tags: whether there are ETags.
    """

    def __init__(
        self,
        *,
        path: str = "",
        auth: Guard | None = None,
        faults: Faults | None = None,
        wire: Wire | None = None,
        page: bytes | None = None,
        zips: bool = True,
        ranges: bool = True,
        tags: bool = True,
    ) -> None:
        super().__init__(faults=faults, wire=wire)
        self.path = path.rstrip("/")
        self.files: dict[str, bytes] = {}
        self.entries: list[dict[str, object]] = []
        self.auth, self.page, self.zips, self.ranges, self.tags = auth, page, zips, ranges, tags

    @property
    def url(self) -> str:
        """URL of the repository, without a trailing slash."""
        return f"{self.base}{self.path}"

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

    async def _reply(self, exchange: Exchange, intake: Intake) -> Reply:  # noqa: ARG002 - it takes no bodies
        if exchange.method not in ("GET", "HEAD"):
            return Reply(405)
        if self.auth is not None:
            denied = self.auth.check(exchange.headers.get("authorization", ""), (), self.base)
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
