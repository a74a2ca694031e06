"""Asks the API of a Git host: JSON both ways, the credential in the `Authorization` header and nowhere else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from mirrord.errors import ContentError, RefusedError
from mirrord.wire.aside import aside
from mirrord.wire.host import HostBook
from mirrord.wire.http.message import CAPS, HttpRequest, HttpResponse
from mirrord.wire.number import whole
from mirrord.wire.origin import check_url
from mirrord.wire.secret import Credential
from mirrord.wire.trust import api_owner, scheme_of

Document = Mapping[str, object]
"""A JSON object as it came: nothing in it is what it should be before somebody looked."""

_OK: Final = (200, 201, 204)
_SECONDS: Final = 60.0


class Fetches(Protocol):
    """What an API needs of `mirrord.wire.http.client.Http`."""

    @property
    def book(self) -> HostBook:
        """Return what the operator wrote about hosts."""
        ...

    async def fetch(self, call: HttpRequest) -> HttpResponse:
        """Carry out a call and read the whole answer."""
        ...


@dataclass(frozen=True, slots=True)
class Api:
    """How one kind of host wants to be asked.

    Attributes:
        scheme: the word before the token in `Authorization`.
        explain: next steps for known refusals, as `Forge.explain`.
        headers: sent with every request.
    """

    scheme: str
    explain: Callable[[str], str | None]
    headers: Mapping[str, str] = field(default_factory=lambda: {"Accept": "application/json"})

    async def ask(
        self, http: Fetches, method: str, url: str, body: Document | None = None, *, makes: bool | None = None
    ) -> Document:
        """Ask and return the object that was answered, {} for an empty answer.

        Args:
            http: the way to the host.
            method: in capitals.
            url: absolute.
            body: sent as JSON.
            makes: the request may make something, so that it must not be sent twice; by default, every POST may.

        Raises:
            RefusedError: the host said no; with the next step, when it is known.
            ContentError: the answer is no JSON object.
            TransportError: there was no answer.
        """
        host = _owner(http.book, check_url(url).authority)
        headers = dict(self.headers)
        if credential := await _credential(http.book, host):
            headers["Authorization"] = credential.token(self.scheme)
        sent = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            sent = json.dumps(body, ensure_ascii=False).encode()
        # What was answered too late has perhaps made a repository: whoever creates looks again by itself.
        attempts = 1 if (method == "POST" if makes is None else makes) else None
        call = HttpRequest(
            method, url, host, headers, sent, ok=_OK, cap=CAPS.page, deadline=_SECONDS, attempts=attempts
        )
        try:
            answer = await http.fetch(call)
        except RefusedError as error:
            hint = self.explain(str(error))
            if hint is None:
                raise
            raise type(error)(f"{error}; {hint}", error.status) from error
        return await aside(len(answer.body), _object, answer.body, host)


def base(book: HostBook, host: str) -> str:
    """Return `scheme://host` under which the API of a host is asked."""
    return f"{scheme_of(book.policy(host))}://{host}"


def text(document: object, *keys: str) -> str | None:
    """Return the text (or number) that stands below these keys, or None when there is none."""
    for key in keys:
        document = document.get(key) if isinstance(document, Mapping) else None
    if isinstance(document, int) and not isinstance(document, bool):
        return str(document)
    return document if isinstance(document, str) and document else None


def needed(document: object, host: str, *keys: str) -> str:
    """Return the text below these keys.

    Raises:
        ContentError: there is none.
    """
    found = text(document, *keys)
    if found is None:
        raise ContentError(f"{host}: the answer of its API has no {'.'.join(keys)}; has the API changed?")
    return found


def number(document: object, host: str, *keys: str) -> int:
    """Return the number below these keys.

    Raises:
        ContentError: there is none.
    """
    found = whole(needed(document, host, *keys))
    if found is None:
        raise ContentError(f"{host}: the answer of its API has no number as {'.'.join(keys)}; has the API changed?")
    return found


def _owner(book: HostBook, host: str) -> str:
    """Return whose credential is used: the API host's own when the operator wrote one, else its owner's."""
    own = book.policies.get(host)
    return host if own is not None and own.credential is not None else api_owner(host)


async def _credential(book: HostBook, host: str) -> Credential | None:
    """Return the configured credential, else the keyring's, which may run a program."""
    return book.policy(host).credential or await asyncio.to_thread(book.keyring.find, host)


def _object(body: bytes, host: str) -> Document:
    if not body.strip():
        return {}
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"{host}: its API answers with something that is no JSON; is there a login page?") from error
    if not isinstance(document, dict):
        raise ContentError(f"{host}: its API answers with JSON that is no object; has the API changed?")
    return document
