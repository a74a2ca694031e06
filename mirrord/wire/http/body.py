"""One request and its answer on the wire, metered in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mirrord.errors import BrokenError, StalledError, TooLargeError
from mirrord.wire.http.message import CAPS, HttpRequest, Limits, Upload, WireResponse
from mirrord.wire.http.pace import PIECE, Bucket, MinThroughput
from mirrord.wire.number import whole
from mirrord.wire.trust import answering

if TYPE_CHECKING:
    from mirrord.wire.http.limiter import HostSlot


class UploadBody:
    """An `Upload` on its way out: exact length, paced, and given up when the other side stops accepting it.

    Time in which the source has nothing to send does not count against the target.

    Attributes:
        watch: the timeout for a target that accepts nothing for too long, or None.
        error: what the source raised; it explains the broken request better than the transport can.
        finished: whether the transport has taken all of it.
    """

    def __init__(self, upload: Upload, host: str, limits: Limits, bucket: Bucket | None) -> None:
        self._upload, self._host, self._limits, self._bucket = upload, host, limits, bucket
        self.watch: asyncio.Timeout | None = None
        self._running: AsyncGenerator[bytes, None] | None = None
        self.error: BaseException | None = None
        self.finished = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Open the upload and begin."""
        self._running = self._run()
        return self._running

    async def aclose(self) -> None:
        """Close the source, also when the other side answered before it had everything."""
        if self._running is not None:
            await asyncio.sleep(0)  # a cancelled writer needs one turn of the loop to stop
            with suppress(RuntimeError):  # it is being closed at this moment
                await self._running.aclose()

    async def _run(self) -> AsyncGenerator[bytes, None]:
        source = self._upload.open()
        try:
            async for chunk in self._metered(source):
                yield chunk
            self.finished = True
        except (GeneratorExit, asyncio.CancelledError):
            raise
        except BaseException as error:
            self.error = error
            raise
        finally:
            self._allow(self._limits.answer)
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()

    async def _metered(self, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        count, size, clock = 0, self._upload.size, asyncio.get_running_loop().time
        throughput = MinThroughput(self._limits.floor, self._limits.window)
        self._allow(None)
        async for chunk in source if self._bucket is None else _cut_all(source):
            count += len(chunk)
            if size is not None and count > size:
                raise BrokenError(f"{self._host}: the source sent more than the {size} bytes announced")
            if self._bucket is not None and (delay := self._bucket.take(len(chunk), clock())):
                await asyncio.sleep(delay)
            self._allow(self._limits.stall)
            before = clock()
            yield chunk
            if not throughput.beat(clock() - before, len(chunk)):
                raise StalledError(f"{self._host}: accepts fewer than {self._limits.floor:.0f} bytes a second")
            self._allow(None)
        if size is not None and count < size:
            raise BrokenError(f"{self._host}: the source ended {size - count} bytes early")

    def _allow(self, seconds: float | None) -> None:
        """Give the other side this long from now; None while we are the ones to send."""
        if self.watch is not None and not self.watch.expired():
            self.watch.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)


@dataclass(slots=True)
class ResponseStream:
    """An answer whose body has not been read."""

    status: int  # one of `HttpRequest.ok`
    headers: Mapping[str, str]  # names in lower case, repeated ones joined by `, `
    url: str  # where it comes from after redirects
    wire: WireResponse = field(repr=False)
    request: HttpRequest = field(repr=False)
    limits: Limits = field(repr=False)
    bucket: Bucket | None = field(repr=False, default=None)
    upload: UploadBody | None = field(repr=False, default=None)
    on_close: Callable[[], None] | None = field(repr=False, default=None)
    place: HostSlot | None = field(repr=False, default=None)  # that another request may take while nobody reads

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the raw bytes as they come, in pieces of up to about 2 MiB; once.

        Raises:
            StalledError: none, or too few in time.
            PreemptedError: the connection was closed for another request while the caller did not read on.
            BrokenError: the connection ended before Content-Length was reached. Without that header the end
                cannot be told from a broken connection: compare size or digest.
        """
        clock = asyncio.get_running_loop().time
        throughput = MinThroughput(self.limits.floor, self.limits.window)
        before = clock()
        async for chunk in self.wire.chunks():
            now = clock()
            # An answer to an upload is not content: a host that works on it sends a few bytes to keep the connection.
            if self.upload is None and not throughput.beat(now - before, len(chunk)):
                host = answering(self.url, self.request.host)
                raise StalledError(f"{host}: sends fewer than {self.limits.floor:.0f} bytes a second")
            for piece in (chunk,) if self.bucket is None else _cut(chunk):
                if self.bucket is not None and (delay := self.bucket.take(len(piece), clock())):
                    await asyncio.sleep(delay)
                if self.place is None:
                    yield piece
                else:
                    with self.place.unread(self.wire.abort):
                        yield piece
            before = clock()

    async def read(self, cap: int) -> bytes:
        """Return the whole body.

        Raises:
            TooLargeError: it is longer than `cap`; nothing beyond was kept.
        """
        announced = 0 if self.request.method == "HEAD" else self._announced()
        if announced == 0:
            return b""
        if (announced or 0) > cap:
            raise self._too_large(cap)
        body = await self.head(cap + 1)
        if len(body) > cap:
            raise self._too_large(cap)
        return body

    async def head(self, size: int) -> bytes:
        """Return the first `size` bytes of the body, or fewer when there are no more."""
        parts: list[bytes] = []
        async with aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                parts.append(chunk[:size])
                size -= len(chunk)
                if size <= 0:
                    break
        return b"".join(parts)

    async def discard(self) -> None:
        """Read a short body to its end, so that the connection can be used again; drop it with any other."""
        announced = self._announced()
        if announced is not None and announced <= CAPS.error:
            await self.head(CAPS.error)
        await self.aclose()

    async def aclose(self) -> None:
        """Give the connection back; an unread body closes it."""
        await self.wire.aclose()
        if self.upload is not None:
            await self.upload.aclose()
        if self.on_close is not None:
            self.on_close()
            self.on_close = None

    def _announced(self) -> int | None:
        return whole(self.headers.get("content-length", ""))

    def _too_large(self, cap: int) -> TooLargeError:
        return TooLargeError(
            f"{self.request.label(self.url)}: the answer has more than {cap} bytes, the limit for its kind"
        )


def _cut(chunk: bytes) -> Iterator[bytes]:
    return (chunk[at : at + PIECE] for at in range(0, len(chunk), PIECE))


async def _cut_all(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in source:
        for piece in _cut(chunk):
            yield piece
