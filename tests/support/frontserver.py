"""What syncers serve, on a free loopback port, as the daemon serves it but without a daemon."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime

from mirrord.model.catalog import CatalogEntry
from mirrord.pointing.client.mirror import ClientMirror
from mirrord.report.health import Health
from mirrord.report.mirror import MirrorDetail, Wish
from mirrord.report.rows import ListPart, RowsAsked
from mirrord.report.status import Status
from mirrord.serve.app import make_app
from mirrord.serve.door import Listener, address_of, bind
from mirrord.serve.incoming import TrustedProxies
from mirrord.syncer.port import Syncer
from mirrord.syncer.serving import Serves
from mirrord.syncer.values import Services

LOOPBACK = TrustedProxies()


class Shown:
    """A daemon in good health without mirrors; fulfils `serve.status.View`."""

    def __init__(self, services: Services, *syncers: Syncer | Serves, proxies: TrustedProxies = LOOPBACK) -> None:
        """Show what `syncers` serve out of `services`."""
        self._services, self._proxies = services, proxies
        self.fronts: Mapping[str, Serves] = {
            prefix: front
            for front in (one.front if isinstance(one, Syncer) else one for one in syncers)
            if front
            for prefix in front.prefixes
        }

    def health(self) -> Health:
        """Return a good one."""
        return Health()

    async def status(self) -> Status:
        """Return the status of no mirrors."""
        return Status("0", "ready", datetime(2026, 11, 21, tzinfo=UTC), None, "", ())

    async def catalog(self) -> Sequence[CatalogEntry]:
        """Return nothing."""
        return ()

    async def sync_log(self, mirrors: Sequence[str]) -> AsyncGenerator[bytes, None]:
        """Yield nothing."""
        for name in mirrors:
            yield name.encode()

    async def detail(self, name: str, wish: Wish) -> MirrorDetail | None:
        """Return None: there are no mirrors."""

    async def rows(self, _: RowsAsked) -> ListPart:
        """Return nothing."""
        return ListPart(())

    async def metrics(self) -> bytes:
        """Return none."""
        return b""

    def edition(self) -> int:
        """Return the only one."""
        return 0

    async def pointed(self) -> ClientMirror | None:
        """Return none."""
        return None

    def services(self) -> Services:
        """Return what was given."""
        return self._services

    def proxies(self) -> TrustedProxies:
        """Return those on this machine, unless others were given."""
        return self._proxies


@contextlib.asynccontextmanager
async def listening(
    services: Services, *fronts: Syncer | Serves, proxies: TrustedProxies = LOOPBACK
) -> AsyncIterator[tuple[str, int]]:
    """Serve until the context ends; gives the address."""
    async with showing(Shown(services, *fronts, proxies=proxies)) as address:
        yield address


@contextlib.asynccontextmanager
async def showing(shown: Shown) -> AsyncIterator[tuple[str, int]]:
    """Serve what is shown until the context ends; gives the address."""
    connection = bind("127.0.0.1:0")
    listener = Listener(make_app(shown), grace=0.05)
    await listener.listen(connection)
    try:
        host, port = address_of(connection).rsplit(":", 1)
        yield host, int(port)
    finally:
        await listener.close()
        connection.close()


@contextlib.asynccontextmanager
async def open_front(services: Services, *fronts: Syncer | Serves) -> AsyncIterator[str]:
    """Serve until the context ends; gives the URL, without a slash at its end."""
    async with listening(services, *fronts) as (host, port):
        yield f"http://{host}:{port}"
