"""Resumes a download where it broke off."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from mirrord.errors import ContentError, RestartedError
from mirrord.wire.http.body import ResponseStream
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest
from mirrord.wire.number import whole

_RANGE: Final = re.compile(r"bytes (?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})/(?P<total>[0-9]{1,18}|\*)")


LONGEST: Final = 10**18  # bytes of what is read


@dataclass(slots=True)
class Validator:
    """Proves that the rest of a download belongs to its beginning, where no digest does (RFC 9110 section 8.8)."""

    etag: str = ""  # a strong one, of the first part; "" when the server sent none


@asynccontextmanager
async def from_offset(
    http: Http, call: HttpRequest, offset: int, what: str = "", same: Validator | None = None
) -> AsyncIterator[tuple[int | None, AsyncIterator[bytes]]]:
    """Stream what `call` asks for, from byte `offset` on, also from a server that ignores Range.

    Gives the whole length (None if the server does not announce it) and the bytes.

    Args:
        http: the way to the server.
        call: the request.
        offset: where to begin.
        what: its name in messages; the host by default.
        same: of an earlier part; remembers what begins at 0.

    Raises:
        ContentError: another part was sent than was asked for.
        RestartedError: the content changed, or that cannot be ruled out.
        MirrordError: as `Http.stream`.
    """
    what, headers = what or call.host, dict(call.headers)
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if same is not None and not same.etag:
            raise RestartedError(f"{what}: broke off and cannot be resumed: the server sent no ETag")
        if same is not None:
            headers["If-Range"] = same.etag
    async with http.stream(replace(call, headers=headers, ok=(200, 206))) as incoming:
        start, size = _part(incoming, offset, what)
        etag = incoming.headers.get("etag", "")
        if same is not None and offset and etag != same.etag:
            raise RestartedError(f"{what}: changed while it was read")
        if same is not None:
            same.etag = "" if etag.startswith("W/") else etag
        yield size, _without(incoming.chunks(), offset - start) if start < offset else incoming.chunks()


def _part(incoming: ResponseStream, offset: int, what: str) -> tuple[int, int | None]:
    """Return the number of the first byte that is sent, and how many there are in all."""
    if incoming.status == 200:
        return 0, whole(incoming.headers.get("content-length", ""))
    part = _RANGE.fullmatch(incoming.headers.get("content-range", ""))
    size = whole(part["total"]) if part else None
    end = LONGEST if size is None else size
    if part is None or int(part["first"]) != offset or not offset <= int(part["last"]) < end:
        raise ContentError(f"{what}: was asked for the bytes from {offset} on, and sends another part")
    return offset, size


async def _without(chunks: AsyncIterator[bytes], skip: int) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        if skip < len(chunk):
            yield chunk[skip:]
        skip = max(0, skip - len(chunk))
