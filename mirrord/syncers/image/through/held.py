"""A reader of a blob that is held from the moment the source answers until the client has what it asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing

from mirrord.blobs.reader import SpoolReader
from mirrord.errors import MirrordError

Enter = Callable[[], AbstractAsyncContextManager[SpoolReader]]


class HeldReader:
    """Joins the one transfer of a blob for one answer.

    The reader is entered before the headers are sent, so that an upstream that does not answer is an error of its own,
    and is left when the answer has ended, or never began. Its task does both, as the pool demands.

    Attributes:
        failed: called with an error in the middle of the content; or None.
    """

    failed: Callable[[MirrordError], None] | None = None

    def __init__(self, enter: Enter) -> None:
        """Begin to join."""
        self._ready: asyncio.Future[SpoolReader] = asyncio.get_running_loop().create_future()
        self._released = asyncio.Event()
        self._task = asyncio.create_task(self._hold(enter))

    async def answered(self) -> None:
        """Wait until the source has answered.

        Raises:
            MirrordError: it has not, or with an error.
        """
        try:
            await asyncio.shield(self._ready)
        except BaseException:
            self.release()
            raise

    async def pieces(self, offset: int, count: int) -> AsyncGenerator[bytes, None]:
        """Yield `count` bytes from `offset` on; once. Raises as `SpoolReader.chunks`."""
        reader = await asyncio.shield(self._ready)
        reader.offset = offset
        async with aclosing(reader.chunks()) as chunks:
            try:
                async for piece in chunks:
                    yield piece[:count]
                    count -= len(piece)
                    if count <= 0:
                        return
            except MirrordError as error:
                if self.failed is not None:
                    self.failed(error)
                raise

    @property
    def ready(self) -> bool:
        """Whether the source has answered."""
        return self._ready.done()

    def release(self) -> None:
        """Leave the transfer; it ends if nobody else needs it."""
        self._released.set()
        if not self._ready.done():
            self._task.cancel()

    async def _hold(self, enter: Enter) -> None:
        try:
            async with enter() as reader:
                await reader.answered()
                self._ready.set_result(reader)
                await self._released.wait()
        except Exception as error:  # noqa: BLE001 - the client that waits must get any error, else it waits forever
            if not self._ready.done():
                self._ready.set_exception(error)
                self._ready.exception()  # a client that left does not look at it
