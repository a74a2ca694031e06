"""What all services for notifications have in common: a message, how it is sent, and how an answer is judged.

No redirect is followed, and no credential of `hosts:` is sent.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Final

from mirrord.errors import ContentError, DeniedError, MirrordError, RefusedError, ServerError, ThrottledError
from mirrord.printable import plain
from mirrord.wire.http.client import Http
from mirrord.wire.http.pace import retry_after
from mirrord.wire.notify.message import Message
from mirrord.wire.notify.receiver import Receiver
from mirrord.wire.oci.document import check_shape
from mirrord.wire.secret import redact

DEADLINE: Final = 30.0
"""Seconds for one attempt to send a message."""
_QUOTED: Final = 200  # characters of an answer in messages


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request of a service."""

    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HookAnswer:
    """An answer of a service."""

    host: str
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def quoted(self) -> str:
        """The answer for people: status, and the start of the body without secrets."""
        text = redact(plain(" ".join(self.body.decode("utf-8", "replace").split())))
        return f"{self.status} {text[:_QUOTED]}{'…' if len(text) > _QUOTED else ''}".strip()

    def document(self) -> Mapping[str, object]:
        """Return the JSON object of the body.

        Raises:
            ContentError: it is none.
        """
        what = f"{self.host}: answered {self.quoted}; this is not the answer of such a service, check the address"
        try:
            check_shape(self.body, self.host)
            found = json.loads(self.body)
        except (ValueError, RecursionError, MirrordError):
            raise ContentError(what) from None
        if not isinstance(found, dict):
            raise ContentError(what)
        return found

    def error(self, what: str, *, now: float, after: float | None = None) -> MirrordError:
        """Return the error that the status stands for; `what` is what the service says, and what to do.

        Args:
            what: one sentence.
            now: Unix time, for the date of a `Retry-After`.
            after: seconds that the service wants to be left alone, where the body says so.
        """
        text = f"{self.host}: {what}"
        wait = retry_after(self.headers.get("retry-after"), now) if after is None else after
        if self.status == 429:
            return ThrottledError(text, wait)
        if self.status >= 500 or self.status in (408, 425):
            return ServerError(text, wait)
        return DeniedError(text, self.status) if self.status in (401, 403) else RefusedError(text, self.status)


class Service(ABC):
    """A service: how a message is written for it, and what its answers mean.

    Attributes:
        title: what people call it.
        pace: least seconds between two messages to one address.
    """

    title: ClassVar[str]
    pace: ClassVar[float] = 1.0

    @abstractmethod
    def prepare(self, receiver: Receiver, message: Message, at: datetime) -> Prepared:
        """Return the request that sends a message at this time."""

    @abstractmethod
    def judge(self, answer: HookAnswer, now: float) -> None:
        """Return when the message was accepted; `now` is Unix time.

        Raises:
            ThrottledError: it was not, and will be later.
            MirrordError: it was not; `passing` says if a later try may work.
        """


def json_body(document: object) -> bytes:
    """Write JSON in UTF-8, as short as it goes."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


async def deliver(http: Http, service: Service, receiver: Receiver, message: Message, at: datetime) -> str:
    """Send a message once; return what the service answered.

    Raises:
        MirrordError: it was not accepted.
    """
    from mirrord.wire.api import post  # noqa: PLC0415 - httpx takes 0.1 s to load, and most runs send no message

    prepared = service.prepare(receiver, message, at)
    headers = {"Content-Type": "application/json; charset=utf-8", **prepared.headers}
    answer = HookAnswer(
        receiver.host,
        *await post(http, prepared.url, prepared.body, host=receiver.host, headers=headers, deadline=DEADLINE),
    )
    if 300 <= answer.status < 400:
        raise answer.error(f"answered {answer.status}, a redirect, which is not followed; check the address", now=0.0)
    service.judge(answer, at.timestamp())
    return answer.quoted
