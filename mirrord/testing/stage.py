"""What `mirrord demo` stands on: registries, a chart repository, Git hosts, a configuration, and the real daemon.

Everything listens on free ports of 127.0.0.1, lives in one temporary folder, and is gone when the context ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mirrord.errors import MirrordError, UnreachableError
from mirrord.syncer.values import LOCAL
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.images import Image, build_image
from mirrord.testing.pushing import push
from mirrord.testing.registry import Registry
from mirrord.testing.servers import DockerRegistry, available

PLATFORMS = ("linux/amd64", "linux/arm64")
LAYERS, LAYER_SIZE = 3, 8 << 20  # of each platform, the lowest one shared: 40 MiB in all
TARGETS = ("east", "west", "north")
REPOSITORY, TAG, MIRROR, CHARTS, CODE = "team/app", "main", "app", "charts", "code"
RELEASE, VERSION = "release", "v2"
UNMIRRORED = "team/tool"
FORGES = ("gitea", "forge")
README = b"# app\n\nMirrored by mirrord.\n"
VERSIONS = (("app", "1.0.0"), ("app", "1.1.0"), ("app-dashboard", "0.3.0"))
PATIENCE = 20.0  # seconds that the daemon may take to start, or to end

CONFIGURATION = """\
settings: {{listen: "127.0.0.1:0"}}
hosts:
  {source}: {{bandwidth: 24MiB/s}}  # slow on purpose, so that there is something to see
names:
  aliases: {{source.example: "{source}"}}  # since a path cannot name a port
front:
  image:
    upstreams: ["{source}"]
    allow: [source.example/team/*]
targets:
{targets}
{forges}
mirrors:
  - name: {mirror}
    kind: image
    from: {{repository: "{image}"}}
    to: [{names}, local]
    every: 1m
  - name: {charts}
    kind: helm
    from: {repository}
    to: local
  - name: {release}  # on demand; nobody has released it yet
    kind: image
    from: {{repository: "{source}/{path}", tags: [{version}]}}
    to: [{names}, local]
"""

GIT = """\
  - name: {code}
    kind: git
    from: {upstream}
    to: [gitea, forge, local]
"""

# What would reach into the machine's own mirrord, or ask for its credentials.
FOREIGN = ("MIRRORD_LISTEN", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC")
ACCOUNTS = ("DOCKER_AUTH_CONFIG",)


@dataclass(frozen=True, slots=True)
class Stage:
    """What is there.

    Attributes:
        folder: holds `conf.d`, `state` and `daemon.log`.
        image: what was pushed to `team/app:main` at `source`.
        unmirrored: what was pushed to `team/tool:main` there, which no mirror copies.
        source: where it is read from.
        targets: where it goes, by name in the configuration.
        charts: a chart repository with a few versions.
        code: a Git host with a repository of two branches and a tag; None where git is not installed.
        forges: Git hosts that it goes to.
        address: `host:port` of the daemon.
        daemon: done when the daemon ended.
        stand_in: why the registries are doubles in this process, or "" when they are real servers.
    """

    folder: Path
    image: Image
    unmirrored: Image
    source: Registry | DockerRegistry
    targets: Mapping[str, Registry | DockerRegistry]
    charts: ChartRepository
    code: GitHost | None
    forges: Mapping[str, GitHost]
    address: str
    daemon: asyncio.Future[int]
    stand_in: str

    @property
    def state(self) -> Path:
        """The daemon's state directory."""
        return self.folder / "state"

    @property
    def mirror(self) -> str:
        """Name of the mirror."""
        return MIRROR

    @property
    def origin(self) -> str:
        """What the mirror reads, as a reference."""
        return f"{self.source.host}/{REPOSITORY}:{TAG}"

    @property
    def places(self) -> Mapping[str, str]:
        """Where it goes: a repository for each target, the embedded store among them."""
        elsewhere = {name: f"{registry.host}/mirror/{MIRROR}" for name, registry in self.targets.items()}
        return {**elsewhere, LOCAL: f"{self.address}/{MIRROR}"}

    @property
    def pulled(self) -> str:
        """What a client pulls of which no mirror has a copy, as a reference."""
        return f"{self.address}/source.example/{UNMIRRORED}:{TAG}"

    def reads(self, *, unmirrored: bool = False) -> int:
        """Return how often the source was asked for a blob of `image`, or of `unmirrored`."""
        blobs = f"/v2/{UNMIRRORED if unmirrored else REPOSITORY}/blobs/sha256:"
        if isinstance(self.source, Registry):
            return self.source.count("GET", blobs)
        return sum(hit.method == "GET" and blobs in hit.path for hit in self.source.hits())


@contextlib.asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    """Start everything; end and remove everything when the context ends.

    Raises:
        UnreachableError: a registry or the daemon does not start; the text says what it said.
    """
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mirrord-demo-")))
        stand_in = available("docker-registry") or ""
        registries = [await _registry(stack, double=bool(stand_in)) for _ in (None, *TARGETS)]
        source, targets = registries[0], dict(zip(TARGETS, registries[1:], strict=True))
        image = await asyncio.to_thread(
            build_image, PLATFORMS, layers=LAYERS, layer_size=LAYER_SIZE, seed="demo", shared_layers=1
        )
        await push(image, source.url, REPOSITORY, [TAG])
        other = await asyncio.to_thread(build_image, PLATFORMS, layers=2, layer_size=LAYER_SIZE // 2, seed="other")
        await push(other, source.url, UNMIRRORED, [TAG])
        charts = await stack.enter_async_context(ChartRepository())
        for name, version in VERSIONS:
            charts.add(build_chart(name, version))
        names = () if available("git") else (CODE, *FORGES)
        hosts = {name: await stack.enter_async_context(GitHost(folder / "git" / name)) for name in names}
        code, forges = hosts.get(CODE), {name: hosts[name] for name in FORGES if name in hosts}
        if code is not None:
            await asyncio.to_thread(_commit, code, forges)
        text = _configuration(source.host, targets, charts.url, code, forges)
        await asyncio.to_thread(_configure, folder, text)
        address, daemon = await stack.enter_async_context(_daemon(folder))
        yield Stage(folder, image, other, source, targets, charts, code, forges, address, daemon, stand_in)


async def _registry(stack: contextlib.AsyncExitStack, *, double: bool) -> Registry | DockerRegistry:
    if double:
        return await stack.enter_async_context(Registry())
    return await stack.enter_async_context(DockerRegistry(access_log=True))


def _commit(code: GitHost, forges: Mapping[str, GitHost]) -> None:
    upstream = Upstream(code.create(f"team/{CODE}.git"))
    upstream.commit("main", {"README.md": README, "docs/install.md": b"pip install .\n"})
    upstream.tag("v1.0.0", "main", annotated=True)
    upstream.commit("feature/faster", {"README.md": b"# app\n\nFaster.\n"}, parent=upstream.refs()["refs/heads/main"])
    for forge in forges.values():
        forge.create(f"mirror/{CODE}.git")


def _configuration(
    source: str,
    targets: Mapping[str, Registry | DockerRegistry],
    charts: str,
    code: GitHost | None,
    forges: Mapping[str, GitHost],
) -> str:
    lines = [f"  {name}: {{kind: image, to: {registry.host}/mirror}}" for name, registry in targets.items()]
    hosts = [f'  {name}: {{kind: git, to: "{forge.base}/mirror/{{name}}.git"}}' for name, forge in forges.items()]
    text = CONFIGURATION.format(
        source=source,
        targets="\n".join(lines),
        forges="\n".join(hosts),
        names=", ".join(targets),
        mirror=MIRROR,
        image=f"{source}/{REPOSITORY}:{TAG}",
        charts=CHARTS,
        repository=charts,
        release=RELEASE,
        path=REPOSITORY,
        version=VERSION,
    )
    return text if code is None else text + GIT.format(code=CODE, upstream=code.url(f"team/{CODE}.git"))


def _configure(folder: Path, text: str) -> None:
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "demo.yaml").write_text(text)


@contextlib.asynccontextmanager
async def _daemon(folder: Path) -> AsyncIterator[tuple[str, asyncio.Future[int]]]:
    """Run `mirrord serve` in a session of its own: a Ctrl-C at the terminal is ours to pass on, in order."""
    environ = {name: value for name, value in os.environ.items() if name not in FOREIGN + ACCOUNTS}
    log = folder / "daemon.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "mirrord", "serve"),  # without -P a folder `mirrord` here hides the package
            *("-c", str(folder / "conf.d"), "--state", str(folder / "state")),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environ | {"DOCKER_CONFIG": str(folder / "docker")},
            start_new_session=True,
        )
    ended = asyncio.ensure_future(process.wait())
    try:
        yield await _address(log, ended), ended
    finally:
        await _end(process, ended)


async def _address(log: Path, ended: asyncio.Future[int]) -> str:
    """Wait until the daemon says where it listens."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while not ended.done():
                if address := _said(log):
                    return address
                await asyncio.wait([ended], timeout=0.05)
    raise UnreachableError(f"the daemon does not start: {_last_words(log)}")


def _said(log: Path) -> str:
    """Return the address from the log, or "" while it is not there."""
    for line in log.read_text().splitlines():
        with contextlib.suppress(ValueError):
            document = json.loads(line)
            if document.get("event") == "daemon.ready":
                return str(document["address"])
    return ""


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:].strip()


async def _end(process: asyncio.subprocess.Process, ended: asyncio.Future[int]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    await asyncio.wait([ended], timeout=PATIENCE)
    if not ended.done():
        process.kill()
    await ended


async def daemon_ended(stage: Stage) -> None:
    """Wait until the daemon ends by itself, which it should not.

    Raises:
        MirrordError: it did; holds the end of its log.
    """
    status = await asyncio.shield(stage.daemon)
    raise MirrordError(f"the daemon ended with status {status}: {_last_words(stage.folder / 'daemon.log')}")
