"""Chart servers that make their own index: it tells what they hold, and when they have taken what they were given."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from mirrord.blobs.spool import Reader
from mirrord.errors import (
    BrokenError,
    ContentError,
    DigestError,
    ImmutableError,
    MissingError,
    RefusedError,
    ServerError,
)
from mirrord.model import Digest
from mirrord.syncers.helm.names import INDEX
from mirrord.syncers.helm.transfer.target import Reading
from mirrord.wire.http import Http
from mirrord.wire.message import MIB, Answer, Call
from mirrord.wire.trust import check_url

LARGEST: Final = 64 * MIB  # bytes of an index: bitnami's, the largest known, had 28
ATTEMPTS: Final = 3
PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between looks at an index that is made in the background (ChartMuseum's event loop)."""


class ServedIndex:
    """The `index.yaml` of a server, as the set of what exists there: one request instead of one a version.

    A GET for each version made replications take minutes (helm/chartmuseum#456).
    """

    def __init__(self, http: Http, url: str, reading: Reading, pauses: Sequence[float] = PAUSES) -> None:
        """Read `<url>/index.yaml`; what the operator wrote about the host of `url` goes for it."""
        self.url = url.rstrip("/")
        self.host = check_url(url).authority
        self._http = http
        self._reading = reading
        self._pauses = pauses

    async def read(self) -> Mapping[str, Digest]:
        """Return digests by item; no index, nothing there.

        Raises:
            ContentError: what the server calls its index is none.
        """
        headers = {"Cache-Control": "no-cache"}
        try:
            call = Call("GET", f"{self.url}/{INDEX}", self.host, headers=headers, cap=LARGEST)
            answer = await self._http.fetch(call)
        except MissingError:
            return {}
        return self._reading(answer.body)

    async def settle(self, item: str, digest: Digest, refusal: RefusedError) -> None:
        """Find out why an upload was refused as existing: it is there already, or something else is.

        Raises:
            ImmutableError: other content is there.
            RefusedError: it is not there at all; the server's own words.
        """
        held = await self._until({item: digest})
        if held.get(item) == digest:
            return
        if item not in held:
            raise refusal
        message = f"{self.url}: {item} is {held[item]} there, not {digest}, and may not be replaced"
        raise ImmutableError(message, refusal.status) from refusal

    async def confirm(self, expected: Mapping[str, Digest]) -> None:
        """Wait until the index lists all that was put.

        Raises:
            DigestError: it lists another archive.
            ContentError: it does not list one that the server said it took.
        """
        held = await self._until(expected)
        for item, digest in expected.items():
            if item not in held:
                raise ContentError(f"{self.url}: took {item}, and its index does not list it")
            if held[item] != digest:
                raise DigestError(f"{self.url}: was sent {digest} as {item}, and its index says {held[item]}")

    async def _until(self, expected: Mapping[str, Digest]) -> Mapping[str, Digest]:
        """Return the index once it lists `expected`, or its last state."""
        held = await self.read()
        for pause in self._pauses:
            if expected.items() <= held.items():
                break
            await asyncio.sleep(pause)
            held = await self.read()
        return held


async def upload(http: Http, call: Call, reader: Reader) -> Answer:
    """Send an archive; again from its spool when the connection or the server broke.

    The second time it may be "there already", which is how an answer that was lost on its way looks.

    Raises:
        MirrordError: as `Http.fetch`, or what the reader's source said.
    """
    await reader.worth_sending()
    attempt = 1
    while True:
        try:
            return await http.fetch(call)
        except (BrokenError, ServerError) as error:
            patience = isinstance(error, ServerError) and (not error.retry or error.after is not None)
            if attempt == ATTEMPTS or patience or reader.detached or reader.error:
                raise
        attempt += 1
