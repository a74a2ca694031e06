"""The front of images over one upstream, on a real socket: `registry` beside it, a clock that tests set.

async with pulling(tmp_path, upstream.host) as pulls:
answer = await pulls.get("up.test/team/app/manifests/v1")
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mirrord.blobs.shared_cache import SharedCache
from mirrord.events import FrontFailed
from mirrord.model.origin import ConfigOrigin
from mirrord.names.book import NameBook
from mirrord.syncer.values import FrontRules, Services
from mirrord.syncers.image.spec.front import FrontKeys
from mirrord.syncers.image.through import open_through
from mirrord.syncers.image.through.opened import ImageFront
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import FRONT_LIMITS
from mirrord.wire.http.pace import Party
from tests.support.frontserver import Shown, showing
from tests.support.world import World, open_world

NOW = 1000.0
UPSTREAM = "up.test"  # alias of the upstream, which has a port


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer as a client got it; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    clean: bool = True

    @property
    def code(self) -> str:
        """Return the error code of the specification."""
        return str(json.loads(self.body)["errors"][0]["code"])

    @property
    def message(self) -> str:
        """Return the message of the error."""
        return str(json.loads(self.body)["errors"][0]["message"])


@dataclass(slots=True)
class Pulls:
    """A front at work.

    Attributes:
        world: its services, a disk, and doubles.
        address: where it listens.
        front: what is tested.
        upstream: `host:port`.
        now: what its clock says, in seconds.
        events: everything that was emitted.
    """

    world: World
    upstream: str
    now: float = NOW
    events: list[Any] = field(default_factory=list)
    address: tuple[str, int] = ("", 0)
    front: ImageFront = field(init=False)

    def wall(self) -> float:
        """Return the time of day, which goes as `now` does."""
        return time.time() + self.now - NOW

    @property
    def host(self) -> str:
        """Return `127.0.0.1:port`."""
        return f"{self.address[0]}:{self.address[1]}"

    def services(self) -> Services:
        """Return the services in use."""
        return self.world.services

    def configure(self, *, names: NameBook | None = None, **keys: Any) -> None:
        """Use another `front.image`, as a reload does."""
        book = names or NameBook({UPSTREAM: self.upstream})
        more = {"upstreams": [self.upstream], "allow": [f"{UPSTREAM}/**"], **keys}
        read = FrontKeys.model_validate(more)
        origin = ConfigOrigin(str(self.world.folder / "mirrord.yaml"), 1)
        rules = FrontRules(read, read.hosts(), origin)
        self.world.services = replace(self.world.services, fronts={"image": rules}, names=book)

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Answered:
        """Send one request for a path below `/v2/`; header names have `_` for `-`. What is cut off is not `clean`."""
        reader, writer = await asyncio.open_connection(*self.address, limit=1 << 20)
        try:
            fields = {"Host": self.host, **{name.replace("_", "-"): value for name, value in headers.items()}}
            head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            writer.write(f"{method} /v2/{path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            got = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body, left = bytearray(), int(got.get("content-length", 0)) if method != "HEAD" else 0
            with contextlib.suppress(ConnectionError):
                while left > len(body) and (piece := await reader.read(1 << 20)):
                    body += piece
            return Answered(int(status.split()[1]), got, bytes(body), len(body) == left)
        finally:
            writer.close()

    async def begin(self, path: str) -> asyncio.StreamWriter:
        """Send a GET for a path below `/v2/`, and return the connection without reading from it."""
        _, writer = await asyncio.open_connection(*self.address)
        writer.write(f"GET /v2/{path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        await writer.drain()
        return writer

    def failures(self) -> list[FrontFailed]:
        """Return the failures of the upstream so far."""
        return [one for one in self.events if isinstance(one, FrontFailed)]

    def outcomes(self) -> list[tuple[str, str]]:
        """Return kind and outcome of each answer with content, and forget them."""
        found = [(one.kind, one.outcome) for one in self.events if type(one).__name__ == "FrontAnswered"]
        self.events.clear()
        return found


class _Current(Shown):
    """Shows the services in use, which tests replace."""

    def __init__(self, pulls: Pulls) -> None:
        super().__init__(pulls.services(), pulls.front)
        self._pulls = pulls

    def services(self) -> Services:
        return self._pulls.services()


@contextlib.asynccontextmanager
async def pulling(
    folder: Path,
    upstream: str,
    *,
    budget: int = 1 << 30,
    book: HostBook | None = None,
    shared: SharedCache | None = None,
    **keys: Any,
) -> AsyncIterator[Pulls]:
    """Serve a front whose only upstream is `up.test`; `keys` are further ones of `front.image`."""
    async with contextlib.AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(folder, budget=budget))
        strangers, limits = (book or HostBook()).for_strangers(()), replace(FRONT_LIMITS, rest=None)
        http_client = Http(strangers, world.services.events, limits, jitter=lambda: 0.0, party=Party.FRONT)
        await stack.enter_async_context(http_client)
        sharing = (lambda _: shared) if shared else None
        world.services = replace(world.services, keep=folder, upstreams=http_client, shared=sharing)
        pulls = Pulls(world, upstream)
        world.services.events.listen(pulls.events.append)
        pulls.configure(**keys)
        pulls.front = await stack.enter_async_context(
            open_through(pulls.services, clock=lambda: pulls.now, wall=pulls.wall)
        )
        pulls.address = await stack.enter_async_context(showing(_Current(pulls)))
        yield pulls
