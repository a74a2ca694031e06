"""A Git host over ssh: a real sshd on 127.0.0.1 and a free port, for our own user, with keys of its own.

async with SshHost(folder) as host:
    host.create("app.git")
    ...
    HostPolicy(host.host, ssh_key=str(host.key), known_hosts=str(host.known_hosts))
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
from asyncio.subprocess import Process
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mirrord.errors import UnreachableError
from mirrord.testing.ports import free_port
from mirrord.testing.running import started

SSHD: Final = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin") or ""
"""Where sshd is; "" when there is none."""


class SshHost:
    """Repositories below a folder, over ssh; an async context manager.

    Attributes:
        folder: where the repositories and the keys are.
        host: `127.0.0.1:PORT`, once started.
        key: the private key that it lets in.
        programs: a folder where those who come in find commands, besides the usual ones.
        known_hosts: a file with its own key.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = ""
        self.key, self.known_hosts, self.programs = folder / "ours", folder / "known", folder / "programs"
        self._daemon: Process | None = None

    def url(self, name: str) -> str:
        """Return the URL of a repository."""
        return f"ssh://{pwd.getpwuid(os.geteuid()).pw_name}@{self.host}{self.path(name)}"

    def path(self, name: str) -> Path:
        """Return where a repository is."""
        return self.folder / name

    def create(self, name: str) -> Path:
        """Make an empty repository."""
        path = self.path(name)
        subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", str(path)], check=True)
        return path

    async def __aenter__(self) -> Self:
        """Make keys, and listen.

        Raises:
            UnreachableError: sshd ended at once.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        host_key = make_key(self.folder / "host")
        (self.folder / "authorized").write_text(make_key(self.key))
        port = free_port()
        self.host = f"127.0.0.1:{port}"
        self.known_hosts.write_text(f"[127.0.0.1]:{port} {host_key}")
        config = self.folder / "config"
        config.write_text("".join(f'{key} "{value}"\n' for key, value in self._options(port).items()))
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)  # noqa: PTH103 - where sshd, as root, insists on an empty folder
        async with AsyncExitStack() as stack:
            command = (SSHD, "-D", "-e", "-f", config)
            daemon = await stack.enter_async_context(started(*command, stderr=asyncio.subprocess.PIPE))
            assert daemon.stderr is not None
            said = b""
            async for line in daemon.stderr:
                said += line
                if b"Server listening" in line:
                    self._ear = asyncio.create_task(daemon.stderr.read())  # a full pipe would stop it
                    self._daemon, self._exit = daemon, stack.pop_all()
                    return self
        raise UnreachableError(f"sshd ended: {said.decode(errors='replace')}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        if self._daemon is not None:
            self._daemon.terminate()
            await self._ear
            await self._exit.aclose()

    def _options(self, port: int) -> dict[str, object]:
        return {
            "HostKey": self.folder / "host",
            "AuthorizedKeysFile": self.folder / "authorized",
            "ListenAddress": f"127.0.0.1:{port}",
            "PidFile": "none",
            "SetEnv": f"PATH={self.programs}:{os.defpath}:/usr/local/bin",
            "UsePAM": "no",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
        }


def make_key(path: Path) -> str:
    """Make a pair of keys at `path` and beside it; return the public one."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()
