"""Clone a repository of 100 MB from mirrord, and from nginx with fcgiwrap and git's own http-backend.

Each serves the same history on loopback; told is what the server and its children used, and how long the client waited.

    python -m bench.clone [--size MB] [--refs N] [--runs N]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.measure import OURS, Measured, by_turns, child, machine, table
from bench.peers import find, present
from bench.watched import WatchedDaemon, open_daemon
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.ports import free_port
from tests.support.gitcontent import fill

PEER = "nginx"  # with fcgiwrap
GIT = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
NGINX = """daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{ access_log off; client_body_temp_path {folder}/body; fastcgi_temp_path {folder}/answers;
proxy_temp_path {folder}/unused; uwsgi_temp_path {folder}/unused; scgi_temp_path {folder}/unused;
server {{ listen 127.0.0.1:{port}; location / {{
fastcgi_pass unix:{folder}/socket; fastcgi_param SCRIPT_FILENAME {backend};
fastcgi_param GIT_HTTP_EXPORT_ALL 1; fastcgi_param GIT_PROJECT_ROOT {root}; fastcgi_param PATH_INFO $uri;
fastcgi_param QUERY_STRING $query_string; fastcgi_param REQUEST_METHOD $request_method;
fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length;
fastcgi_param GIT_PROTOCOL $http_git_protocol; fastcgi_param REMOTE_ADDR $remote_addr; }} }} }}
"""


BACKEND = """#!/bin/sh
{backend}
times >> {folder}/times
"""


class Nginx:
    """nginx with fcgiwrap."""

    def __init__(self, url: str, pids: list[int], times: Path) -> None:
        self.url, self._pids, self._times = url, pids, times

    def used(self) -> float:
        """Return the CPU seconds of both, and of git, which the kernel does not count with fcgiwrap: it never waits."""
        stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self._pids)
        own = sum(sum(map(int, fields[11:13])) for fields in stats) / os.sysconf("SC_CLK_TCK")
        times = re.findall(r"(\d+)m([\d.]+)s", self._times.read_text())
        return own + sum(60 * int(minutes) + float(seconds) for minutes, seconds in times)


@contextmanager
def nginx(folder: Path, root: Path) -> Iterator[Nginx]:
    """Serve what lies in `root`."""
    port = free_port()
    backend = subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout.strip()
    config, script, times = folder / "nginx.conf", folder / "backend", folder / "times"
    script.write_text(BACKEND.format(folder=folder, backend=f"{backend}/git-http-backend"))
    script.chmod(0o755)
    times.touch()
    config.write_text(NGINX.format(folder=folder, port=port, root=root, backend=script))
    commands = [[find("fcgiwrap")[0], "-s", f"unix:{folder}/socket"], [find("nginx")[0], "-c", str(config)]]
    running = [subprocess.Popen(command, stderr=subprocess.DEVNULL, env=GIT) for command in commands]
    try:
        yield Nginx(f"http://127.0.0.1:{port}", [process.pid for process in running], times)
    finally:
        for process in running:
            process.terminate()
            process.wait()


def clone(url: str, to: Path) -> float:
    """Clone, and return the seconds that took."""
    began = time.perf_counter()
    subprocess.run(["git", "clone", "--quiet", "--bare", url, to], env=GIT, check=True)
    took = time.perf_counter() - began
    shutil.rmtree(to)
    return took


def wait_for(url: str) -> None:
    """Wait until a server answers."""
    for _ in range(100):
        with suppress(subprocess.CalledProcessError):
            subprocess.run(["git", "ls-remote", url], env=GIT, check=True, capture_output=True)
            return
        time.sleep(0.1)
    raise TimeoutError(url)


async def compared(folder: Path, daemon: WatchedDaemon, peer: Nginx, runs: int) -> str:
    """Let both be cloned by turns."""

    async def once(tool: str) -> Measured:
        await daemon.cost()
        before = peer.used()
        url = f"{daemon.url}/git/app.git" if tool == OURS else f"{peer.url}/app.git"
        wall = await asyncio.to_thread(clone, url, folder / "clone")
        await asyncio.sleep(0.2)  # the last program ends after its client
        used = float((await daemon.cost())["cpu"]) if tool == OURS else peer.used() - before
        return {"server's CPU": used, "wall": wall}

    return table("", await by_turns([OURS, PEER], runs, once))


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100, help="MB (default 100)")
    parser.add_argument("--refs", type=int, default=200, help="branches and tags (default 200)")
    parser.add_argument("--runs", type=int, default=5, help="clones from each (default 5)")
    given = parser.parse_args()
    versions, missing = present(("git", "nginx", "fcgiwrap"))
    print(machine(versions), *missing, sep="\n")
    if missing:
        return
    with tempfile.TemporaryDirectory(prefix="clone-") as place:
        folder = Path(place)
        upstream = Upstream(folder / "hosts" / "app.git")
        subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", upstream.path], env=GIT, check=True)
        fill(upstream, given.refs, given.size * 1_000_000)
        (folder / "conf.d").mkdir()
        with child("bench.repositories", "--serve", folder / "hosts") as host, nginx(folder, folder / "hosts") as peer:
            (folder / "conf.d" / "all.yaml").write_text(
                "settings: {listen: '127.0.0.1:0', log: {format: json}}\n"
                f"mirrors: [{{name: app, kind: git, from: '{host.first}/app.git', to: [local]}}]\n"
            )
            async with open_daemon(folder / "conf.d", folder / "state") as daemon:
                await daemon.sync("app")
                await asyncio.to_thread(wait_for, f"{peer.url}/app.git")
                print(await compared(folder, daemon, peer, given.runs))


if __name__ == "__main__":
    asyncio.run(main())
