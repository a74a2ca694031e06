"""Servers that cache a registry, each with an empty cache: mirrord's front, docker-registry 2.8 and 3, and nginx.

None is tuned. nginx lets one request fill the cache while others for the same wait (`proxy_cache_lock`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.daemon import running_daemon
from bench.peers import find
from bench.upstream import REPOSITORY
from mirrord.testing.ports import free_port
from mirrord.testing.running import run
from mirrord.testing.servers import DockerRegistry
from tests.support.crowd import Address
from tests.support.lifesigns import Server

ALIAS: Final = "up.example"
NGINX: Final = """daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{ access_log off; sendfile on; keepalive_requests 1000000000; proxy_temp_path {folder}/temp;
proxy_cache_path {folder}/cache keys_zone=all:10m max_size=100g use_temp_path=off;
server {{ listen 127.0.0.1:{port} backlog=4096;
location / {{ proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Connection "";
proxy_cache all; proxy_cache_valid 200 1h; proxy_cache_lock on; proxy_cache_lock_timeout 1h; proxy_cache_lock_age 1h;
}} }} }}
"""
CONFIG: Final = """settings: {{log: {{format: json}}}}
names: {{aliases: {{{alias}: '{upstream}'}}}}
front:
  image: {{upstreams: ['{upstream}'], allow: ['{upstream}/**'], cache: {{size: 100GiB}}}}
mirrors: []
"""


@dataclass(frozen=True, slots=True)
class Cache:
    """A server that runs.

    Attributes:
        server: where it listens, its probe and its process.
        path: of the repository there, `/v2/…`.
    """

    server: Server
    path: str

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        host, port = self.server.address
        return f"http://{host}:{port}"


@contextlib.asynccontextmanager
async def _mirrord(upstream: str, folder: Path) -> AsyncIterator[Cache]:
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "all.yaml").write_text(CONFIG.format(alias=ALIAS, upstream=upstream))
    async with running_daemon(folder / "conf.d", folder / "state") as (pid, port):
        yield Cache(Server(("127.0.0.1", port), "/livez", pid), f"/v2/{ALIAS}/{REPOSITORY}")


def _registry(name: str) -> Callable[[str, Path], AbstractAsyncContextManager[Cache]]:
    @contextlib.asynccontextmanager
    async def opened(upstream: str, folder: Path) -> AsyncIterator[Cache]:
        program = find(name)[0]
        async with DockerRegistry(upstream=f"http://{upstream}", folder=folder, program=program) as registry:
            yield Cache(Server(_address(registry.host), "/v2/", registry.pid), f"/v2/{REPOSITORY}")

    return opened


@contextlib.asynccontextmanager
async def _nginx(upstream: str, folder: Path) -> AsyncIterator[Cache]:
    port = free_port()
    (folder / "conf").write_text(NGINX.format(folder=folder, port=port, upstream=upstream))
    process = await asyncio.create_subprocess_exec(find("nginx")[0], "-c", str(folder / "conf"), "-p", str(folder))
    try:
        retried = ("--retry", "20", "--retry-connrefused", "--retry-delay", "1")
        assert (await run("curl", "-sf", *retried, f"http://127.0.0.1:{port}/v2/")).status == 0
        yield Cache(Server(("127.0.0.1", port), "/v2/", process.pid), f"/v2/{REPOSITORY}")
    finally:
        process.terminate()
        await process.wait()


def _address(host: str) -> Address:
    name, _, port = host.partition(":")
    return name, int(port)


CACHES: Final[dict[str, Callable[[str, Path], AbstractAsyncContextManager[Cache]]]] = {
    "mirrord": _mirrord,
    "docker-registry": _registry("docker-registry"),
    "registry3": _registry("registry3"),
    "nginx": _nginx,
}
"""How each is opened: with `HOST:PORT` of the upstream and an empty folder."""
