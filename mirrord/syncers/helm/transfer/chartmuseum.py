"""ChartMuseum's API, which Harbor before 2.8, Gitea and others speak as well."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from urllib.parse import urlsplit, urlunsplit

from mirrord import failpoints
from mirrord.blobs.spool import Reader
from mirrord.errors import RefusedError
from mirrord.model import Digest
from mirrord.syncers.helm.names import PROVENANCE, ChartVersion
from mirrord.syncers.helm.transfer.listed import PAUSES, ServedIndex, upload
from mirrord.syncers.helm.transfer.target import IndexFile, Reading
from mirrord.wire.http import Http
from mirrord.wire.message import Call, Upload


class ChartMuseumTarget:
    """One repository of a ChartMuseum.

    It dates charts by their arrival, and with a limit for each chart removes what came first: hence `oldest_first`.
    """

    provenance = True
    oldest_first = True

    def __init__(
        self, http: Http, url: str, reading: Reading, *, context: str = "", pauses: Sequence[float] = PAUSES
    ) -> None:
        """Write to the repository whose index is `<url>/index.yaml`; `context` is the server's `--context-path`."""
        self._http = http
        self._index = ServedIndex(http, url, reading, pauses)
        self._api = api_url(self._index.url, context)
        self._put: dict[str, Digest] = {}
        self.place = self._index.url

    async def held(self, charts: Collection[ChartVersion] = ()) -> Mapping[str, Digest]:  # noqa: ARG002 - the port's signature
        """Read its index."""
        return await self._index.read()

    async def put(self, chart: ChartVersion, reader: Reader, prov: bytes | None, *, replace: bool = False) -> None:
        """POST archive and provenance in one form, so that neither is there alone; `?force` replaces."""
        boundary = secrets.token_hex(16)  # nobody can write a file that holds it
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        url = f"{self._api}?force" if replace else self._api
        body = _form(boundary, chart.file, reader, prov)
        call = Call("POST", url, self._index.host, headers=headers, body=body, ok=(200, 201))
        digest = reader.spool.wanted.digest
        try:
            await upload(self._http, call, reader)
        except RefusedError as error:
            if error.status != 409:
                raise
            await self._index.settle(chart.item, digest, error)
        failpoints.hit("push.tag")
        self._put[chart.item] = digest

    async def finish(self, index: IndexFile) -> None:  # noqa: ARG002 - ChartMuseum makes its own
        """Wait until ChartMuseum's own index lists what was put."""
        if self._put:
            await self._index.confirm(self._put)
        self._put.clear()


def api_url(url: str, context: str) -> str:
    """Return where charts are posted: `api` goes between the context path and the repository.

    `https://host/ctx/org/repo` with context `/ctx` → `https://host/ctx/api/org/repo/charts`.
    """
    parts = urlsplit(url)
    front = f"/{context.strip('/')}" if context.strip("/") else ""
    within = parts.path == front or parts.path.startswith(f"{front}/")
    rest = parts.path.rstrip("/")[len(front) :] if within else parts.path.rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, f"{front}/api{rest}/charts", "", ""))


def _form(boundary: str, file: str, reader: Reader, prov: bytes | None) -> Upload:
    """Return a form (RFC 7578) whose first part is the archive as it comes."""
    head = _part(boundary, "chart", file)
    tail = b"" if prov is None else b"\r\n" + _part(boundary, "prov", f"{file}{PROVENANCE}") + prov
    tail += f"\r\n--{boundary}--\r\n".encode()

    async def chunks() -> AsyncIterator[bytes]:
        yield head
        async for chunk in reader.chunks():
            yield chunk
        yield tail

    return Upload(len(head) + reader.spool.wanted.size + len(tail), chunks)


def _part(boundary: str, field: str, file: str) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{field}"; filename="{file}"'
    return f"--{boundary}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
