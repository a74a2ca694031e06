"""Where ChartMuseum's API is, and the forms that it takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote, urlsplit, urlunsplit

from mirrord.blobs.reader import SpoolReader
from mirrord.wire.http.message import Upload


def api_url(url: str, context: str) -> str:
    """Return where charts are posted: `api` goes between the context path and the repository.

    `https://host/ctx/org/repo` with context `/ctx` → `https://host/ctx/api/org/repo/charts`.
    """
    parts, front = urlsplit(url), _front(context)
    rest = parts.path.rstrip("/")[len(front) :] if below(url, context) else parts.path.rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, f"{front}/api{rest}/charts", "", ""))


def below(url: str, context: str) -> bool:
    """Whether a repository is below a context path; what an index says of it goes only then (a proxy may hide it)."""
    path, front = urlsplit(url).path, _front(context)
    return path == front or path.startswith(f"{front}/")


def _front(context: str) -> str:
    return f"/{context.strip('/')}" if context.strip("/") else ""


def form(boundary: str, file: str, reader: SpoolReader) -> Upload:
    """Return a form (RFC 7578) with the archive as it comes."""
    disposition = f'Content-Disposition: form-data; name="chart"; filename="{file}"'
    head = f"--{boundary}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
    tail = f"\r\n--{boundary}--\r\n".encode()

    async def chunks() -> AsyncIterator[bytes]:
        yield head
        async for chunk in reader.chunks():
            yield chunk
        yield tail

    return Upload(len(head) + reader.size + len(tail), chunks)


def version_url(charts: str, name: str, version: str) -> str:
    """Return where one version is deleted; `charts` is where charts are posted."""
    return f"{charts}/{quote(name)}/{quote(version, safe='')}"
