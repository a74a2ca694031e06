"""The second port: what a syncer may offer besides, for its `local` content to be served over HTTP, read-only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

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
        origin: `scheme://host[:port]` by which the client reached us, for answers that hold addresses of ours.
        git_protocol: the header of that name.
    """

    method: str
    prefix: str
    path: str
    query: Mapping[str, str]
    raw_query: str = ""
    origin: str = ""
    git_protocol: str = ""


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
        status: HTTP status.
        headers: to send as they are.
        file: bytes to send from this file, or None.
        gzipped: the same bytes, compressed, for who accepts that; or None.
        body: bytes to send when there is no file.
        process: writes the body, or None; one that says nothing and fails is an error, whatever `status` says.
        posted: sees the whole body of a POST, out of its coding, and returns the answer in place of this one; or None.
        longest: bytes that the body for `posted` may have.
    """

    status: int
    headers: Mapping[str, str]
    file: Path | None = None
    gzipped: Path | None = None
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
        ...

    async def respond(self, request: Request, services: Services) -> Response:
        """Map a path to content that is kept here; never raises for bad input."""
        ...
