"""Load one daemon with crowds, and watch how long its probes take: nobody may be reset or refused, and syncs go on.

A real `mirrord serve` with 1 000 mirrors, an image with a blob of 50 MB and a Git repository in `local`, all on
loopback. The crowds: 200 downloads at once, 50 clients at `/status`, 100 at `/raw/`, and at `/git/` slow readers of
2 kB/s with as many that post one byte and no more, while `git clone` and `git ls-remote` have to work. Meanwhile
`/livez` is asked 20 times a second, each on a new connection, and a Git mirror is synchronised again and again. The
downloads are repeated with Debian's docker-registry, where it is installed. Ends by itself.

    python -m bench.load [--only NAME…] [--downloads N] [--seconds S] [--repository MB]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from bench.daemon import running_daemon
from mirrord.commands import Sync
from mirrord.serve.remote import ControlClient
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.images import build_image
from mirrord.testing.pushing import push
from mirrord.testing.running import run
from mirrord.testing.servers import DockerRegistry, available
from mirrord.wire.git.pktline import DELIMITER, FLUSH, encode
from tests.support.crowd import Address, Client, crowd, request
from tests.support.gitcontent import fill
from tests.support.layouts import write_layout
from tests.support.lifesigns import HEAD, Server, Watched, Work

GIT = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
MIRRORS = 1000
SLOW = 2000.0  # bytes a second
ELSEWHERE = "127.0.0.2"


class Bench:
    """A daemon, a source for its Git mirror, and crowds."""

    def __init__(self, folder: Path, given: argparse.Namespace, pool: ProcessPoolExecutor) -> None:
        """Work below `folder`."""
        self.folder, self.given, self._pool = folder, given, pool
        self.conf, self.state = folder / "conf.d", folder / "state"
        self.image = build_image(layers=1, layer_size=given.blob << 20)
        self.blob = max(self.image.blobs, key=lambda digest: len(self.image.blobs[digest]))
        self.source = Upstream(folder / "hosts" / "app.git")
        self.server: Server

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Start the source and the daemon, and fill `local`."""
        write_layout(self.image, self.folder / "layout", "v1")
        self.source.path.parent.mkdir()
        await run("git", "init", "--quiet", "--bare", "-b", "main", self.source.path, env=GIT)
        fill(self.source, 200, self.given.repository * 1_000_000)
        self.source.commit("main", {f"docs/{number}.md": b"# a page\n" * 50 for number in range(50)})
        argv = [sys.executable, "-m", "bench.repositories", "--serve", str(self.folder / "hosts")]
        pipe = asyncio.subprocess.PIPE
        host = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)
        try:
            assert host.stdout is not None
            self._configure((await host.stdout.readline()).decode().strip())
            async with self._daemon():
                await self.sync(Watched())
                await ControlClient(self.state).carry_out(Sync(("big",)))
                yield
        finally:
            assert host.stdin is not None
            host.stdin.close()
            await host.wait()

    def _configure(self, host: str) -> None:
        self.conf.mkdir()
        lines = [
            "settings: {listen: '127.0.0.1:0', log: {format: json}}",
            "targets:",
            f"  other: {{kind: image, to: '127.0.0.1:9/{'x' * 20}'}}",
            "mirrors:",
            f"  - {{name: app, kind: git, from: '{host}/app.git', to: [local]}}",
            f"  - {{name: big, kind: image, from: {{layout: {self.folder / 'layout'}}}, to: [local]}}",
        ]
        lines += [
            f"  - {{name: m{number:04}, kind: image, from: {{repository: 127.0.0.1:9/team/m{number:04}, tags: ['*']}},"
            " to: [other, local]}"
            for number in range(MIRRORS - 2)
        ]
        (self.conf / "all.yaml").write_text("\n".join(lines) + "\n")

    @contextlib.asynccontextmanager
    async def _daemon(self) -> AsyncIterator[None]:
        async with running_daemon(self.conf, self.state) as (pid, port):
            self.server = Server(("127.0.0.1", port), "/livez", pid)
            yield

    async def sync(self, found: Watched) -> None:
        """Let there be something new, and mirror it."""
        await asyncio.to_thread(self.source.commit, "main", {"news": os.urandom(2000)})
        began = time.monotonic()
        try:
            (ended,) = await ControlClient(self.state).carry_out(Sync(("app",)))
            found.failed += [f"sync: {ended.error}"] if ended.error else []
        finally:
            found.syncs.append(time.monotonic() - began)

    async def clone(self, found: Watched) -> None:
        """Clone, and list refs."""
        to = Path(tempfile.mkdtemp(dir=self.folder))
        host, port = self.server.address
        url = f"http://{host}:{port}/git/app.git"
        began = time.monotonic()
        try:
            for command in (["clone", "--quiet", url, str(to)], ["ls-remote", "--quiet", url]):
                done = await run("git", *command, env=GIT, seconds=120)
                if done.status:
                    found.failed.append(f"git {command[0]}: {done.output.strip()[-100:]}")
        finally:
            found.clones.append(time.monotonic() - began)  # cut off at the end: at least so long
            shutil.rmtree(to, ignore_errors=True)

    async def crowd(self, found: Watched, clients: Sequence[Client], seconds: float, *, again: bool = False) -> None:
        """Let a crowd loose, once or for some seconds."""
        work = rounds if again else crowd
        loop = asyncio.get_running_loop()
        found.clients = await loop.run_in_executor(self._pool, work, self.server.address, clients, seconds)

    def posts(self, count: int) -> Sequence[Client]:
        """Return clients that clone slowly, and as many that post one byte and wait, from an address of their own."""
        tip = self.source.refs()["refs/heads/main"]
        body = encode("command=fetch") + encode("object-format=sha1") + DELIMITER
        body += b"".join(map(encode, ("ofs-delta", f"want {tip}", "done"))) + FLUSH
        path, told = "/git/app.git/git-upload-pack", ("Content-Type: application/x-git-upload-pack-request",)
        whole = request(path, *told, "Git-Protocol: version=2", method="POST", body=body)
        begun = request(path, *told, "Content-Length: 1000", method="POST") + b"0"
        return [
            client for _ in range(count) for client in (Client(whole, SLOW, ELSEWHERE), Client(begun, source=ELSEWHERE))
        ]


def rounds(address: Address, clients: Sequence[Client], seconds: float) -> Sequence[Client]:
    """Let the same crowd come again and again."""
    ended: list[Client] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended += crowd(address, [Client(client.request) for client in clients], 120)
        time.sleep(0 if clients else seconds)
    return ended


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="scenarios whose names begin so")
    parser.add_argument("--downloads", type=int, default=200, help="downloads at once (default 200)")
    parser.add_argument("--blob", type=int, default=50, help="MiB of the blob (default 50)")
    parser.add_argument("--seconds", type=float, default=10, help="seconds of each other scenario (default 10)")
    parser.add_argument("--repository", type=int, default=20, help="MB of the Git repository (default 20)")
    given = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="load-") as folder, ProcessPoolExecutor(1, mp_context=spawn) as pool:
        bench = Bench(Path(folder), given, pool)
        async with bench.open():
            print(f"{MIRRORS} mirrors, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n{HEAD}")
            await scenarios(bench, given)


async def scenarios(bench: Bench, given: argparse.Namespace) -> None:
    """Run them one after the other."""
    seconds, downloads = given.seconds, _many(f"/v2/big/blobs/{bench.blob}", given.downloads)
    pages = [Client(request(f"/raw/app/main/docs/{number % 50}.md")) for number in range(100)]
    again = {"seconds": seconds, "again": True}
    plan: list[tuple[str, Sequence[Client], dict[str, Any], tuple[Work, ...]]] = [
        ("idle", (), {"seconds": min(5.0, seconds), "again": True}, (bench.sync,)),
        (f"{given.downloads} downloads", downloads, {"seconds": 300}, (bench.sync,)),
        ("50 at /status", _many("/status", 50), again, (bench.sync,)),
        ("50 at /metrics", _many("/metrics", 50), again, (bench.sync,)),
        ("100 at /raw/", pages, again, (bench.sync,)),
        ("8 slow at /git/", bench.posts(8), {"seconds": 2 * seconds}, (bench.sync, bench.clone)),
        ("64 slow at /git/", bench.posts(64), {"seconds": 2 * seconds}, (bench.sync, bench.clone)),
    ]
    for name, clients, bounds, others in plan:
        if not given.only or name.startswith(tuple(given.only)):
            found = await bench.server.watched(partial(bench.crowd, clients=clients, **bounds), *others)
            print(found.row(name), flush=True)
    if not available("docker-registry") and (not given.only or "docker" in given.only):
        async with DockerRegistry() as registry:
            await push(bench.image, registry.url, "big", ["v1"])
            host, _, port = registry.host.partition(":")
            bench.server = Server((host, int(port)), "/v2/", registry.pid)
            found = await bench.server.watched(partial(bench.crowd, clients=downloads, seconds=300))
            print(found.row(f"docker-registry, {given.downloads}"), flush=True)


def _many(path: str, count: int) -> Sequence[Client]:
    return [Client(request(path)) for _ in range(count)]


if __name__ == "__main__":
    asyncio.run(main())
