"""The second port: what a syncer may offer besides, for its `local` content to be served over HTTP, read-only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
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


@dataclass(frozen=True, slots=True)
class Response:
    """What a path of a syncer's `front` stands for."""

    status: int
    headers: Mapping[str, str]  # to send as they are
    # where the bytes are that are to be sent, or None: a file, or what is opened when it is sent, from the byte that
    # the client asks for. One with a URL is redirected to.
    stored: Stored | None = None
    gzipped: Stored | None = None  # where the same bytes are, compressed, for who accepts that; or None
    body: bytes = b""  # bytes to send when nothing is stored
    # writes the body, or None; one that says nothing and fails is an error, whatever `status` says
    process: Process | None = None
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
