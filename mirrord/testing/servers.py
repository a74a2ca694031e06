"""Real servers as child processes on free loopback ports, for tests and demonstrations."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from mirrord.errors import BusyError, UnreachableError
from mirrord.testing.ports import free_port

REQUIRE_ALL = "MIRRORD_REQUIRE_TOOLS"
WITHOUT = "MIRRORD_WITHOUT_TOOLS"


def available(tool: str) -> str | None:
    """Return None when `tool` can be run here, else why not."""
    return None if shutil.which(tool) else f"{tool} is not installed"


def require(*tools: str) -> None:
    """Skip the running test where one of `tools` is missing; with MIRRORD_REQUIRE_TOOLS=1 fail it instead.

    What MIRRORD_WITHOUT_TOOLS names, separated by commas, cannot be used on this machine: that is a skip in any case.
    """
    import pytest  # noqa: PLC0415 - servers also run outside tests, where pytest may be missing

    for tool in tools:
        if tool in excused():
            pytest.skip(f"{tool} is named in {WITHOUT}")
        reason = available(tool)
        if reason is None:
            continue
        if os.environ.get(REQUIRE_ALL) == "1":
            pytest.fail(f"{reason}, and {REQUIRE_ALL}=1 says it must be")
        pytest.skip(reason)


def excused() -> list[str]:
    """Return what MIRRORD_WITHOUT_TOOLS names."""
    return [name for name in os.environ.get(WITHOUT, "").split(",") if name]


@dataclass(frozen=True, slots=True)
class Hit:
    """One line of a real server's access log; `sent` are bytes of the answer's body."""

    method: str
    path: str
    status: int
    sent: int = 0


class DockerRegistry:
    """Debian's `docker-registry`, or another release of it, in a temporary folder; an async context manager.

    Attributes:
        host: `ADDRESS:PORT`, once started.
        folder: where it keeps its content.
        pid: of the child, once started.
    """

    def __init__(
        self,
        *,
        user: tuple[str, str] | None = None,
        access_log: bool = False,
        folder: Path | None = None,
        foreign: bool = True,
        address: str = "127.0.0.1",
        tls: tuple[Path, Path] | None = None,
        upstream: str = "",
        program: str = "docker-registry",
        deletes: bool = True,
        storage: Mapping[str, object] | None = None,
    ) -> None:
        """Prepare; `user` (name and password) switches Basic authentication on, `foreign` allows URLs of layers.

        It listens on `address`, an address of this machine, and speaks TLS with `tls` (certificates and key, PEM).
        With the URL of an `upstream` it is a cache of that registry. `program` is what is run. Without `deletes` it
        refuses every DELETE, as it does by default. `storage` are other keys of `storage` than those of its folder.
        """
        self.host = ""
        self._upstream, self._program, self._deletes, self._storage = upstream, program, deletes, storage
        self._address, self._tls = address, tls
        self._kept = folder
        self._user = user
        self._access_log = access_log
        self._foreign = foreign
        self._exit = contextlib.ExitStack()
        self._process: asyncio.subprocess.Process | None = None
        self.folder = Path()

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    @property
    def pid(self) -> int:
        """Process id of the child."""
        assert self._process is not None
        return self._process.pid

    def hits(self) -> list[Hit]:
        """Return what the access log says when it works on nothing; empty unless it was asked for.

        It writes a line after its answer, which a client may have before.
        """
        until = time.monotonic() + 10
        while self._process and _works(self._process.pid) and time.monotonic() < until:
            time.sleep(0.001)
        found = []
        for line in (self.folder / "log").read_text(errors="replace").splitlines():
            head, quote, rest = line.partition('] "')
            words = rest.split()
            if quote and head and len(words) > 3 and words[2].startswith("HTTP/"):
                sent = words[4] if len(words) > 4 else ""
                found.append(Hit(words[0], words[1], int(words[3]), int(sent) if sent.isdecimal() else 0))
        return found

    async def start(self) -> None:
        """Start and wait until it answers; after `stop` on the same port with the same content.

        Raises:
            UnreachableError: it is not installed, or ended at once.
        """
        missing = available(self._program)
        if missing:
            raise UnreachableError(f"{missing}; install the Debian package docker-registry")
        if not self.host:
            self.folder = self._kept or Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="registry-")))
        for _ in range(5):  # another program may take the port between our look and the child's bind
            self.host = self.host or f"{self._address}:{free_port()}"
            await self._spawn()
            try:
                await self._ready()
            except BusyError:
                self.host = ""
                continue
            return
        raise UnreachableError(f"docker-registry does not start: {self._log_end()}")

    async def stop(self) -> None:
        """End the child by its id and collect it; content stays until the context ends."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def __aenter__(self) -> Self:
        """Start."""
        try:
            await self.start()
        except BaseException:
            self._exit.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop and remove the folder."""
        await self.stop()
        self._exit.close()

    async def _spawn(self) -> None:
        self.folder.joinpath("content").mkdir(parents=True, exist_ok=True)
        config = self.folder / "config.json"
        config.write_text(json.dumps(self._config()))  # JSON is YAML
        with (self.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                self._program,
                "serve",
                str(config),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ.get("PATH", ""), "OTEL_TRACES_EXPORTER": "none"},
            )

    def _config(self) -> dict[str, object]:
        config: dict[str, object] = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": not self._access_log}},
            "storage": {
                **(self._storage or {"filesystem": {"rootdirectory": str(self.folder / "content")}}),
                "delete": {"enabled": self._deletes},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": {"addr": self.host},
        }
        if self._tls:
            certificates, key = map(str, self._tls)
            config["http"] = {"addr": self.host, "tls": {"certificate": certificates, "key": key}}
        if self._foreign:  # such layers are stored as they are
            config["validation"] = {"manifests": {"urls": {"allow": ["^https?://"]}}}
        if self._upstream:
            config["proxy"] = {"remoteurl": self._upstream}
        if self._user is not None:
            passwords = self.folder / "htpasswd"
            passwords.write_bytes(_htpasswd(*self._user))
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(passwords)}}
        return config

    async def _ready(self) -> None:
        """Ask until it answers.

        Raises:
            BusyError: it ended before.
        """
        assert self._process is not None
        ended = asyncio.ensure_future(self._process.wait())
        try:
            async with asyncio.timeout(60), aiohttp.ClientSession() as session:
                while not ended.done():
                    with contextlib.suppress(aiohttp.ClientError):
                        async with session.get(f"{self.url}/v2/", ssl=False) as answer:
                            if answer.status in (200, 401):
                                return
                    await asyncio.wait([ended], timeout=0.02)
        except TimeoutError as error:
            await self.stop()
            raise UnreachableError(f"docker-registry does not answer: {self._log_end()}") from error
        finally:
            ended.cancel()
        raise BusyError(f"docker-registry ended: {self._log_end()}")

    def _log_end(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-500:]


def _works(pid: int) -> bool:
    """Whether a thread of a process runs, could run, or waits for a disk (field 3 of /proc/PID/task/TID/stat)."""
    for file in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # one that has ended
            if file.read_text().rpartition(")")[2].split()[0] in "RD":
                return True
    return False


def _htpasswd(name: str, password: str) -> bytes:
    """Return a line with a bcrypt hash; the password goes by standard input, not by argument."""
    command = ["htpasswd", "-nBi", "-C", "4", name]
    return subprocess.run(command, input=password.encode(), check=True, capture_output=True).stdout
