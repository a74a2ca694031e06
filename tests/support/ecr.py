"""An Amazon ECR on loopback: moto is its API, docker-registry keeps the content, and a front says what ECR says."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp import web
from moto.backends import get_backend
from moto.server import ThreadedMotoServer

from mirrord.testing.servers import DockerRegistry
from mirrord.wire.host import AwsAccess, HostPolicy

ACCOUNT: Final = "123456789012"
REGION: Final = "us-east-1"
TOKEN: Final = f"{ACCOUNT}-auth-token"
"""What moto issues as a password."""
_PATH = re.compile(r"/v2/(?P<name>.+)/(?:manifests|blobs|tags|referrers)/.*")
_HOP: Final = ("connection", "transfer-encoding", "content-encoding", "date", "server")


def backend() -> Any:
    """Return what moto holds."""
    return get_backend("ecr")[ACCOUNT][REGION]


@contextlib.contextmanager
def open_moto() -> Iterator[str]:
    """Serve AWS's API, empty; give its URL."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


@dataclass(slots=True)
class Ecr:
    """A registry of Amazon.

    Attributes:
        host: `127.0.0.1:PORT`.
        endpoint: URL of the API.
        asked: method and path of each request to the registry.
        answered: its statuses.
        expired: passwords that it takes no longer.
    """

    host: str
    endpoint: str
    asked: list[str] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    expired: set[str] = field(default_factory=set)

    @property
    def policy(self) -> HostPolicy:
        """What `hosts:` says of it."""
        access = AwsAccess(region=REGION, endpoint=self.endpoint)
        return HostPolicy(self.host, profile="ecr", aws=access)

    @property
    def repositories(self) -> Any:
        """What was created, by name."""
        return backend().repositories


def _error(status: int, code: str, message: str) -> web.Response:
    """Answer as the registry does; what it says of a missing repository is from plexsystems/sinker#55."""
    text = json.dumps({"errors": [{"code": code, "message": message}]})
    challenge = {"Www-Authenticate": 'Basic realm="https://ecr.test/",service="ecr.amazonaws.com"'}
    return web.Response(
        status=status, text=text, content_type="application/json", headers=challenge if status == 401 else None
    )


@contextlib.asynccontextmanager
async def open_ecr(endpoint: str, registry: DockerRegistry) -> AsyncIterator[Ecr]:
    """Put a front before a docker-registry that takes moto's token as the password of AWS."""
    backend().repositories.clear()
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        ecr = Ecr("", endpoint)

        async def answer(request: web.Request) -> web.StreamResponse:
            found = _PATH.fullmatch(request.path)
            name = found["name"] if found else ""
            sent = request.headers.get("authorization", "")
            if sent in ecr.expired:  # deis/builder#426
                return _error(403, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")
            if not sent:
                return _error(401, "UNAUTHORIZED", "no basic auth credentials")
            if name and name not in ecr.repositories:
                why = f"The repository with name '{name}' does not exist in the registry with id '{ACCOUNT}'"
                return _error(404, "NAME_UNKNOWN", why)
            url = f"{registry.url}{request.raw_path}"
            headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP}
            async with session.request(
                request.method, url, headers=headers, data=request.content, allow_redirects=False
            ) as there:
                kept = {key: value for key, value in there.headers.items() if key.lower() not in _HOP}
                return web.Response(status=there.status, headers=kept, body=await there.read())

        async def handle(request: web.Request) -> web.StreamResponse:
            response = await answer(request)
            ecr.asked.append(f"{request.method} {request.path}")
            ecr.answered.append(response.status)
            return response

        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{rest:.*}", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        ecr.host = "{}:{}".format(*site._server.sockets[0].getsockname())  # type: ignore[attr-defined]  # asyncio has it, typeshed does not
        try:
            yield ecr
        finally:
            await runner.cleanup()
