"""The second port: what a syncer may offer besides, for its `local` content to be served over HTTP, read-only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from mirrord.blobs.store import Stored
from mirrord.syncer.values import Services


@dataclass(frozen=True, slots=True)
class Request:
    """A request for something that is kept here."""

    method: str  # `GET`, `HEAD` or `POST`
    prefix: str  # which of `Serves.prefixes` it is
    path: str  # what follows the prefix, still percent-encoded
    query: Mapping[str, str]  # decoded; the first of several wins
    # of the client, by names in lower case; the first of several wins
    headers: Mapping[str, str] = field(default_factory=dict)
    # `host[:port]` by which the client reached us, also through a proxy that says so; "" when nobody can tell
    host: str = ""
    scheme: str = "http"  # `http` or `https`, likewise
    client: str = ""  # the address that the connection comes from

    @property
    def origin(self) -> str:
        """Return `scheme://host[:port]` for answers that hold addresses of ours; "" when nobody can tell.

        Whoever lies about it gets wrong addresses in an answer that goes to nobody else: to a POST, which no cache
        keeps.
        """
        return f"{self.scheme}://{self.host}" if self.host else ""


@dataclass(frozen=True, slots=True)
class Process:
    """A program whose output is the body of an answer."""

    argv: tuple[str, ...]  # the program and its arguments
    env: Mapping[str, str]  # its whole environment, besides `PATH`
    stdin: bytes = b""  # what it reads
    begin: bytes = b""  # what comes before its output
    quick: bool = False  # it takes milliseconds, and must not wait for those that take longer


Stream = Callable[[], AsyncGenerator[bytes, None]]
"""Opens a body of which nobody knows how long it will be, when a client is there to get it.

No piece is asked for before the client took the one before, and it is closed when the client leaves. What it raises
before its first piece is an answer of its own (`MissingError`: 404, any other `MirrordError`: 502). Later it ends the
connection, so that nobody takes what came for whole.
"""
Body = bytes | Stored | Stream | Process
"""What is sent. Of what is stored, the part that the client asks for; one with a URL is redirected to. A program that
says nothing and fails is an error, whatever the status says."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a path of a syncer's `front` stands for.

    Where there is a strong entity tag among the headers, a body with the same one MUST have the same bytes.
    """

    status: int
    headers: Mapping[str, str]  # to send as they are
    body: Body = b""
    gzipped: Stored | None = None  # where the same bytes are, compressed, for who accepts that; or None
    # sees the whole body of a POST, out of its coding, and returns the answer in place of this one; or None
    posted: Callable[[bytes], Awaitable[Response]] | None = None
    longest: int = 0  # bytes that the body for `posted` may have


def refusal(status: int, reason: str) -> Response:
    """Return a short text for people; most programs show the status only."""
    return Response(status, {"Content-Type": "text/plain; charset=utf-8"}, body=f"{reason}\n".encode())


@runtime_checkable
class Serves(Protocol):
    """What serves the `local` content of a kind over HTTP, read-only: the room `front` of its syncer, as a module."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Return where, such as `/v2/`."""

    async def respond(self, request: Request, services: Services) -> Response:
        """Map a path to content that is kept here; never raises for bad input."""
