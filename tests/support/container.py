"""The container image of this repository: built by buildah, and run by bubblewrap, which needs no cgroups.

What is built is kept in the cache folder of `.ci/run`. The base is Debian's Python, since no registry is asked.

    image = built_image(tmp_path)
    async with image.running(["serve"], binds={"/var/lib/mirrord": state}) as container:
        ...
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mirrord.testing.running import Ran, run, started
from tests.support.processes import children_of

ROOT: Final = Path(__file__).parents[2]
TOOLS: Final = ("buildah", "mmdebstrap", "bwrap")
BASE: Final = "localhost/mirrord-test-base"
_DAY: Final = 24 * 3600
_IMAGE: Final = "localhost/mirrord-test"
NAME: Final = "docker.io/library/mirrord"  # as engines read the `image: mirrord` of deploy/compose
# Builds run as root and mount things on /dev: give them one of their own.
APART: Final = ("bwrap", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/run", "--cap-add", "ALL")
_BASE_FILE: Final = """FROM scratch
ADD base.tar /
COPY authorities/ /usr/local/share/ca-certificates/
COPY pip.conf /etc/pip.conf
RUN update-ca-certificates
"""


def unbuildable() -> str | None:
    """Return None where the image can be built and run, else why not."""
    return "only root can build an image here with buildah" if os.geteuid() else None


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """A built image, unpacked."""

    root: Path
    config: Mapping[str, Any]

    def command(
        self,
        arguments: Sequence[str] | None = None,
        *,
        entrypoint: Sequence[str] | None = None,
        user: str = "",
        env: Mapping[str, str] | None = None,
        binds: Mapping[str, Path] | None = None,
        read_only: Mapping[str, Path] | None = None,
        tmpfs: Sequence[str] = (),
        network: bool = True,
    ) -> tuple[str, ...]:
        """Return the command that runs a container: root file system read-only, no capability, process number 1.

        Args:
            arguments: what follows the entrypoint; None takes those of the image.
            entrypoint: instead of the image's.
            user: `UID:GID`; "" takes the image's.
            env: besides what the image sets.
            binds: folders of this machine by their place in the container.
            read_only: the same, and files too, which the container may only read.
            tmpfs: empty folders in memory.
            network: whether it is on the network of this machine; else it has a loopback of its own.
        """
        words = [*(entrypoint or self.config["Entrypoint"]), *(self.config["Cmd"] if arguments is None else arguments)]
        shown = {**{place: Path(place) for place in ("/etc/resolv.conf", "/etc/hosts")}, **(read_only or {})}
        for place, source in {**shown, **(binds or {})}.items():
            self._make_place(place, source)
        return (
            *("bwrap", "--ro-bind", str(self.root), "/", "--dev", "/dev", "--proc", "/proc"),
            *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--as-pid-1", "--die-with-parent"),
            *(() if network else ("--unshare-net",)),
            *(word for place in tmpfs for word in ("--perms", "1777", "--tmpfs", place)),
            *(word for place, source in (binds or {}).items() for word in ("--bind", str(source), place)),
            *(word for place, source in shown.items() for word in ("--ro-bind", str(source), place)),
            *("--clearenv", "--chdir", "/", "--cap-drop", "ALL"),
            *(word for name in ("SETUID", "SETGID", "SETPCAP") for word in ("--cap-add", f"CAP_{name}")),
            *(word for pair in self.environment(env).items() for word in ("--setenv", *pair)),
            *_becoming(user or self.config["User"]),
            *("env", f"--chdir={self.config['WorkingDir']}", *words),
        )

    def environment(self, env: Mapping[str, str] | None) -> dict[str, str]:
        """Return the environment of a container: the image's, and `env` besides."""
        return dict(pair.split("=", 1) for pair in self.config["Env"]) | dict(env or {})

    def _make_place(self, place: str, source: Path) -> None:
        """Make what something is mounted on, as container engines do."""
        there = self.root / place.lstrip("/")
        if source.is_dir():
            there.mkdir(parents=True, exist_ok=True)
        elif not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            there.touch()

    async def run(self, *words: str, **options: Any) -> Ran:
        """Run a program of the image to its end; options as for `command`."""
        return await run(*self.command(words, entrypoint=("env",), **options))

    @asynccontextmanager
    async def running(self, arguments: Sequence[str] | None = None, **options: Any) -> AsyncIterator[Container]:
        """Run a container as long as the context lasts; options as for `command`."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        async with started(*self.command(arguments, **options), **pipes) as process:
            user = options.get("user") or self.config["User"]
            container = Container(process, user, self.environment(options.get("env")))
            try:
                yield container
            finally:
                container.close()


class Container:
    """A container that runs."""

    def __init__(self, process: Process, user: str, env: Mapping[str, str]) -> None:
        assert process.stdout is not None
        self._process, self._user, self._env = process, user, env
        self._output = bytearray()
        self._reading = asyncio.create_task(self._read(process.stdout))

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self._output.decode(errors="replace")

    async def logged(self, text: str) -> None:
        """Wait until it has written `text`; RuntimeError when it ends before."""
        async with asyncio.timeout(60):
            while text not in self.output:
                if self._reading.done():
                    raise RuntimeError(f"the container ended: {self.output}")
                await asyncio.sleep(0.05)

    @property
    def first(self) -> int:
        """Process 1 of the container, as this machine knows it."""
        return children_of(self._process.pid)[0]

    async def run(self, *words: str, seconds: float) -> Ran:
        """Run a program beside process 1, as `docker exec` does."""
        inside = ("nsenter", f"--target={self.first}", "--mount", "--net", "--pid", "--root")
        env = (f"{name}={value}" for name, value in self._env.items())
        return await run(
            *inside, *_becoming(self._user), "env", "--ignore-environment", "--chdir=/", *env, *words, seconds=seconds
        )

    async def get(self, path: str, port: int, *, seconds: float) -> int:
        """Ask for a page on its own loopback, and return the status."""
        words = ("curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}")
        url = f"http://127.0.0.1:{port}{path}"
        ran = await run("nsenter", f"--target={self.first}", "--net", *words, url, seconds=seconds)
        return int(ran.output)

    async def stop(self) -> int:
        """Send SIGTERM to process 1, as `docker stop` does, and return the exit code."""
        os.kill(self.first, signal.SIGTERM)
        async with asyncio.timeout(60):
            await self._reading
            return await self._process.wait()

    def close(self) -> None:
        """Stop reading."""
        self._reading.cancel()

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while piece := await stream.read(1 << 16):
            self._output += piece


def _becoming(user: str) -> tuple[str, ...]:
    uid, gid = user.split(":")
    right = ("--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")
    return ("setpriv", f"--reuid={uid}", f"--regid={gid}", *right)


def built_image(folder: Path) -> ContainerImage:
    """Build the image, and unpack it in the cache; `folder` is for what is made on the way.

    Raises:
        RuntimeError: a step failed; has its output.
    """
    cache = cached()
    with _alone(cache):
        if _buildah(cache, "inspect", "--type", "image", BASE, check=False).returncode:
            _build_base(cache, folder)
        options = ("--isolation", "chroot", "--layers", "--format", "docker", "--build-arg", f"PYTHON={BASE}")
        # Both stages have a name, so that what is removed below is what no later build needs.
        _buildah(cache, "build", *options, "--target", "build", "--tag", f"{_IMAGE}-stage", str(ROOT))
        _buildah(cache, "build", *options, "--tag", _IMAGE, str(ROOT))
        _buildah(cache, "tag", _IMAGE, NAME)
        document = json.loads(_buildah(cache, "inspect", "--type", "image", _IMAGE).stdout)
        root = cache / "roots" / document["FromImageID"]
        if not root.exists():
            fresh = root.with_suffix(".tmp")
            _buildah(cache, "build", *options, "--output", f"type=local,dest={fresh}", str(ROOT))
            fresh.chmod(0o755)
            fresh.rename(root)
        os.utime(root)
        _drop_old(cache)
    return ContainerImage(root, document["Docker"]["config"])


def built(context: Path, *options: str, tag: str) -> None:
    """Build another image beside it, on the base it has; options as `buildah build` takes them."""
    cache = cached()
    with _alone(cache):
        _buildah(cache, "build", "--isolation", "chroot", "--layers", *options, "--tag", tag, str(context))


def cached() -> Path:
    """Return the folder that keeps what is built from one run to the next; its images are in `graph`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mirrord-ci" / "images"
    cache.mkdir(parents=True, exist_ok=True)
    places = f'graphroot = "{cache}/graph"\nrunroot = "{cache}/run"\n'
    fresh = cache / f"storage.conf.{os.getpid()}"
    fresh.write_text(f'[storage]\ndriver = "overlay"\n{places}')
    fresh.replace(cache / "storage.conf")  # another process of tests may read it at this moment
    return cache


def _drop_old(cache: Path) -> None:
    """Remove what no build needs any more, and images unpacked longer than a day ago."""
    _buildah(cache, "rm", "--all")  # a build that failed leaves them
    _buildah(cache, "rmi", "--prune")
    for old in (cache / "roots").iterdir():
        if time.time() - old.stat().st_mtime > _DAY:
            shutil.rmtree(old)


def _build_base(cache: Path, folder: Path) -> None:
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    context = folder / "base"
    (context / "authorities").mkdir(parents=True)
    packages = "python3,python3-venv,python-is-python3,ca-certificates"
    made = ("mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", release["VERSION_CODENAME"])
    _checked(*APART, *made, str(context / "base.tar"))
    # What a company's network needs here, a build in it needs too.
    for authority in Path("/usr/local/share/ca-certificates").glob("*.crt"):
        shutil.copy(authority, context / "authorities")
    settings = Path("/etc/pip.conf")
    (context / "pip.conf").write_text(settings.read_text() if settings.exists() else "")
    (context / "Dockerfile").write_text(_BASE_FILE)
    _buildah(cache, "build", "--isolation", "chroot", "--tag", BASE, str(context))
    shutil.rmtree(context)


def _buildah(cache: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return _checked(
        *APART, "--setenv", "CONTAINERS_STORAGE_CONF", f"{cache}/storage.conf", "buildah", *words, check=check
    )


def _checked(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-500:]}{done.stderr[-1500:]}")
    return done


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Let one process build at a time."""
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
