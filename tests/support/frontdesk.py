"""A daemon with a front: `mirrord serve` as a child process, and an upstream that nobody mirrors."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.support.commands import Desk, Served

ALIAS: Final = "up.example"
"""The alias of the upstream, which a path cannot name: it has a port."""
NAMESPACE: Final = "hub.example"
"""Another one, as a client's namespace."""


@dataclass(frozen=True, slots=True)
class FrontDesk:
    """A daemon that serves an upstream to everybody.

    Attributes:
        daemon: the child.
        desk: where it runs.
        upstream: `HOST:PORT`.
    """

    daemon: Served
    desk: Desk
    upstream: str

    @property
    def host(self) -> str:
        """Its address as a client writes it: a loopback address, which needs no TLS."""
        return self.daemon.address

    @property
    def port(self) -> str:
        """Its port."""
        return self.daemon.address.rpartition(":")[2]

    def reference(self, form: str, name: str) -> str:
        """Write `NAME:TAG` of the upstream: behind its alias (form `prefix`), or at a host of its own (`host`)."""
        return f"localhost:{self.port}/{name}" if form == "host" else f"{self.host}/{ALIAS}/{name}"

    def path(self, name: str) -> str:
        """Return the path of a repository."""
        return f"/v2/{ALIAS}/{name}"

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask once."""
        url = f"http://{self.host}{path}"
        async with aiohttp.ClientSession() as client, client.request(method, url, headers=headers) as answer:
            return Answer(answer.status, answer.headers, await answer.read())


@dataclass(frozen=True, slots=True)
class Answer:
    """What came."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def configuration(upstream: str, more: str = "", **keys: Any) -> str:
    """Write a configuration that lets all pull from one upstream; `more` are sections, `keys` those of the front."""
    names = {"aliases": dict.fromkeys((ALIAS, NAMESPACE), upstream), "hosts": {"localhost": upstream}}
    front = {"upstreams": [upstream], "allow": [f"{upstream}/**"], **keys}
    sections = {"settings": {"listen": "127.0.0.1:0"}, "names": names, "front": {"image": front}}
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in sections.items()) + more  # JSON is YAML


@contextlib.asynccontextmanager
async def fronted(folder: Path, upstream: str, more: str = "mirrors: []\n", **keys: Any) -> AsyncIterator[FrontDesk]:
    """Start a daemon with such a configuration below `folder`."""
    desk = Desk(folder)
    desk.configure(configuration(upstream, more, **keys))
    async with desk.serving() as daemon:
        yield FrontDesk(daemon, desk, upstream)
