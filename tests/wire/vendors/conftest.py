"""The API of a registry on loopback, which answers what is expected and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.oci.reference import Reference
from mirrord.wire.secret import Credential, Secret
from mirrord.wire.vendors import known
from mirrord.wire.vendors.known import TagTimes, repositories_for

TOKEN = "a-secret-of-the-test-0123456789"


@dataclass
class Api:
    """What is asked of it, and how.

    Attributes:
        server: the API.
        book: hosts; the registry is one of them.
        kind: the vendor.
    """

    server: HTTPServer
    book: HostBook
    kind: str

    @property
    def domain(self) -> str:
        """The registry, `127.0.0.1:PORT`."""
        return f"127.0.0.1:{self.server.port}"

    def login(self, user: str, token: str = TOKEN, **more: Any) -> None:
        """Write a credential, and other keys, for the registry."""
        credential = Credential(user, Secret(token)) if user else None
        policy = HostPolicy(self.domain, credential, profile=self.kind, **more)
        self.book = HostBook({self.domain: policy})

    def answers(self, path: str, answer: Any, query: Mapping[str, str], link: str = "", **keys: Any) -> None:
        """Answer one GET of a path with this query; `authorization` is the header that has to come, "" for none."""
        authorization = keys.pop("authorization", None)
        headers = {} if authorization is None else {"Authorization": authorization}
        asked = self.server.expect_ordered_request(path, "GET", query_string=dict(query), headers=headers)
        asked.respond_with_json(answer, headers={"Link": link} if link else None, **keys)

    @property
    def asked(self) -> list[str]:
        """What was asked, as it was written on the wire."""
        return [f"{request.method} {request.environ['RAW_URI']}" for request, _ in self.server.log]

    @property
    def authorized(self) -> list[str | None]:
        """The `Authorization` of each request."""
        return [request.headers.get("Authorization") for request, _ in self.server.log]

    async def repositories(self, *globs: str) -> list[str]:
        """List what globs may match."""
        async with Http(self.book, jitter=lambda: 0.0) as http:
            return [path async for path in repositories_for(http, self.domain, globs)]

    async def dates(self, path: str, *tags: str) -> dict[str, str]:
        """Return the dates of tags."""
        async with Http(self.book, jitter=lambda: 0.0) as http:
            times = TagTimes(known.VENDORS[self.kind], http, Reference.parse(f"{self.domain}/{path}"))
            return {tag: date.isoformat() for tag, date in (await times.find(tags)).items()}


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    return ("127.0.0.1", 0)


@pytest.fixture
def api(request: pytest.FixtureRequest, httpserver: HTTPServer) -> Iterator[Api]:
    """The API of the vendor that the test names; Docker Hub's answers at the registry's own address."""
    api = Api(httpserver, HostBook(), request.param)
    api.login("")
    yield api
    httpserver.check()
