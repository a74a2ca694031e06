"""Chart servers in this process, on 127.0.0.1 and a free port: Coding's repositories and ChartMuseum.

    async with ChartMuseumServer() as server:
        ...
        assert server.count("POST", "/api/charts") == 1

Each keeps its files in memory, makes its own index, remembers every request, and fails on order.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, unquote

import yaml

from mirrord.testing.distribution import Ask
from mirrord.testing.exchange import Exchange, Wire
from mirrord.testing.intake import Intake
from mirrord.testing.reply import Reply
from mirrord.testing.server import Server
from tests.support.chartfiles import chart_metadata, form_fields

LARGEST = 20 << 20  # ChartMuseum's --max-upload-size
_NAME = re.compile(rb"^name: (\S+)$", re.MULTILINE)
_VERSION = re.compile(rb"^version: (\S+)$", re.MULTILINE)


class ChartServer(Server):
    """What chart servers have in common.

    Attributes:
        path: of the repository, without a slash at the end.
        files: archives and provenance files, by file name.
        lag: how many reads of the index come before it shows what was stored or deleted last (it is made in the
            background).
        clock: the server's own, in seconds; by default one passes with each file.
        times: when each file came.
    """

    def __init__(
        self, path: str = "", *, user: tuple[str, str] | None = None, wire: Wire | None = None, lag: int = 0
    ) -> None:
        super().__init__(wire=wire)
        self.path = path
        self.files: dict[str, bytes] = {}
        self.clock: Callable[[], float] = count(1_704_067_200).__next__
        self.times: dict[str, float] = {}
        self.lag = lag
        self._user = user
        self._hidden: dict[str, int] = {}
        self._deleted: dict[str, tuple[bytes, int]] = {}

    @property
    def url(self) -> str:
        """URL of the repository."""
        return f"http://{self.host}{self.path}"

    async def answer(self, ask: Ask, intake: Intake) -> Reply:
        """Answer a request that may come in."""
        raise AssertionError(f"{ask.method} {ask.path} {intake.size}: each double says its own")

    def store(self, file: str, data: bytes) -> None:
        """Keep a file; the index shows it after `lag` reads."""
        self.files[file] = data
        self.times[file] = self.clock()
        self._hidden[file] = self.lag

    def delete(self, file: str) -> bytes:
        """Forget an archive with its provenance; the index lists it for `lag` more reads."""
        data = self.files.pop(file, b"")
        if data and self.lag:
            self._deleted[file] = data, self.lag
        self.files.pop(f"{file}.prov", None)
        return data

    def index(self, prefix: str = "charts/", *, digests: bool = True, context: str | None = None) -> Reply:
        """Make the index.

        Args:
            prefix: stands before the file names in urls, `{name}` in it for the chart's.
            digests: whether it tells them.
            context: what `serverInfo` says, None without one.
        """
        entries: dict[str, list[dict[str, Any]]] = {}
        archives = [(file, data) for file, data in self.files.items() if file.endswith(".tgz")]
        archives += [(file, data) for file, (data, _) in self._deleted.items()]
        self._deleted = {file: (data, left - 1) for file, (data, left) in self._deleted.items() if left > 1}
        for file, data in archives:
            self._hidden[file] = self._hidden.get(file, 0) - 1
            if self._hidden[file] >= 0:
                continue
            metadata = chart_metadata(data)
            created = datetime.fromtimestamp(self.times.setdefault(file, self.clock()), UTC)
            made = {
                "created": created.isoformat().replace("+00:00", "Z"),
                "urls": [prefix.replace("{name}", metadata["name"]) + file],
            }
            if digests:
                made["digest"] = hashlib.sha256(data).hexdigest()
            entries.setdefault(metadata["name"], []).insert(0, {**metadata, **made})
        document = {"apiVersion": "v1", "entries": entries, "generated": "2024-01-01T00:00:00Z"}
        if context is not None:
            document["serverInfo"] = {"contextPath": context} if context else {}
        return Reply(200, {"Content-Type": "application/x-yaml"}, yaml.safe_dump(document).encode())

    async def _reply(self, exchange: Exchange, intake: Intake) -> Reply:
        query = dict(parse_qsl(exchange.query, keep_blank_values=True))
        ask = Ask(exchange.method, unquote(exchange.path), query, exchange.headers)
        if self._user is not None:
            wanted = base64.b64encode(":".join(self._user).encode()).decode()
            if ask.headers.get("authorization") != f"Basic {wanted}":
                return Reply(401, {"WWW-Authenticate": 'Basic realm="charts"'}, b"unauthorized")
        return await self.answer(ask, intake)


class CodingServer(ChartServer):
    """A repository of Coding: the raw archive by POST to its URL, an index, and nothing else.

    Attributes:
        overwrite: the setting of the repository.
        refuses: status for a version that exists.
    """

    def __init__(self, *, overwrite: bool = False, refuses: int = 409, **options: Any) -> None:
        super().__init__("/team/charts", **options)
        self.overwrite = overwrite
        self.refuses = refuses

    async def answer(self, ask: Ask, intake: Intake) -> Reply:
        """Answer."""
        if ask.method == "POST" and ask.path == self.path:
            return await self._post(intake)
        if ask.method != "GET" or not ask.path.startswith(f"{self.path}/"):
            return Reply(404)
        rest = ask.path.removeprefix(f"{self.path}/")
        if rest == "index.yaml":
            return self.index(f"{self.url}/{{name}}/") if self.files else Reply(404)
        data = self.files.get(rest.rpartition("/")[2])
        return Reply(404) if data is None else Reply(200, {"Content-Type": "application/octet-stream"}, data)

    async def _post(self, intake: Intake) -> Reply:
        data = await intake.read(LARGEST)
        try:
            metadata = chart_metadata(data or b"")
        except ValueError as error:
            return Reply(400, {}, f"not a chart: {error}".encode())
        file = f"{metadata['name']}-{metadata['version']}.tgz"
        if file in self.files and not self.overwrite:
            return Reply(self.refuses, {}, f"{file} already exists".encode())
        self.store(file, data or b"")
        return Reply(200)


class ChartMuseumServer(ChartServer):
    """ChartMuseum's API and repository, one tenant; its answers are those of a real 0.16.5 (2026-11-28).

    Attributes:
        force: whether `?force` replaces (`--disable-force-overwrite` is the opposite).
        context: context path; `path` begins with it.
        says: the context path in its index (servers before 0.8 tell none).
        deletes: whether it lets charts be deleted (`--disable-delete` is the opposite).
        keeps: whether it says so and has them still (a storage that lets nothing be deleted for a time).
        limit: `--per-chart-limit`, 0 for none. Then a form with a provenance fails half-way, as the real one does:
            it takes the provenance for a chart.
    """

    def __init__(
        self, path: str = "", *, context: str = "", force: bool = True, limit: int = 0, **options: Any
    ) -> None:
        super().__init__(path, **options)
        self.context = self.says = context
        self.force = force
        self.limit = limit
        self.deletes = True
        self.keeps = False

    async def answer(self, ask: Ask, intake: Intake) -> Reply:
        """Answer."""
        api = f"{self.context}/api{self.path.removeprefix(self.context)}"
        if ask.method == "POST" and ask.path in (f"{api}/charts", f"{api}/prov"):
            return await self._post(ask, intake, provenance=ask.path.endswith("/prov"))
        if ask.method == "DELETE" and self.deletes and ask.path.startswith(f"{api}/charts/"):
            file = "-".join(ask.path.removeprefix(f"{api}/charts/").split("/")) + ".tgz"
            if self.keeps or self.delete(file):
                return Reply(200, {}, b'{"deleted":true}')
            return error_reply(404, f"remove /charts/{file}: no such file or directory")
        if ask.method == "GET" and ask.path == f"{self.path}/index.yaml":
            return self.index(context=self.says)
        data = self.files.get(ask.path.removeprefix(f"{self.path}/charts/"))
        if ask.method == "GET" and data is not None:
            return Reply(200, {"Content-Type": "application/x-tar"}, data)
        return error_reply(404, "object not found" if ask.path.startswith(f"{self.path}/charts/") else "not found")

    async def _post(self, ask: Ask, intake: Intake, *, provenance: bool) -> Reply:
        body = await intake.read(LARGEST)
        if body is None:
            return Reply(413)
        fields = {"prov": body} if provenance else form_fields(ask.headers.get("content-type", ""), body)
        try:
            files = {_file_name(field, data): data for field, data in fields.items()}
        except ValueError as error:
            return error_reply(500 if provenance else 400, str(error))
        if not files:
            return error_reply(400, "no package or provenance file found in form fields chart and prov")
        if self.files.keys() & files.keys() and not (self.force and "force" in ask.query):
            return error_reply(409, "file already exists" if provenance else "chart already exists")
        for file, data in files.items():
            if self.limit and not provenance and not file.endswith(".tgz"):
                for stored in files.keys() & self.files.keys():
                    del self.files[stored]
                return error_reply(500, "invalid chart package")
            if self.limit and not provenance:
                self._make_room(chart_metadata(data)["name"])
            self.store(file, data)
        return Reply(201, {"Content-Type": "application/json; charset=utf-8"}, b'{"saved":true}')

    def _make_room(self, name: str) -> None:
        """Drop the chart that came first, to the second; of several, the first one by name, as they are listed."""
        there = [file for file, data in sorted(self.files.items()) if _is_of(file, data, name)]
        if len(there) >= self.limit:
            del self.files[min(there, key=lambda file: int(self.times[file]))]


def _is_of(file: str, data: bytes, name: str) -> bool:
    return file.endswith(".tgz") and chart_metadata(data)["name"] == name


def _file_name(field: str, data: bytes) -> str:
    if field == "chart":
        metadata = chart_metadata(data)
        return f"{metadata['name']}-{metadata['version']}.tgz"
    name, version = _NAME.search(data), _VERSION.search(data)
    if name is None or version is None:
        raise ValueError("invalid provenance file")
    return f"{name[1].decode()}-{version[1].decode()}.tgz.prov"


def error_reply(status: int, message: str) -> Reply:
    """Return an error as these servers tell them."""
    return Reply(status, {"Content-Type": "application/json; charset=utf-8"}, f'{{"error":"{message}"}}'.encode())
