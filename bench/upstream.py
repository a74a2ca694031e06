"""A registry behind a line of so many megabytes a second, in a process of its own, with new images on demand.

    python -m bench.upstream [--rate MB]

Prints `HOST:PORT`, and ends with its standard input. `image BYTES` there adds an image of one layer to `bench/app`, and
is answered by its tag, digest and layer; `seen` by what was asked and sent since the last time. All who read share the
line. No two layers are equal, and what is sent is right: whoever checks digests can.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import re
import sys
import time
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from mirrord.testing.images import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from mirrord.testing.server import listen

REPOSITORY: Final = "bench/app"
_PIECE: Final = 64 * 1024
_MARK: Final = 16  # bytes at the begin of a layer, by which it differs from all others
_ROUTE = re.compile(rf"/v2/{REPOSITORY}/(manifests|blobs)/([^/]+)")
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)")


@dataclass(slots=True)
class Seen:
    """What was asked and sent.

    Attributes:
        requests: `METHOD kind`, in order.
        sent: bytes of layers.
        first: when the first of them was sent, on the clock of `time.monotonic`, which all processes share; 0 if none.
    """

    requests: list[str] = field(default_factory=list)
    sent: int = 0
    first: float = 0.0


class Upstream:
    """What it has, what was seen, and the line."""

    def __init__(self, rate: float) -> None:
        """Have nothing; `rate` is in bytes a second, 0 for no limit."""
        self._rate, self._free = rate, 0.0
        self._noise = b""
        self._marks: dict[str, bytes] = {}  # of layers
        self._small: dict[str, bytes] = {}  # manifests by tag and digest, and configs
        self.seen = Seen()

    def add(self, size: int) -> dict[str, str]:
        """Add an image with a layer of so many bytes; layers that are there get that size, too."""
        if len(self._noise) != size - _MARK:
            self._noise = os.urandom(size - _MARK)
        mark = os.urandom(_MARK)
        whole = hashlib.sha256(mark)
        whole.update(self._noise)
        layer = f"sha256:{whole.hexdigest()}"
        config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer]}})
        parts = [(OCI_CONFIG, _digest(config.encode()), len(config)), (OCI_LAYER, layer, size)]
        entries = [{"mediaType": kind, "digest": digest, "size": length} for kind, digest, length in parts]
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entries[0], "layers": entries[1:]}
        body = json.dumps(document).encode()
        tag = f"v{len(self._marks)}"
        self._marks[layer] = mark
        self._small |= {tag: body, _digest(body): body, _digest(config.encode()): config.encode()}
        return {"tag": tag, "digest": _digest(body), "layer": layer}

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        found = _ROUTE.fullmatch(request.path)
        self.seen.requests.append(f"{request.method} {found[1] if found else request.path}")
        if not found:
            return web.Response(status=200 if request.path in ("/v2", "/v2/") else 404, text="{}")
        kind, name = found[1], found[2]
        if name in self._marks:
            return await self._layer(request, name)
        body = self._small.get(name)
        if body is None:
            return web.Response(status=404, text='{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
        media_type = OCI_MANIFEST if kind == "manifests" else "application/octet-stream"
        headers = {"Content-Type": media_type, "Docker-Content-Digest": _digest(body)}
        return web.Response(body=body, headers=headers)  # aiohttp leaves the body out for HEAD

    async def _layer(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        size, start = len(self._noise) + _MARK, 0
        answer = web.StreamResponse(
            headers={
                "Content-Type": "application/octet-stream",
                "Docker-Content-Digest": name,
                "Accept-Ranges": "bytes",
            }
        )
        end = size
        if asked := _RANGE.fullmatch(request.headers.get("Range", "")):
            start, end = int(asked[1]), min(int(asked[2] or size) + 1, size)
            answer.set_status(206)
            answer.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        answer.content_length = end - start
        await answer.prepare(request)
        if request.method == "GET":
            with contextlib.suppress(ConnectionError):
                await self._send(answer, self._marks[name], start, end)
        return answer

    async def _send(self, answer: web.StreamResponse, mark: bytes, start: int, end: int) -> None:
        noise = memoryview(self._noise)
        while start < end:
            stop = min(start + _PIECE, end)
            piece = (
                mark[start:] + bytes(noise[: stop - _MARK]) if start < _MARK else noise[start - _MARK : stop - _MARK]
            )
            await self._turn(len(piece))
            self.seen.first = self.seen.first or time.monotonic()
            await answer.write(piece)
            self.seen.sent += len(piece)
            start = stop

    async def _turn(self, size: int) -> None:
        """Wait until the line is free for so many bytes."""
        if self._rate:
            now = time.monotonic()
            begin = max(self._free, now)
            self._free = begin + size / self._rate
            await asyncio.sleep(begin - now)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


async def serve(rate: float) -> None:
    """Serve until standard input ends, and obey its lines."""
    upstream = Upstream(rate)
    runner, port = await listen(upstream.answer)
    print(f"127.0.0.1:{port}", flush=True)
    while words := (await asyncio.to_thread(sys.stdin.readline)).split():
        if words[0] == "image":
            print(json.dumps(await asyncio.to_thread(upstream.add, int(words[1]))), flush=True)
        else:
            seen, upstream.seen = upstream.seen, Seen()
            print(json.dumps({"requests": seen.requests, "sent": seen.sent, "first": seen.first}), flush=True)
    await runner.cleanup()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=25, help="megabytes a second, 0 for no limit (default 25)")
    asyncio.run(serve(parser.parse_args().rate * 1e6))


if __name__ == "__main__":
    main()
