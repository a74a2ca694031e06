"""Debian's Prometheus on loopback, and a daemon to which everything happens that the dashboard shows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from mirrord.testing import Image, Registry, build_image, push
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.ports import free_port
from mirrord.testing.running import started
from tests.support.alerts import RULES
from tests.support.commands import Desk
from tests.support.frontdesk import ALIAS
from tests.support.tls import Authority

PATIENCE = 60.0
INTERVAL = "30s"
"""What stands for Grafana's `$__rate_interval`: long enough for rates of a daemon that is scraped every second."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus; `get` asks its API and returns `data`."""

    base: str
    client: aiohttp.ClientSession

    async def get(self, path: str, **query: str) -> Any:
        """Return what the API says; AssertionError: it says that the query is wrong."""
        async with self.client.get(f"{self.base}/api/v1/{path}", params=query) as answer:
            document = await answer.json()
        assert document["status"] == "success", (query, document)
        return document["data"]

    async def ready(self) -> None:
        """Wait until it answers."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    async with self.client.get(f"{self.base}/-/ready") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def scraping(folder: Path, address: str, ca: Path) -> AsyncIterator[Prometheus]:
    """Start a Prometheus with our rules that scrapes a daemon every second; it is gone when the context ends."""
    folder.mkdir()
    port, data, log = free_port(), folder / "data", folder / "log"
    job: dict[str, object] = {"job_name": "mirrord", "scheme": "https", "tls_config": {"ca_file": str(ca)}}
    job["static_configs"] = [{"targets": [address]}]
    often = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    text = {"global": often, "scrape_configs": [job], "rule_files": [str(RULES)]}
    (folder / "prometheus.yml").write_text(json.dumps(text))
    words = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={data}")
    with log.open("wb") as written:
        async with (
            started("prometheus", *words, f"--web.listen-address=127.0.0.1:{port}", stdout=written, stderr=written),
            aiohttp.ClientSession() as client,
        ):
            made = Prometheus(f"http://127.0.0.1:{port}", client)
            await made.ready()
            yield made


def configuration(places: dict[str, str], pair: tuple[Path, Path]) -> str:
    """Write a configuration with a mirror of each kind, one that fails, a target that refuses, and a front."""
    upstream, every = places["upstream"], {"every": "1h"}
    source = {"repository": f"{places['source']}/team/app", "tags": ["v1"]}
    nowhere = {"repository": "10.255.255.1:5000/team/app", "tags": ["v1"]}  # a private address, which is not dialled
    sections = {
        "settings": {"listen": "127.0.0.1:0", "tls": {"certificate": str(pair[0]), "key": str(pair[1])}},
        "names": {"aliases": {ALIAS: upstream}},
        "front": {"image": {"upstreams": [upstream], "allow": [f"{upstream}/team/**"], "fresh": "0s"}},
        "targets": {name: {"kind": "image", "to": f"{places[name]}/mirror"} for name in ("east", "closed")},
        "mirrors": [
            {"name": "app", "kind": "image", "from": source, "to": ["east", "closed", "local"], **every},
            {"name": "charts", "kind": "helm", "from": places["charts"], "to": "local", **every},
            {"name": "code", "kind": "git", "from": places["code"], "to": "local", **every},
            {"name": "lost", "kind": "image", "from": nowhere, "to": "local", **every},
        ],
    }
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in sections.items())  # JSON is YAML


@dataclass(frozen=True, slots=True)
class BusyDaemon:
    """A daemon and all that it talks to."""

    desk: Desk
    address: str
    authority: Authority
    source: Registry
    upstream: Registry
    image: Image

    async def pull(self, client: aiohttp.ClientSession, path: str) -> int:
        """Pull a path of `/v2/` as a client; returns the status."""
        context = ssl.create_default_context(cafile=str(self.authority.ca))
        async with client.get(f"https://{self.address}/v2/{path}", ssl=context) as answer:
            await answer.read()
            return answer.status

    async def work(self) -> None:
        """Do once more all that Prometheus shall see."""
        self.source.faults.on("GET", "/blobs/").status(503)
        await self.desk.run("sync")
        assert (await self.desk.run("reload")).status == 0
        digest, layer = self.image.digest, self.image.layers[0]
        async with aiohttp.ClientSession() as client:
            for path in (f"manifests/{digest}", "manifests/v1", f"blobs/{layer}", f"blobs/{layer}"):
                assert await self.pull(client, f"{ALIAS}/team/app/{path}") == 200
            assert await self.pull(client, f"{ALIAS}/others/app/manifests/v1") in (403, 404)
            await self.upstream.stop()
            failures = (f"absent{number}" for number in range(4))  # one more than what opens a circuit
            for tag in ("v1", "absent", "v1", *failures):  # from the cache, and an error
                await self.pull(client, f"{ALIAS}/team/app/manifests/{tag}")
            await self.upstream.start()


@contextlib.asynccontextmanager
async def busy(folder: Path) -> AsyncIterator[BusyDaemon]:
    """Start the daemon, with the servers to which it goes."""
    image, desk, authority = build_image(["linux/amd64"], layer_size=60_000), Desk(folder), Authority(folder)
    async with (
        Registry() as source,
        Registry() as upstream,
        Registry() as east,
        Registry() as closed,
        ChartRepository() as charts,
        GitHost(folder / "code") as code,
    ):
        for registry in (source, upstream):
            await push(image, registry, "team/app", ["v1"])
            quota = registry.faults.on("HEAD", "/manifests/", times=None)
            quota.header("RateLimit-Remaining", "60;w=21600").header("RateLimit-Limit", "100;w=21600")
        closed.faults.on("POST", "/uploads/", times=None).status(403)
        charts.add(build_chart("app", "1.0.0"))
        Upstream(code.create("code.git")).commit("main", {"a": b"a" * 5000}, parent=None)
        hosts = {"source": source.host, "upstream": upstream.host, "east": east.host, "closed": closed.host}
        places = {**hosts, "charts": charts.url, "code": code.url("code.git")}
        desk.configure(configuration(places, authority.pair("127.0.0.1")))
        async with desk.serving() as daemon:
            yield BusyDaemon(desk, daemon.address, authority, source, upstream, image)
