"""The optional port of a syncer that serves its `local` content over HTTP, read-only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

from mirrord.blobs.store import Stored
from mirrord.model.objects import BucketAwayError, SharedStanding
from mirrord.names.denied import Denied
from mirrord.syncer.values import Services


@dataclass(frozen=True, slots=True)
class Request:
    """A request for `local` content."""

    method: str  # `GET`, `HEAD` or `POST`
    prefix: str  # one of `Serves.prefixes`
    path: str  # the rest after the prefix, percent-encoded
    query: Mapping[str, str]  # decoded; the first of several counts
    # by names in lower case, without `authorization`; the first of several counts
    headers: Mapping[str, str] = field(default_factory=dict)
    # `host[:port]` that the client used, also through a proxy that forwards it; "" if unknown
    host: str = ""
    scheme: str = "http"  # `http` or `https`, likewise
    client: str = ""  # the address of the client, also behind one of `settings.proxies`; without port and zone
    accept: tuple[str, ...] = ()  # all fields `Accept`, in their order
    token: str | None = None  # the name of the read token that the client sent; None without a valid one
    differing: frozenset[str] = frozenset()  # names in the query that have several values, and not the same

    @property
    def origin(self) -> str:
        """Return `scheme://host[:port]` for answers that contain our own URLs; "" if unknown.

        A client that forges it gets wrong URLs only in its own answer: to a POST, which is not cached.
        """
        return f"{self.scheme}://{self.host}" if self.host else ""


@dataclass(frozen=True, slots=True)
class Process:
    """A program whose output is the body of an answer."""

    argv: tuple[str, ...]  # the program and its arguments
    env: Mapping[str, str]  # its whole environment, besides `PATH`
    stdin: bytes = b""  # its input
    begin: bytes = b""  # precedes its output
    quick: bool = False  # takes milliseconds, and must not wait for long ones


@runtime_checkable
class Meter(Protocol):
    """Counts what a client gets of the content of one answer, and sets its pace; not of the output of a `Process`."""

    @property
    def paced(self) -> bool:
        """Return whether `pace` may wait; if not, it is not called. Asked once for each answer."""

    async def pace(self, count: int) -> None:
        """Wait until a piece of `count` bytes may be sent; called before each piece. MUST NOT wait before the first."""

    def sent(self, count: int) -> None:
        """Note that `count` more bytes of the content were sent.

        Called after each piece, or once at the end for a file that is sent without pace; also when the client has left.
        """

    def ended(self) -> None:
        """Note that the answer has ended: whole, broken, or before its first byte. Called once, whatever happens.

        When a client leaves in the middle of a file, the last call of `sent` comes a moment later.
        """


Stream = Callable[[], AsyncGenerator[bytes, None]]
"""Opens a body of unknown length for a client.

No piece is requested before the client has read the previous one, and it is closed when the client leaves. An error
before the first piece becomes an answer (`MissingError`: 404, any other `MirrordError`: 502). A later one aborts the
connection, so that the client does not regard the answer as complete.
"""
Body = bytes | Stored | Stream | Process
"""The body. Stored content is sent in the requested range, or by a redirect to its URL. A program that fails without
output is an error, whatever the status."""


@dataclass(frozen=True, slots=True)
class Response:
    """The answer of a syncer's `front` to a path.

    Bodies with the same strong entity tag MUST have the same bytes.
    """

    status: int
    headers: Mapping[str, str]  # to send as they are
    body: Body = b""
    gzipped: Stored | None = None  # the same bytes in gzip, for clients that accept that; or None
    # gets the whole decoded body of a POST, and returns the answer instead of this one; or None
    posted: Callable[[bytes], Awaitable[Response]] | None = None
    longest: int = 0  # largest body for `posted` in bytes
    meter: Meter | None = None  # counts and paces the bytes of `body`; or None
    outcome: str = ""  # of a front: where the content comes from, or why there is none; see `FrontDone`
    log: tuple[str, str, str] | None = None  # client, repository and reference, where `Events.detailed`; else None


def refusal(status: int, reason: str) -> Response:
    """Return a short plain text; most clients show the status only."""
    return Response(status, {"Content-Type": "text/plain; charset=utf-8"}, body=f"{reason}\n".encode())


def taken_down(mirror: str, services: Services, item: str = "") -> Response | None:
    """Return the answer for what was taken down, a mirror or an item of it (RFC 7725); None for anything else."""
    entry = services.denied.item(mirror, item) if services.denied else None
    return refusal(451, f"{entry.what} was taken down: {entry.reason}{services.objection}") if entry else None


def check_local(services: Services) -> None:
    """Do nothing where `local` may be asked for a client; a run asks in any case, and has the time to repeat that.

    Raises:
        BucketAwayError: it is known to be away.
    """
    if why := services.away():
        raise BucketAwayError(why)


@runtime_checkable
class Serves(Protocol):
    """Serves the `local` content of a kind over HTTP, read-only: the module `front` of its syncer."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Return the path prefixes, such as `/v2/`."""

    async def respond(self, request: Request, services: Services) -> Response:
        """Map a path to `local` content; never raises for bad input."""


@dataclass(frozen=True, slots=True)
class FrontLook:
    """What a front would do with a reference: the answer of `mirrord front REF`.

    Attributes:
        reference: what the text means at its upstream, `docker.io/library/nginx:1.27`; a name in `local` for `local`.
        comes_from: where its content would come from; `refused` with a `reason`.
        line: which line allows or denies it, `FILE:LINE` or a key such as `front.image.allow[2]`; "" for none.
        reason: why it is refused, one sentence; "" if it is not.
        digest: the digest of what is here, in `local` or in the cache; "" if nothing is.
        size: bytes of that manifest and of all that it names and that is here.
        whole: `size`, and the bytes of blobs that the manifests here name and that are not here. Images of an index
            whose manifests nobody asked for do not count.
        blobs: how many blobs of it are here.
        fresh_until: until when a tag is answered without asking upstream; None if it is asked at once, or never.
        needs_token: whether clients need a read token for it, as for all of `/v2/`.
    """

    reference: str
    comes_from: Literal["local", "cache", "upstream", "refused"]
    line: str = ""
    reason: str = ""
    digest: str = ""
    size: int = 0
    whole: int = 0
    blobs: int = 0
    fresh_until: datetime | None = None
    needs_token: bool = False


@dataclass(frozen=True, slots=True)
class FrontStanding:
    """How an open front stands; what it did is counted from its events.

    Attributes:
        cache_bytes: bytes of content in the cache.
        cache_entries: blobs and manifests in the cache.
        cache_error: why content could not be kept or evicted the last time; "" if it could.
        list_errors: why an allow list is not in use, by file; the one before it is, unless `list_missing`.
        list_missing: whether there is no usable list at all, so that only `local` is served.
        cache_limit: bytes that the cache may have; 0 before it is known.
        shared: what replicas share of their caches; None where they do not.
    """

    cache_bytes: int = 0
    cache_entries: int = 0
    cache_error: str = ""
    list_errors: Mapping[str, str] = field(default_factory=dict)
    list_missing: bool = False
    cache_limit: int = 0
    shared: SharedStanding | None = None


class OpenedThrough(Serves, Protocol):
    """An open front: serves `local`, and what the configuration lets clients pull through."""

    async def look(self, text: str) -> FrontLook:
        """Return what would be done with a reference as a person types it; no request upstream.

        Raises:
            UsageError: it is no reference.
        """

    async def follow(self) -> None:
        """Apply the configuration in use now, and read its lists; what is wrong with these is in `standing`.

        What was taken down since the last time, at whichever replica, goes from the cache on this disk.

        Raises:
            StorageError: the cache cannot be read.
        """

    async def purge(self, denied: Denied) -> int:
        """Remove from the cache what was taken down; return how many names and manifests. Raises as `follow`."""

    def standing(self) -> FrontStanding:
        """Return how it stands; no I/O."""
