"""Feeds one consumer (a target) from the spool of a blob, for artifacts of every kind."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.reader import SpoolReader
from mirrord.blobs.source import BlobSource
from mirrord.errors import DetachedError, MirrordError, RestartedError


async def feed(
    pool: SpoolPool, source: BlobSource, consumer: str, group: str, send: Callable[[SpoolReader], Awaitable[None]]
) -> None:
    """Let `send` take a blob out of its spool; again when it was sent away, and when what came was wrong.

    Args:
        pool: where the blob is, or comes to.
        source: of the blob.
        consumer: who takes it, `<mirror>/<target>`.
        group: of consumers that are waited for when this one was sent away, `<mirror>/`.
        send: sends from the first byte on, each time that it is called.

    Raises:
        MirrordError: what the source, our disk or the consumer said. What a reader raised within an upload comes back
            from there as a broken connection: the reader's own word is told then.
    """
    deferred = False
    with pool.uploading(consumer, group):
        while True:
            async with pool.defer(consumer, group) if deferred else contextlib.nullcontext():
                try:
                    async with pool.reader(source, consumer) as reader:
                        await _sent(reader, send)
                    return
                except DetachedError:
                    deferred = True  # back when the others are through


async def _sent(reader: SpoolReader, send: Callable[[SpoolReader], Awaitable[None]]) -> None:
    while True:
        try:
            await send(reader)
            return
        except MirrordError as error:
            if reader.detached:
                raise DetachedError("the spool is over its budget") from error
            if reader.error and reader.error is not error:
                raise reader.error from error
            if not isinstance(error, RestartedError):
                raise  # bytes that were wrong are read anew; who keeps on bringing them is an error
