"""The database that replicas share: connections whose statements wait for no query of the record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mirrord.errors import StorageError
from mirrord.wire.secret import redact

if TYPE_CHECKING:
    from psycopg import AsyncConnection  # noqa: TID251 - this is the door
    from psycopg_pool import AsyncConnectionPool  # noqa: TID251 - this is the door

PATIENCE: Final = 30.0
"""Seconds for which a question is asked again while the database is away."""
POLL: Final = 1.0
"""Seconds between two tries."""
_BRIEFLY: Final = {"options": "-c lock_timeout=5000 -c idle_in_transaction_session_timeout=5000"}
# Keys of psycopg, so that nobody is held up for more than 5 s by a process that was stopped.
SOON: Final = 3.0
"""Seconds after which a pool begins anew to connect; else it waits twice as long after each try that fails."""


@dataclass(frozen=True, slots=True)
class SharedDatabase:
    """Open connections.

    Attributes:
        keys: what psycopg is told for a new connection.
        pool: the connections.
        patience: for how many seconds a question is asked again while the database is away.
    """

    keys: Callable[[], Awaitable[dict[str, Any]]] = field(repr=False)
    pool: AsyncConnectionPool[Any]
    patience: float = PATIENCE

    async def do(
        self, statement: str, about: Mapping[str, Any], *, patience: float | None = None, after: str = ""
    ) -> list[dict[str, Any]]:
        """Carry out a statement, again while the database is away, so that it may be carried out twice.

        `patience` is another one than that of all; `after` is another statement before it, in the same transaction.
        """
        import psycopg  # noqa: PLC0415, TID251 - the only door, for those who have replicas
        import psycopg_pool  # noqa: PLC0415, TID251 - the only door, for those who have replicas

        loop = asyncio.get_running_loop()
        end = loop.time() + (self.patience if patience is None else patience)
        while True:
            try:
                with stopped_when_cancelled():
                    async with (
                        asyncio.timeout(max(0.1, end - loop.time())),
                        self.pool.connection(2 * SOON) as link,  # who asks makes the pool begin anew
                        _writable(link),
                        link.transaction() if after else nullcontext(),
                    ):
                        if after:
                            await link.execute(after, about)
                        found = await link.execute(statement, about)
                        return await found.fetchall() if found.description else []
            except (psycopg.OperationalError, psycopg_pool.PoolTimeout, TimeoutError) as error:
                if loop.time() + POLL > end:
                    raise StorageError(f"the record cannot be reached: {_first_line(error)}") from error
                await asyncio.sleep(POLL)
            except psycopg.Error as error:
                raise StorageError(f"the record failed: {_first_line(error)}") from error


@asynccontextmanager
async def open_shared(
    connect: Callable[[], Mapping[str, Any]], *, patience: float = PATIENCE
) -> AsyncIterator[SharedDatabase]:
    """Connect; `connect` says what psycopg is told, for each new connection, and may block.

    A statement is a transaction of its own: a process that is stopped between two of them holds no lock.
    """
    import psycopg_pool  # noqa: PLC0415, TID251 - of the extra `scale`
    from psycopg.rows import dict_row  # noqa: PLC0415, TID251 - of the extra `scale`

    async def keys() -> dict[str, Any]:
        return {**_BRIEFLY, **await asyncio.to_thread(connect)}

    async def ours() -> dict[str, Any]:
        return {**await keys(), "autocommit": True, "row_factory": dict_row}

    logging.getLogger("psycopg").setLevel(logging.ERROR)  # and its pool says each attempt; we say once what is away
    options: dict[str, Any] = {"min_size": 1, "max_size": 4, "reconnect_timeout": SOON, "open": False}
    async with psycopg_pool.AsyncConnectionPool("", kwargs=ours, **options) as pool:
        yield SharedDatabase(keys, pool, patience)


@asynccontextmanager
async def _writable(link: AsyncConnection[Any]) -> AsyncIterator[None]:
    """Leave a server that takes no changes any more: another one may do so by now."""
    import psycopg  # noqa: PLC0415, TID251 - the only door, for those who have replicas

    try:
        yield
    except psycopg.errors.ReadOnlySqlTransaction as error:
        await link.close()
        raise psycopg.OperationalError(str(error)) from error


@contextmanager
def stopped_when_cancelled() -> Iterator[None]:
    """Raise CancelledError at the end of a block whose task was cancelled in it, whatever the block raises.

    `asyncio.wait_for`, with which the pool waits for a connection, forgets that of a waiter that is handed one at the
    same time, before Python 3.12 (cpython issue 86296).
    """
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    try:
        yield
    finally:
        if task.cancelling() > before:
            raise asyncio.CancelledError


def _first_line(error: BaseException) -> str:
    without = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    return redact((str(error).splitlines() or [without])[0][:200])
