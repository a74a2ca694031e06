"""The second port: what a syncer may offer besides, for its `local` content to be served over HTTP, read-only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from mirrord.blobs.store import Stored
from mirrord.syncer.values import Services


@dataclass(frozen=True, slots=True)
class Request:
    """A request for something that is kept here.

    Attributes:
        method: `GET`, `HEAD` or `POST`.
        prefix: which of `Serves.prefixes` it is.
        path: what follows the prefix, still percent-encoded.
        query: decoded; the first of several wins.
        raw_query: as it came.
        headers: of the client, by names in lower case; the first of several wins.
        host: `host[:port]` by which the client reached us, also through a proxy that says so; "" when nobody can tell.
        scheme: `http` or `https`, likewise.
        client: the address that the connection comes from.
    """

    method: str
    prefix: str
    path: str
    query: Mapping[str, str]
    raw_query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    host: str = ""
    scheme: str = "http"
    client: str = ""

    @property
    def origin(self) -> str:
        """Return `scheme://host[:port]` for answers that hold addresses of ours; "" when nobody can tell.

        Whoever lies about it gets wrong addresses in an answer that goes to nobody else: to a POST, which no cache
        keeps.
        """
        return f"{self.scheme}://{self.host}" if self.host else ""


@dataclass(frozen=True, slots=True)
class Process:
    """A program whose output is the body of an answer.

    Attributes:
        argv: the program and its arguments.
        env: its whole environment, besides `PATH`.
        stdin: what it reads.
        begin: what comes before its output.
        quick: it takes milliseconds, and must not wait for those that take longer.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    stdin: bytes = b""
    begin: bytes = b""
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """What a path of a syncer's `front` stands for.

    Attributes:
        headers: to send as they are.
        stored: where the bytes are that are to be sent, or None: a file, or what is opened when it is sent, from the
            byte that the client asks for. One with a URL is redirected to.
        gzipped: where the same bytes are, compressed, for who accepts that; or None.
        body: bytes to send when nothing is stored.
        process: writes the body, or None; one that says nothing and fails is an error, whatever `status` says.
        posted: sees the whole body of a POST, out of its coding, and returns the answer in place of this one; or None.
        longest: bytes that the body for `posted` may have.
    """

    status: int
    headers: Mapping[str, str]
    stored: Stored | None = None
    gzipped: Stored | None = None
    body: bytes = b""
    process: Process | None = None
    posted: Callable[[bytes], Awaitable[Response]] | None = None
    longest: int = 0


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
