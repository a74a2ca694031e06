"""Requests and answers of `mirrord.wire.http.client`, and of the transport below it; without I/O."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from mirrord.errors import DeniedError, MirrordError, MissingError, RefusedError, ServerError, ThrottledError
from mirrord.wire import advice
from mirrord.wire.secret import redact
from mirrord.wire.trust import answering

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(slots=True)
class WireRequest:
    """One request, ready for the wire: nothing is added to it but `Host`, and `Content-Length` where it has none."""

    method: str  # in capitals
    url: str  # absolute and canonical
    authority: str  # host and port of `url`, for messages
    headers: Mapping[str, str] = field(default_factory=dict)  # as they are sent
    body: bytes | AsyncIterable[bytes] | None = None  # bytes, or a stream whose length is in `headers`
    patience: float | None = None  # seconds between two pieces of the answer; None: as the transport has it
    reused: bool = False  # set by the transport: whether it went over a connection that was kept open


class WireResponse(Protocol):
    """An answer of which only the head was read."""

    @property
    def status(self) -> int:
        """Return the status code."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers: names in lower case, repeated ones joined by `, ` (RFC 9110 section 5.3)."""

    @property
    def challenges(self) -> tuple[str, ...]:
        """Return each `WWW-Authenticate` header on its own: a malformed one must not spoil the others."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the raw body, in pieces as received; once.

        Raises:
            BrokenError: the connection ended first.
            StalledError: nothing came in time.
        """

    async def aclose(self) -> None:
        """Give the connection back, or close it when the body was not read to its end."""

    def abort(self) -> None:
        """Close the connection at once; `aclose` is still to be called."""


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

    async def aclose(self) -> None:
        """Close all connections."""


@dataclass(frozen=True, slots=True)
class Caps:
    """How much of a body is read into memory, in bytes (see CVE-2020-1702)."""

    manifest: int = 4 * MIB
    token: int = 256 * KIB
    error: int = 64 * KIB
    page: int = MIB


CAPS: Final = Caps()

_LOOKED_AT: Final = 16 * KIB  # characters of an error's text that are looked at: more than a token has
_SHOWN: Final = 900

PLAIN_SPOKEN: Final = f"this was plain HTTP: if the host speaks TLS, {advice.TLS}"
"""What to do where a host may not understand plain HTTP."""

RETRIABLE: Final = frozenset({408, 429, 499, 500, 502, 503, 504, *range(520, 528)})
"""Statuses after which the same request may succeed: go-containerregistry's list, and Cloudflare's own ones."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits towards other machines; seconds and bytes.

    Attributes:
        connect: for name resolution, TCP and TLS together.
        stall: without a single byte in the direction in which content flows.
        window: stretch of time over which the minimum throughput is measured.
        floor: minimum throughput, bytes a second over each `window`.
        answer: from the last byte of an upload to the answer (a registry may have to copy the blob first).
        small: for a whole exchange that carries no content (manifests, tags, tokens, the start of an upload), tries
            and waits included, time in line at the host not; see `HttpRequest.deadline`.
        attempts: how often a request is tried in all.
        patience: longest that one call waits between its tries, in all; a host that wants more gets its
            request back as `ThrottledError` with the time to come back.
        line: longest that a request without content waits for a place at the host, None for ever.
        rest: for which a host is not asked after three failures to answer in a row, but for the rest of what was begun
            (Range), see `mirrord.wire.http.circuits`; None: it is asked always.
    """

    connect: float = 10.0
    stall: float = 60.0
    window: float = 60.0
    floor: float = 1024.0
    answer: float = 300.0
    small: float = 300.0
    attempts: int = 4
    patience: float = 60.0
    line: float | None = None
    rest: float | None = 30.0


FRONT_LIMITS: Final = Limits(connect=5.0, stall=30.0, small=30.0, attempts=3, patience=10.0, line=10.0, rest=10.0)
"""Where a client waits for the answer, and what is cached already is served when there is none."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A body that can be sent again: every attempt calls `open`."""

    size: int | None  # exact number of bytes; None when nobody knows, and it goes in chunks (RFC 9112 section 7.1)
    # returns a fresh iterator from the first byte on; chunks of 64 KiB to 1 MiB serve best
    open: Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request.

    Attributes:
        method: in capitals.
        url: absolute; may be on another origin than `host` (an upload's Location): then no credential goes along.
        host: key into the `HostBook`: the host as the operator writes it (`docker.io`), whatever `url` says.
        headers: to send besides those of HTTP itself; other origins see only the harmless ones.
        body: bytes, a re-openable `Upload`, or None.
        scope: token scopes, separated by spaces (`repository:a/b:pull,push`), "" for none.
        ok: statuses that are answers; every other becomes an error.
        cap: longest body that is read into memory.
        deadline: seconds for the whole exchange, retries included, time in line at the host not; None stands for
            `Limits.small`, and for none where content flows (an `Upload`, `Http.stream`): there the minimum
            throughput ends what makes no progress.
        first: seconds until the headers where content flows, counted as those of `deadline`; None for no limit.
        attempts: tries in all when other than `Limits.attempts`. An `Upload` is in any case only tried again in
            place when nothing of it was consumed, since an upload session may not survive half a body.
        encoded: whether a Content-Encoding is accepted; the body stays as it was sent.
        issued: headers that somebody handed to us together with `url`: they go to its origin, whosever it is, and to
            no other; with an `Authorization` among them no credential of ours is used.
        anonymous: no credential goes along, even if the host asks for one; APIs take other ones than registries.
    """

    method: str
    url: str
    host: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Upload | None = None
    scope: str = ""
    ok: tuple[int, ...] = (200,)
    cap: int = 64 * KIB
    deadline: float | None = None
    first: float | None = None
    attempts: int | None = None
    encoded: bool = False
    issued: Mapping[str, str] = field(default_factory=dict, repr=False)
    anonymous: bool = False

    def label(self, url: str) -> str:
        """Return host, method and path of an answer from `url`; without the query, which may hold a signature."""
        path = url.partition("://")[2].partition("?")[0].partition("/")[2]
        return f"{answering(url, self.host)}: {self.method} /{path}"


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole answer."""

    status: int  # one of `HttpRequest.ok`
    headers: Mapping[str, str]  # names in lower case, repeated ones joined by `, `
    body: bytes  # at most `HttpRequest.cap` bytes, never decoded
    url: str  # where it came from after redirects; relative Locations are relative to this


def refusal(
    request: HttpRequest,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    url: str,
    after: float | None = None,
    throttled: bool = False,
    login: str = "",
) -> MirrordError:
    """Return the error that an answer stands for when `HttpRequest.ok` does not list its status.

    Args:
        request: what was asked.
        status: of the answer.
        headers: names in lower case.
        body: its first `Caps.error` bytes.
        url: where it came from after redirects.
        after: seconds after which the host wants to be asked again, None if it does not say.
        throttled: whether it limits the rate; 429 always does.
        login: a clause that says which credentials were used, "" where none of ours could go.
    """
    reason = _reason(headers.get("content-type", ""), body)
    text = f"{request.label(url)}: status {status}{': ' + reason if reason else ''}"
    # Go's words, and those of the pages of nginx and Apache; the answer to HEAD has none.
    if status == 400 and (b"HTTPS" in body or request.method == "HEAD") and url.startswith("http:"):
        text = f"{text} ({PLAIN_SPOKEN})"
    if throttled or status == 429:
        later = "later" if after is None else f"in {span(after)}"
        limited = f"the host limits the rate; ask again {later}{f', or log in; {login}' if login else ''}"
        return ThrottledError(f"{text} ({limited})", after)
    if status >= 500 or status in RETRIABLE:
        error = ServerError(text, after)
        error.status = status
        return error if status in RETRIABLE else permanent(error)  # 501, 505, 507… stay as they are
    if status in (401, 403):
        return DeniedError(f"{text} ({login})" if login else text, status, formal=_formal(body))
    if status == 404:
        if ":" in request.url.rpartition("/")[2] and reason.startswith(("BLOB_UNKNOWN", "MANIFEST_UNKNOWN")):
            return MissingError(text, status)  # asked by a digest, of a repository that is known: no name is wrong
        return MissingError(f"{text} (check the name{f'; {login}' if login else ''})", status)
    return RefusedError(text, status)


def span(seconds: float) -> str:
    """Format a time to wait, rounded up: `40 s`, `15 min`, `1 h`."""
    whole = math.ceil(seconds)
    for unit, name in ((3600, "h"), (60, "min")):
        if whole >= unit:
            return f"{-(-whole // unit)} {name}"
    return f"{whole} s"


def permanent(error: MirrordError) -> MirrordError:
    """Mark one error as not worth an immediate retry although its class is (a certificate does not heal)."""
    error.retry = False
    return error


def _formal(body: bytes) -> bool:
    """Whether a body is an error of a registry, or of a token server (OAuth 2, or Docker Hub's with `details`)."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and (
        isinstance(document.get("errors"), list) or not {"error", "details"}.isdisjoint(document)
    )


def _reason(content_type: str, body: bytes) -> str:
    """Return `code: message` of an OCI error body (distribution-spec), as far as it has them, or the start of a text.

    Cut before anything looks for secrets in it, and at a blank: half a secret would not be known as one.

    Of a document with a `message` (Git LFS, and forges' APIs) or a `detail` (Quay, Docker Hub) it is that.
    """
    text = body.decode("utf-8", "replace")
    try:
        document = json.loads(text)
        text = next((told for key in ("message", "detail") if isinstance(told := document.get(key), str)), text)
        errors = document["errors"]
        said = (": ".join(str(part) for key in ("code", "message") if (part := error.get(key))) for error in errors[:5])
        text = "; ".join(filter(None, said))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        if "html" in content_type:
            return ""
    text = " ".join(text.split())
    if len(text) > _LOOKED_AT:
        text = text[:_LOOKED_AT].rpartition(" ")[0]
    return redact(" ".join("".join(c if c.isprintable() else " " for c in text).split()))[:_SHOWN]
