"""Goes on with a download where it broke."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from mirrord.errors import ContentError
from mirrord.wire.http.body import ResponseStream
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest

_RANGE: Final = re.compile(r"bytes (?P<first>[0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)")


@asynccontextmanager
async def from_offset(http: Http, call: HttpRequest, offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
    """Stream what `call` asks for, from byte `offset` on, also from a server that ignores Range.

    Raises:
        ContentError: another part was sent than was asked for.
        MirrordError: as `Http.stream`.
    """
    headers = {**call.headers, "Range": f"bytes={offset}-"} if offset else call.headers
    ranged = replace(call, headers=headers, ok=(200, 206))
    async with http.stream(ranged) as incoming:
        skip = offset - _start(incoming, offset, call.host)
        yield _without(incoming.chunks(), skip) if skip else incoming.chunks()


def _start(incoming: ResponseStream, offset: int, host: str) -> int:
    """Return the number of the first byte that is sent."""
    if incoming.status == 200:
        return 0
    part = _RANGE.fullmatch(incoming.headers.get("content-range", ""))
    if part is None or int(part["first"]) != offset:
        raise ContentError(f"{host}: was asked for the bytes from {offset} on, and sends another part")
    return offset


async def _without(chunks: AsyncIterator[bytes], skip: int) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        if skip < len(chunk):
            yield chunk[skip:]
        skip = max(0, skip - len(chunk))
