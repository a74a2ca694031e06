"""A real Gitea as a child process, for tests: it judges what our reading of its API is worth.

async with Gitea(tmp_path / "gitea") as host:
    world_book = HostBook({host.host: host.policy})
    address = host.url("app")
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from mirrord.errors import UnreachableError
from mirrord.testing.ports import free_port
from mirrord.testing.running import run
from mirrord.wire.host import HostPolicy
from mirrord.wire.secret import Credential, Secret

OWNER: Final = "robot"
_SETTINGS: Final = """\
RUN_USER = {user}
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
WORK_PATH = {folder}
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = http://127.0.0.1:{port}/
DISABLE_SSH = true
LFS_START_SERVER = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = {folder}/gitea.db
[security]
INSTALL_LOCK = true
SECRET_KEY = {key}
INTERNAL_TOKEN = {key}
[service]
DISABLE_REGISTRATION = true
[oauth2]
ENABLED = false
[actions]
ENABLED = false
[packages]
ENABLED = {packages}
[webhook]
ALLOWED_HOST_LIST = loopback
[cron]
ENABLED = false
[log]
MODE = console
LEVEL = Warn
"""


class Gitea:
    """One user, `robot`, with a token; an async context manager.

    Attributes:
        host: `127.0.0.1:PORT`, once started.
        token: for everything.
    """

    def __init__(self, folder: Path, *, packages: bool = False) -> None:
        """Work below `folder`, as a registry of packages too if wanted."""
        self.host = self.token = ""
        self._folder = folder
        self._packages = packages
        self._process: asyncio.subprocess.Process | None = None

    @property
    def policy(self) -> HostPolicy:
        """What an operator would write about it."""
        return HostPolicy(self.host, credential=Credential(OWNER, Secret(self.token)))

    def url(self, name: str) -> str:
        """Return where a repository is, there or not."""
        return f"http://{self.host}/{OWNER}/{name}.git"

    async def api(self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str = "") -> Any:
        """Ask the API below `/api/v1`, as somebody in a browser would; return the document, None when there is none."""
        headers = {"Authorization": f"token {token or self.token}"}
        url = f"http://{self.host}/api/v1{path}"
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, url, json=body) as answer,
        ):
            text = await answer.text()
            if answer.status >= 300:
                raise UnreachableError(f"{method} {path}: {answer.status} {text[:500]}")
            return await answer.json() if text else None

    async def make_token(self, *scopes: str) -> str:
        """Return one more token of the user, for these scopes alone."""
        words = ("--username", OWNER, "--token-name", "-".join(scopes).replace(":", "-"), "--scopes", ",".join(scopes))
        return (await self._command("admin", "user", "generate-access-token", *words, "--raw")).split()[-1]

    async def make_user(self, name: str) -> str:
        """Make one more user, and return a token for everything."""
        mail = ("--email", f"{name}@example.com", "--random-password", "--must-change-password=false")
        made = await self._command("admin", "user", "create", "--username", name, *mail, "--access-token")
        found = re.search(r"\b[0-9a-f]{40}\b", made)
        assert found, made
        return found[0]

    async def settle(self) -> None:
        """Wait until its API and pages show what was pushed: it takes that in after the push has ended."""
        await self._command("manager", "flush-queues")

    async def __aenter__(self) -> Self:
        """Make a user, start, and wait until it answers."""
        port = free_port()
        self._folder.mkdir(parents=True)
        self.host = f"127.0.0.1:{port}"
        settings = {"user": getpass.getuser(), "folder": self._folder, "port": port, "key": secrets.token_hex(32)}
        settings["packages"] = str(self._packages).lower()
        self._config.write_text(_SETTINGS.format_map(settings))
        await self._command("migrate")
        user = ("--username", OWNER)
        mail = ("--email", "robot@example.com", "--random-password", "--must-change-password=false")
        await self._command("admin", "user", "create", *user, *mail)
        made = await self._command("admin", "user", "generate-access-token", *user, "--scopes", "all", "--raw")
        self.token = made.split()[-1]
        with (self._folder / "log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                "gitea", "web", "--config", str(self._config), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self._environ, start_new_session=True,
            )  # fmt: skip
        try:
            await self._ready()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        await self._stop()

    @property
    def _config(self) -> Path:
        return self._folder / "app.ini"

    @property
    def _environ(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "HOME": str(self._folder)}

    async def _command(self, *words: str) -> str:
        ran = await run("gitea", *words, "--config", self._config, env={"HOME": str(self._folder)})
        if ran.status:
            raise UnreachableError(f"gitea {words[0]} failed: {ran.output[-800:]}")
        return ran.output

    async def _ready(self) -> None:
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(180):
                while self._process.returncode is None:
                    with contextlib.suppress(aiohttp.ClientError, UnreachableError):
                        await self.api("GET", "/version")
                        return
                    await asyncio.sleep(0.05)
        raise UnreachableError(f"gitea does not answer: {(self._folder / 'log').read_text(errors='replace')[-800:]}")

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
