"""One request as a transport takes it, and what it gives back. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True)
class WireRequest:
    """One request, ready for the wire: nothing is added to it but `Host`, and `Content-Length` where it has none.

    Attributes:
        method: in capitals.
        url: absolute and canonical.
        authority: host and port of `url`, for messages.
        headers: as they are sent.
        body: bytes, or a stream whose length `headers` tell.
        patience: seconds between two pieces of the answer; None: as the transport has it.
        reused: set by the transport: whether it went over a connection that was kept open.
    """

    method: str
    url: str
    authority: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | AsyncIterable[bytes] | None = None
    patience: float | None = None
    reused: bool = False


class WireResponse(Protocol):
    """An answer of which nothing but the head was read."""

    @property
    def status(self) -> int:
        """Return the status code."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers: names in lower case, repeated ones joined by `, ` (RFC 9110 section 5.3)."""
        ...

    @property
    def challenges(self) -> tuple[str, ...]:
        """Return each `WWW-Authenticate` header on its own: one that is no good spoils no other."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the raw body, in pieces as large as have come; once.

        Raises:
            BrokenError: the connection ended first.
            StalledError: nothing came in time.
        """
        ...

    async def aclose(self) -> None:
        """Give the connection back, or close it when the body was not read to its end."""
        ...


class Transport(Protocol):
    """Carries out single requests: no redirects, cookies, decoding or second tries."""

    async def send(self, request: WireRequest) -> WireResponse:
        """Send, and return as soon as there are headers.

        Raises:
            UntrustedError: the name resolves to an address that may not be dialled.
            UnreachableError: no connection.
            StalledError: no headers in time.
            BrokenError: the connection ended first.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...
