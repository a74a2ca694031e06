"""Ask a real `mirrord serve` for manifests, blobs, charts, indexes and single files, beside docker-registry and nginx.

Counts what the servers pay: requests (of blobs: gigabytes) for each second of a server's CPU, read from /proc. The
clients are `ab` with connections that stay open. Each round asks all servers for one thing, one after the other; the
median of the rounds counts. nginx sends plain files of the same bytes, and so is the floor. `--base` starts another
checkout beside.

    python -m bench.served [--only NAME…] [--rounds N] [--seconds S] [--base FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import os
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.daemon import running_daemon
from bench.helm import CUT, grow
from mirrord.blobs.disk import DiskStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.named import NamedFiles
from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import INDEX
from mirrord.testing.charts import build_chart
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.images import OCI_MANIFEST, build_image
from mirrord.testing.ports import free_port
from mirrord.testing.pushing import push
from mirrord.testing.running import run
from mirrord.testing.servers import DockerRegistry, available
from tests.support.layouts import write_layout
from tests.support.processes import cpu_of, peak_of

TAGS: Final = 10_000
SMALL: Final = 8  # connections, unless the name of a thing says otherwise
NGINX = """daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{ access_log off; sendfile on; keepalive_requests 1000000000; root {folder}; gzip_static on;
server {{ listen 127.0.0.1:{port}; location / {{ default_type application/octet-stream; }} }} }}
"""


@dataclass(slots=True)
class Server:
    """A server: where it listens, and its process."""

    name: str
    url: str
    pid: int

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used."""
        return cpu_of(self.pid)

    def memory(self) -> float:
        """Return its peak memory in MiB."""
        return peak_of(self.pid)


@dataclass(frozen=True, slots=True)
class Thing:
    """What is asked for: a path, how, and who has it besides mirrord."""

    name: str
    path: str
    options: tuple[str, ...] = ()
    peers: tuple[str, ...] = ("nginx",)
    many: int = SMALL
    large: bool = False  # bytes are counted, and not requests
    unchanged: bool = False  # it is asked for by who has it


async def asked(server: Server, thing: Thing, seconds: int) -> float:
    """Let `ab` ask one server for one thing; return what it served for each second of its CPU."""
    options = ["-H", f"Accept: {OCI_MANIFEST}", *thing.options]
    if thing.unchanged:
        head = (await run("curl", "-sI", f"{server.url}{thing.path}")).output
        tag = re.search(r"(?im)^etag: *(.*?)\s*$", head)
        assert tag is not None, head
        options += ["-H", f"If-None-Match: {tag[1]}"]
    command = ["ab", "-q", "-k", "-c", str(thing.many), "-t", str(seconds), "-n", "100000000", *options]
    before = server.cpu()
    done = await run(*command, f"{server.url}{thing.path}", seconds=seconds + 60)
    used = server.cpu() - before
    count = re.search(r"Complete requests: +(\d+)", done.output)
    bad = re.search(r"Non-2xx responses: +(\d+)", done.output)
    assert count is not None, done.output
    assert (int(bad[1]) if bad else 0) == (int(count[1]) if thing.unchanged else 0), done.output
    length = re.search(r"HTML transferred: +(\d+)", done.output)
    assert length is not None, done.output
    return (int(length[1]) / 1e9 if thing.large else int(count[1])) / max(used, 0.01)


class Bench:
    """The content, and the servers that have it."""

    def __init__(self, folder: Path, given: argparse.Namespace) -> None:
        """Work below `folder`."""
        self.folder, self.given = folder, given
        self.image = build_image(["linux/amd64"], layers=1, layer_size=given.blob << 20)
        self.blob = max(self.image.blobs, key=lambda digest: len(self.image.blobs[digest]))
        self.chart = build_chart("app", "1.2.3", {"templates/noise.txt": os.urandom(40_000)})
        self.index = grow(gzip.decompress(CUT.read_bytes()).decode(), 15_000_000)
        self.page = b"# a page of text\n" * 200

    def things(self) -> list[Thing]:
        """Return what is asked for."""
        both, tag = ("docker-registry", "nginx"), "/v2/big/manifests/v1"
        blobs = f"/v2/big/blobs/{self.blob}"
        return [
            Thing("manifest by tag", tag, peers=both),
            Thing("manifest by digest", f"/v2/big/manifests/{self.image.digest}", peers=both),
            Thing("HEAD of a manifest", tag, ("-i",), both),
            Thing("manifest, 304", tag, peers=("nginx",), unchanged=True),
            Thing("tags, 1000 of 10000", "/v2/many/tags/list", peers=()),
            *(
                Thing(f"blob of {self.given.blob} MiB, c={many}", blobs, (), both, many, large=True)
                for many in (1, 8, 64)
            ),
            Thing("chart of 40 kB", "/helm/charts/app-1.2.3.tgz"),
            Thing("index.yaml, 15 MB", f"/helm/charts/{INDEX}", many=2),
            Thing("index.yaml, gzip", f"/helm/charts/{INDEX}", ("-H", "Accept-Encoding: gzip"), many=2),
            Thing("index.yaml, 304", f"/helm/charts/{INDEX}", unchanged=True),
            Thing("raw, 3 kB", "/raw/app/main/page.md"),
            Thing("raw, 304", "/raw/app/main/page.md", unchanged=True),
        ]

    @contextlib.asynccontextmanager
    async def servers(self) -> AsyncIterator[list[Server]]:
        """Start all of them."""
        await self._fill()
        trees = {"mirrord": Path.cwd()} | ({"base": self.given.base.resolve()} if self.given.base else {})
        async with contextlib.AsyncExitStack() as stack:
            servers = []
            for name, tree in trees.items():
                state = self.folder / f"state-{name}"
                shutil.copytree(self.folder / "state", state)
                servers.append(await stack.enter_async_context(self._mirrord(name, tree, state)))
            if not available("nginx"):
                servers.append(await stack.enter_async_context(self._nginx()))
            if not available("docker-registry"):
                registry = await stack.enter_async_context(DockerRegistry())
                await push(self.image, registry.url, "big", ["v1"])
                servers.append(Server("docker-registry", registry.url, registry.pid))
            yield servers

    async def _fill(self) -> None:
        """Mirror an image and a repository, and keep charts and a repository of many tags as runs would have."""
        state, source = self.folder / "state", Upstream(self.folder / "hosts" / "app.git")
        source.path.parent.mkdir()
        assert (await run("git", "init", "--quiet", "--bare", "-b", "main", source.path)).status == 0
        source.commit("main", {"page.md": self.page})
        write_layout(self.image, self.folder / "layout", "v1")
        argv, pipe = (
            [sys.executable, "-m", "bench.repositories", "--serve", source.path.parent],
            asyncio.subprocess.PIPE,
        )
        host = await asyncio.create_subprocess_exec(*map(str, argv), stdin=pipe, stdout=pipe)
        assert host.stdin is not None
        assert host.stdout is not None
        try:
            conf = self.folder / "conf.d"
            conf.mkdir()
            (conf / "all.yaml").write_text(
                "settings: {log: {format: json}}\nmirrors:\n"
                f"  - {{name: big, kind: image, from: {{layout: {self.folder / 'layout'}}}, to: [local]}}\n"
                f"  - {{name: app, kind: git, from: '{(await host.stdout.readline()).decode().strip()}/app.git',"
                " to: [local]}\n"
            )
            done = await run(sys.executable, "-m", "mirrord", "sync", "-c", conf, "--state", state)
            assert done.status == 0, done.output
        finally:
            host.stdin.close()
            await host.wait()
        blobs, repositories = DiskStore(state / "blobs"), DiskRepositories(state / "repositories")
        charts = NamedFiles(blobs, repositories, "_helm/charts")
        await charts.put("app-1.2.3.tgz", self.chart.data, "application/gzip")
        await charts.put(INDEX, self.index, "application/yaml")
        await charts.put(f"{INDEX}.gz", gzip.compress(self.index), "application/gzip")
        await charts.save()
        await charts.show(await charts.waiting())
        held = await repositories.state("big")
        assert held is not None
        tags = dict.fromkeys((f"v{number // 100}.{number % 100}" for number in range(TAGS)), Digest(self.image.digest))
        await repositories.publish("many", held.manifests, tags)

    @contextlib.asynccontextmanager
    async def _mirrord(self, name: str, tree: Path, state: Path) -> AsyncIterator[Server]:
        async with running_daemon(self.folder / "conf.d", state, tree) as (pid, port):
            yield Server(name, f"http://127.0.0.1:{port}", pid)

    @contextlib.asynccontextmanager
    async def _nginx(self) -> AsyncIterator[Server]:
        root, port = self.folder / "nginx", free_port()
        files = {
            "v2/big/manifests/v1": self.image.body,
            f"v2/big/manifests/{self.image.digest}": self.image.body,
            f"v2/big/blobs/{self.blob}": self.image.blobs[self.blob],
            "helm/charts/app-1.2.3.tgz": self.chart.data,
            f"helm/charts/{INDEX}": self.index,
            f"helm/charts/{INDEX}.gz": gzip.compress(self.index),
            "raw/app/main/page.md": self.page,
        }
        for path, data in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        (root / "conf").write_text(NGINX.format(folder=root, port=port))
        process = await asyncio.create_subprocess_exec("nginx", "-c", str(root / "conf"), "-p", str(root))
        try:
            url = f"http://127.0.0.1:{port}"
            assert (
                await run("curl", "-s", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", url)
            ).status == 0
            yield Server("nginx", url, process.pid)
        finally:
            process.terminate()
            await process.wait()


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="things whose names begin so")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    parser.add_argument(
        "--seconds", type=int, choices=range(1, 61), metavar="S", default=1, help="whole seconds of each (default 1)"
    )
    parser.add_argument("--blob", type=int, default=100, help="MiB of the blob (default 100)")
    parser.add_argument("--base", type=Path, help="another checkout, to be measured beside")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="served-") as folder:
        bench = Bench(Path(folder), given)
        async with bench.servers() as servers:
            first, *others = (server.name for server in servers)
            print(f"for each second of CPU; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
            print(f"{'':26}{first:>14}" + "".join(f"{other:>16}{'ratio':>8}" for other in others))
            for thing in bench.things():
                if not given.only or thing.name.startswith(tuple(given.only)):
                    print(row(thing, await rounds(servers, thing, given), servers), flush=True)
            print("peak MiB: " + ", ".join(f"{server.name} {server.memory():.0f}" for server in servers))


async def rounds(servers: list[Server], thing: Thing, given: argparse.Namespace) -> dict[str, float]:
    """Ask all who have a thing, in turn; return the medians."""
    found: dict[str, list[float]] = {}
    asking = [server for server in servers if server.name in ("mirrord", "base", *thing.peers)]
    for number in range(given.rounds):
        for server in asking if number % 2 else reversed(asking):
            found.setdefault(server.name, []).append(await asked(server, thing, given.seconds))
    return {name: statistics.median(rates) for name, rates in found.items()}


def row(thing: Thing, found: dict[str, float], servers: list[Server]) -> str:
    """Write a line of the table; a ratio is mirrord's figure by the other's."""
    form = "{:.2f} GB" if thing.large else "{:.0f}"
    cells = f"{thing.name:26}{form.format(found['mirrord']):>14}"
    for server in servers[1:]:
        rate = found.get(server.name)
        cells += f"{form.format(rate):>16}{found['mirrord'] / rate:>8.2f}" if rate else f"{'':24}"
    return cells


if __name__ == "__main__":
    asyncio.run(main())
