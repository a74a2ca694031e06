"""Hosts that do not answer are left alone for a while, and then one HEAD finds out whether they are back.

For the front three failed tries in a row are enough: its clients wait. For runs three requests count that failed to
their last try, since a registry that restarts must not cost a run its images. A run that begins later looks at once,
and all its requests wait for that one look (a GET of `/v2/` where HEAD is of no use); the front's do not, and serve
what they have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from mirrord.errors import BrokenError, MirrordError, ServerError, StalledError, UnreachableError
from mirrord.wire.host import HostBook
from mirrord.wire.http.asker import asker
from mirrord.wire.http.message import HttpRequest, Limits, Upload, permanent
from mirrord.wire.http.pace import Circuit, Party

_GATEWAYS: Final = frozenset({502, 503, 504})


class Circuits:
    """The circuit of each host, for one `Http`."""

    def __init__(
        self, book: HostBook, limits: Limits, party: Party, look: Callable[[HttpRequest], Awaitable[int]]
    ) -> None:
        """Begin with all hosts of `book` in use; `look` carries out a request once, and returns its status."""
        self._book, self._limits, self._party, self._look = book, limits, party, look
        self._known: dict[str, Circuit] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}

    def resting(self) -> frozenset[str]:
        """Return the hosts that are not asked now."""
        now = monotonic()
        return frozenset(host for host, circuit in self._known.items() if circuit.rests(now))

    async def enter(self, request: HttpRequest) -> None:
        """Return when the host may be asked; a transfer under way (Range) goes on trying.

        Raises:
            UnreachableError: it rests.
        """
        circuit = self._known.get(request.host)
        if circuit is None or not circuit.open or "Range" in request.headers:
            return
        run, look = asker(), self._looks.get(request.host)
        fresh = run is not None and request.host not in run.tried
        if run is not None:
            run.tried.add(request.host)
        if look is None and (fresh or circuit.closed(monotonic())):
            look = self._looks[request.host] = asyncio.create_task(self._find_out(request, circuit))
            look.add_done_callback(lambda _: self._looks.pop(request.host))
        elif look is not None and self._party is Party.FRONT:
            look = None
        if look is not None:
            await asyncio.shield(look)
        if circuit.open:
            resting = f"{request.host}: is not asked for up to {circuit.rest:.0f} s after failures in a row"
            raise permanent(UnreachableError(f"{resting}, the last one: {circuit.reason}"))

    async def _find_out(self, request: HttpRequest, circuit: Circuit) -> None:
        """Ask the host for next to nothing; any answer will do, but for that of a gateway with nothing behind it."""
        before, registry, _ = request.url.partition("?")[0].partition("/v2/")
        url = f"{before}/v2/" if registry else before
        method = "HEAD" if self._book.policy(request.host).registry.head else "GET"
        look = HttpRequest(method, url, request.host, anonymous=True, deadline=2 * self._limits.connect)
        try:
            status = await self._look(look)
        except MirrordError as error:
            failure = str(error)
        else:
            failure = f"{look.label(url)}: status {status}" if self._is_dead(status) else ""
        circuit.note(failure, monotonic())

    def _is_dead(self, status: int | None) -> bool:
        return self._party is Party.RUNS and status in _GATEWAYS

    def tried(self, request: HttpRequest, error: MirrordError | None) -> None:
        """Note how one try ended; None: well."""
        if not self._failed(error):
            if request.host in self._known:
                self._known[request.host].note("", monotonic())
        elif self._party is Party.FRONT:
            self.failed(request, str(error))

    def gave_up(self, request: HttpRequest, error: MirrordError) -> None:
        """Note that the last try of a request failed."""
        if self._party is Party.RUNS and self._failed(error):
            self.failed(request, str(error))

    def _failed(self, error: MirrordError | None) -> bool:
        if isinstance(error, ServerError):
            return self._is_dead(error.status)
        return isinstance(error, UnreachableError | StalledError | BrokenError)

    def failed(self, request: HttpRequest, reason: str) -> None:
        """Note that the host did not answer; what breaks while a body is sent may be the fault of its source."""
        if self._limits.rest is not None and not isinstance(request.body, Upload):
            circuit = self._known.setdefault(request.host, Circuit(self._limits.rest))
            if not circuit.open:
                circuit.note(reason, monotonic())
