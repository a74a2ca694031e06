"""The second port: what a syncer may offer besides, for its `local` content to be served over HTTP, read-only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from mirrord.syncer import Services


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for something that is kept here.

    Attributes:
        method: `GET`, `HEAD` or `POST`.
        prefix: which of `Serves.prefixes` it is.
        path: what follows the prefix, still percent-encoded.
        query: decoded; the first of several wins.
        raw_query: as it came.
        origin: `scheme://host[:port]` by which the client reached us, for answers that hold addresses of ours.
    """

    method: str
    prefix: str
    path: str
    query: Mapping[str, str]
    raw_query: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """A CGI program (RFC 3875) that answers a request.

    Attributes:
        argv: the program and its arguments.
        env: its whole environment, besides what only the request can tell.
        admit: sees the whole body of a request, out of its coding, before the program is started with that; what it
            returns is the answer then, and None lets the program answer. None: the body is streamed as it comes.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    admit: Callable[[bytes], Awaitable[Content | None]] | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """What a path of a syncer's `front` stands for.

    Attributes:
        status: HTTP status.
        headers: to send as they are.
        file: bytes to send from this file, or None.
        gzipped: the same bytes, compressed, for who accepts that; or None.
        body: bytes to send when there is no file.
        program: answers in place of all of these, or None.
        posted: sees the whole body of a POST, out of its coding, and returns the answer in place of this one; or None.
        longest: bytes that the body for `posted` may have.
    """

    status: int
    headers: Mapping[str, str]
    file: Path | None = None
    gzipped: Path | None = None
    body: bytes = b""
    program: Program | None = None
    posted: Callable[[bytes], Awaitable[Content]] | None = None
    longest: int = 0


@runtime_checkable
class Serves(Protocol):
    """A syncer whose `local` content is served over HTTP, read-only."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Return where, such as `/v2/`."""
        ...

    async def content(self, asked: Asked, services: Services) -> Content:
        """Map a path to content that is kept here; never raises for bad input."""
        ...
