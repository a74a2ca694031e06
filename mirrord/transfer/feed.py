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
    """Let `send` read a blob from its spool; repeat after it was detached, and after wrong bytes.

    Args:
        pool: the pool with the blob.
        source: of the blob.
        consumer: the reader, `<mirror>/<target>`.
        group: the consumers to wait for after this one was detached, `<mirror>/`.
        send: sends from the first byte on in each call.

    Raises:
        MirrordError: the source, our disk or the consumer failed. An upload turns an error of its reader into a broken
            connection; the reader's own error is raised then.
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
                    deferred = True  # retried when the others have finished


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
                raise  # wrong bytes are read again; a persistent mismatch is an error
