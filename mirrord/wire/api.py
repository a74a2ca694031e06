"""JSON APIs of other machines: the only module that uses httpx, and never for content.

httpx writes the requests and reads the answers; each of them goes through `mirrord.wire.http`, so that trust,
redaction, caps, deadlines and retries are the same as everywhere. Import this when the first API is
called: the import of httpx is slow.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

import httpx

from mirrord.errors import ContentError, UntrustedError
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import CAPS, HttpRequest
from mirrord.wire.oci.document import check_shape
from mirrord.wire.offload import offload
from mirrord.wire.origin import check_url
from mirrord.wire.trust import api_owner, belongs

Document = Mapping[str, object]
"""A JSON object as received; nothing in it is checked yet."""

_OK: Final = (200, 201, 202, 204)
_PAGE: Final = 8 * 1024 * 1024  # bytes of one page of a list
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_ANSWERS: Final = tuple(range(200, 600))  # every status, also of a redirect
_SECONDS: Final = 60.0
_FILE: Final = 600.0  # seconds for a file
_OURS: Final = frozenset({"accept", "authorization", "content-type"})
"""What httpx writes and a server should see; connection, length, encodings and agent are `wire.http`'s."""

_KEPT: Final = ("content-type", "link", "retry-after")  # headers of answers


class ApiTransport(httpx.AsyncBaseTransport):
    """An `Http` as the transport of a client of one host; raises the errors of `mirrord.errors`, not httpx's.

    Args:
        http: the way to other machines.
        host: key into the `HostBook`: whose rules and credentials apply.
        headers: sent in addition to those of httpx.
        attempts: tries in all, or None for the usual number.
        cap: longest answer, in bytes.
        deadline: seconds for all of it.
        anonymous: as in `HttpRequest`.
        ok: statuses that are answers.
        address: where requests go instead, if that is a secret: httpx logs the URLs that it knows, and rewrites them.
    """

    def __init__(
        self,
        http: Http,
        host: str,
        headers: Mapping[str, str],
        attempts: int | None,
        *,
        cap: int = CAPS.page,
        deadline: float = _SECONDS,
        anonymous: bool = False,
        ok: tuple[int, ...] = _OK,
        address: str = "",
    ) -> None:
        self._http, self._host, self._headers, self._attempts = http, host, headers, attempts
        self._cap, self._deadline, self._anonymous, self._ok = cap, deadline, anonymous, ok
        self._address = address

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry out one request; redirects, waits and second tries happen below."""
        written = {name.decode(): value.decode() for name, value in request.headers.raw}
        headers = {name: value for name, value in written.items() if name.lower() in _OURS} | dict(self._headers)
        answer = await self._http.fetch(
            HttpRequest(
                request.method, self._address or str(request.url), self._host, headers, await request.aread() or None,
                ok=self._ok, cap=self._cap, deadline=self._deadline, attempts=self._attempts, anonymous=self._anonymous,
            )
        )  # fmt: skip
        kept = {name: value for name, value in answer.headers.items() if name in _KEPT}
        return httpx.Response(answer.status, headers=kept, content=answer.body, request=request)


class HostToken(httpx.Auth):
    """The credential of a host as the bare token that its API wants: `Authorization: <scheme> <token>`."""

    def __init__(self, book: HostBook, host: str, scheme: str) -> None:
        self._book, self._host, self._scheme = book, host, scheme

    async def async_auth_flow(self, request: httpx.Request) -> AsyncIterator[httpx.Request]:  # type: ignore[override]  # a generator that is sent nothing
        """Add the header, where there is a credential."""
        if credential := await self._book.credential(self._host):
            request.headers["Authorization"] = credential.token(self._scheme)
        yield request


async def ask(
    http: Http,
    method: str,
    url: str,
    body: Document | None = None,
    *,
    scheme: str,
    headers: Mapping[str, str],
    once: bool,
    cap: int = CAPS.page,
) -> Document:
    """Ask and return the JSON object that was answered, {} for an empty answer.

    Args:
        http: the way to the host.
        method: in capitals.
        url: absolute.
        body: sent as JSON.
        scheme: the word before the token in `Authorization`.
        headers: sent with the request.
        once: the request may create something, so that it is not sent twice.
        cap: longest answer, in bytes; more than the usual one is waited for as long as a file.

    Raises:
        RefusedError: the host said no.
        ContentError: the answer is no JSON object.
        TransportError: there was no answer.
    """
    host = _host(http, url)
    deadline = _SECONDS if cap <= CAPS.page else _FILE
    transport = ApiTransport(http, host, headers, 1 if once else None, cap=cap, deadline=deadline)
    async with httpx.AsyncClient(transport=transport, auth=HostToken(http.book, host, scheme)) as client:
        answer = await client.request(method, url, json=body)
    return await offload(len(answer.content), _object, answer, host)


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """What an API answered.

    Attributes:
        document: JSON as received; nothing in it is checked yet.
        link: the `Link` header, "" for none.
    """

    document: object
    link: str


async def read(
    http: Http, url: str, *, host: str, authorization: str | None = None, attempts: int | None = None
) -> ApiAnswer:
    """Read one page of a list, or whatever JSON an API has at a URL.

    Args:
        http: the way to the host.
        url: absolute.
        host: key into the `HostBook`: whose rules apply.
        authorization: the header's value; None asks without a credential, whatever the host wants.
        attempts: tries in all, or None for the usual number.

    Raises:
        RefusedError: the host said no.
        ContentError: the answer is no JSON.
        TooLargeError: it has more than 8 MiB.
        TransportError: there was no answer.
    """
    return await call(http, "GET", url, None, host=host, headers=_bearing(authorization), attempts=attempts)


async def call(
    http: Http, method: str, url: str, body: object, *, host: str, headers: Mapping[str, str], attempts: int | None
) -> ApiAnswer:
    """Ask with a credential that is not the host's: `Authorization` is among `headers`, or none goes along.

    Arguments and errors as for `read`; a `body` other than None is sent as JSON, and an empty answer is {}.
    """
    transport = ApiTransport(http, host, headers, attempts, cap=_PAGE, anonymous=True)
    async with httpx.AsyncClient(transport=transport) as client:
        answer = await client.request(method, url, json=body)
    document = await offload(len(answer.content), _json, answer, host) if answer.content.strip() else {}
    return ApiAnswer(document, answer.headers.get("link", ""))


async def create(http: Http, url: str, document: Document, *, host: str, authorization: str | None) -> bool:
    """Ask an API once to create something; return False where it is there already (409). Arguments as for `read`.

    Raises:
        RefusedError: the host said no.
        TransportError: there was no answer.
    """
    transport = ApiTransport(http, host, _bearing(authorization), 1, anonymous=not authorization, ok=(*_OK, 409))
    async with httpx.AsyncClient(transport=transport) as client:
        answer = await client.post(url, json=document)
    return answer.status_code != 409


async def delete(http: Http, url: str, *, host: str, authorization: str | None) -> None:
    """Ask an API to delete something. Arguments as for `read`.

    Raises:
        MissingError: it is not there.
        RefusedError: the host said no.
        TransportError: there was no answer.
    """
    transport = ApiTransport(http, host, _bearing(authorization), None, anonymous=not authorization)
    async with httpx.AsyncClient(transport=transport) as client:
        await client.delete(url)


async def sign_in(http: Http, url: str, account: Document, *, host: str) -> Document:
    """Send an account's secret as JSON, and return the object that was answered. No redirect gets to see it.

    Args:
        http: the way to the host.
        url: absolute; belongs to `host`.
        account: what is sent; secret.
        host: key into the `HostBook`, whose credential it is.

    Raises:
        UntrustedError: the credential may not go to this URL.
        MirrordError: as `ask`.
    """
    if not belongs(check_url(url), http.book.policy(host)):
        raise UntrustedError(f"the credentials of {host} may not go to {check_url(url)}", "login")
    transport = ApiTransport(http, host, {"Accept": "application/json"}, None, anonymous=True, ok=(*_OK, *_REDIRECTS))
    async with httpx.AsyncClient(transport=transport) as client:
        answer = await client.post(url, json=account)
    if answer.status_code in _REDIRECTS:
        raise ContentError(f"{host}: its API redirects logins, which mirrord does not follow; the API may have changed")
    return await offload(len(answer.content), _object, answer, host)


async def post(
    http: Http, address: str, body: bytes, *, host: str, headers: Mapping[str, str], deadline: float
) -> tuple[int, Mapping[str, str], bytes]:
    """Send a body once to an address that is a secret; return status, headers and body, whatever was answered.

    No credential goes along, and no redirect is followed.

    Args:
        http: the way to the host.
        address: absolute; secret.
        body: as it is sent.
        host: key into the `HostBook`: whose rules apply.
        headers: sent with the request.
        deadline: seconds for all of it.

    Raises:
        TooLargeError: the answer has more than 64 KiB.
        TransportError: there was no answer.
    """
    transport = ApiTransport(
        http, host, headers, 1, cap=CAPS.error, deadline=deadline, anonymous=True, ok=_ANSWERS, address=address
    )
    async with httpx.AsyncClient(transport=transport) as client:
        answer = await client.post(str(check_url(address)), content=body)
    return answer.status_code, answer.headers, answer.content


async def download(http: Http, url: str, *, scheme: str, headers: Mapping[str, str], cap: int) -> tuple[str, bytes]:
    """Return media type and bytes of what an API has at a URL; arguments and errors as for `ask`.

    Raises:
        TooLargeError: it has more than `cap` bytes.
    """
    host = _host(http, url)
    transport = ApiTransport(http, host, headers, None, cap=cap, deadline=_FILE)
    async with httpx.AsyncClient(transport=transport, auth=HostToken(http.book, host, scheme)) as client:
        answer = await client.get(url)
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower(), answer.content


def _bearing(authorization: str | None) -> Mapping[str, str]:
    return {"Accept": "application/json"} | ({"Authorization": authorization} if authorization else {})


def _host(http: Http, url: str) -> str:
    """Return whose rules and credential count: the API host's own, when the operator wrote one, else its owner's."""
    host = check_url(url).authority
    own = http.book.policies.get(host)
    return api_owner(host) if own is None or own.credential is None else host


def _json(answer: httpx.Response, host: str) -> object:
    check_shape(answer.content, f"{host}: answer of its API")
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"{host}: its API answered with something that is not JSON, perhaps a login page") from error


def _object(answer: httpx.Response, host: str) -> Document:
    if not answer.content.strip():
        return {}
    document = _json(answer, host)
    if not isinstance(document, dict):
        raise ContentError(f"{host}: its API answered with JSON that is not an object; the API may have changed")
    return document
