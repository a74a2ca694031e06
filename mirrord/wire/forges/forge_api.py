"""Requests about a repository to the API of its forge, with a token of our own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mirrord.errors import ContentError, DeniedError

if TYPE_CHECKING:
    from mirrord.wire.http.client import Http


@dataclass(frozen=True, slots=True)
class ForgeApi:
    """The API of a forge; errors are as for `issues.Issues`.

    Attributes:
        http: the way to it.
        host: whose credentials it may see.
        headers: of each request, with the token.
        needed: what to do where the token is refused.
    """

    http: Http
    host: str
    headers: dict[str, str]
    needed: str

    async def ask(self, method: str, url: str, body: object = None) -> Any:
        """Return the document of an answer; what writes is sent once."""
        from mirrord.wire.api import call  # noqa: PLC0415 - httpx takes 0.1 s to load, and most runs ask no API

        attempts = None if method == "GET" else 1
        try:
            answer = await call(self.http, method, url, body, host=self.host, headers=self.headers, attempts=attempts)
        except DeniedError as error:
            raise DeniedError(f"{error}; {self.needed}", error.status) from error
        return answer.document

    async def entries(self, url: str) -> list[Any]:
        """Return a page of a list. Raises ContentError: it is none."""
        found = await self.ask("GET", url)
        if not isinstance(found, list):
            raise ContentError(f"{self.host}: the answer of its API is no list; has the API changed?")
        return found
