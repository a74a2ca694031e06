"""Reads a request's body whole, out of its coding, within bounds: for who must know all of it before it is acted on."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from mirrord.serving import Content

_GZIP: Final = ("gzip", "x-gzip")


class _BodyError(Exception):
    """The body is not taken: HTTP status, and a reason for people."""


async def admitted(
    request: web.Request, admit: Callable[[bytes], Awaitable[Content | None]], largest: int, patience: float
) -> bytes | web.Response:
    """Return the body, plain, when `admit` lets it pass, or else what to answer.

    Args:
        request: whose body was not read yet.
        admit: judges the body.
        largest: bytes that it may have, as it comes and plain.
        patience: seconds in which all of it must come.
    """
    try:
        async with asyncio.timeout(patience):
            body = await _whole(request, largest)
    except _BodyError as error:
        status, reason = error.args
        return web.Response(status=status, text=f"{reason}\n")
    except TimeoutError:
        return web.Response(status=408, text="the request does not go on\n")
    refused = await admit(body)
    return body if refused is None else web.Response(status=refused.status, headers=refused.headers, body=refused.body)


async def _whole(request: web.Request, largest: int) -> bytes:
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in {*_GZIP, "identity"}:
        raise _BodyError(415, "a request may be compressed with gzip only")
    body = bytearray()
    try:
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > largest:
                raise _BodyError(413, f"a request may have {largest} bytes")
    except web.RequestPayloadError as error:
        raise _BodyError(400, "the request's body cannot be read") from error
    return _plain(bytes(body), largest) if coding in _GZIP else bytes(body)


def _plain(packed: bytes, largest: int) -> bytes:
    reader = zlib.decompressobj(wbits=31)
    try:
        plain = reader.decompress(packed, largest + 1)
    except zlib.error as error:
        raise _BodyError(400, "the request's body cannot be read") from error
    if len(plain) > largest:
        raise _BodyError(413, f"a request may have {largest} bytes")
    if not reader.eof or reader.unused_data:
        raise _BodyError(400, "the request's body cannot be read")
    return plain
