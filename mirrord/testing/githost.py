"""A Git host in this process: `git http-backend` on 127.0.0.1 and a free port, every request remembered.

    async with GitHost(folder, user=("robot", "secret")) as host:
        host.create("team/app.git")
        ...
        assert host.count("POST", "git-receive-pack") == 1

Real git answers; only HTTP around it, and what goes wrong on order, are made here.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import subprocess
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from aiohttp import web

from mirrord.testing.exchange import Exchange, Wire
from mirrord.testing.faults import Fault
from mirrord.testing.intake import Intake, Outlet, Pacer
from mirrord.testing.reply import Reply
from mirrord.testing.running import started
from mirrord.testing.server import Server


class GitHost(Server):
    """Repositories below a folder, over HTTP.

    Attributes:
        folder: where the bare repositories are.
        rules: what every repository is configured with.
        denial: what is said to wrong credentials.
        rate: bytes a second that are taken of pushes, or None.
    """

    rules: Mapping[str, str] = {}
    denial = b"denied\n"

    def __init__(
        self,
        folder: Path,
        *,
        user: tuple[str, str] | None = None,
        rate: float | None = None,
        wire: Wire | None = None,
        socket_buffer: int | None = None,
    ) -> None:
        super().__init__(wire=wire, buffer=socket_buffer)
        self.folder, self.rate = folder, rate
        self._user = user
        self._busy: set[asyncio.Task[object]] = set()

    def url(self, name: str) -> str:
        """Return the URL of a repository."""
        return f"{self.base}/{name}"

    def path(self, name: str) -> Path:
        """Return where a repository is."""
        return self.folder / name

    def create(self, name: str, head: str = "main", **config: str) -> Path:
        """Make an empty repository; `config` with `__` for the dot, such as `receive__denyDeletes="true"`."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        _git("init", "-q", "--bare", f"--initial-branch={head}", str(path))
        settings = {"http.receivepack": "true", "uploadpack.allowFilter": "true", **self.rules}
        settings |= {key.replace("__", "."): value for key, value in config.items()}
        for key, value in settings.items():
            _git("-C", str(path), "config", key, value)
        return path

    def hook(self, name: str, event: str, script: str) -> None:
        """Let a repository run a script."""
        hook = self.path(name) / "hooks" / event
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(script)
        hook.chmod(0o755)

    def refs(self, name: str) -> dict[str, str]:
        """Return all refs of a repository, read by git itself."""
        out = _git("-C", str(self.path(name)), "for-each-ref", "--format=%(refname) %(objectname)")
        return dict(line.split(" ") for line in out.split("\n") if line)  # a name may hold U+2028

    def head(self, name: str) -> str:
        """Return the branch that HEAD of a repository points to."""
        return _git("-C", str(self.path(name)), "symbolic-ref", "HEAD").strip()

    async def stop(self) -> None:
        """Stop, with every process: who still answers was cancelled, and is waited for."""
        await super().stop()
        if self._busy:
            await asyncio.wait(self._busy)

    async def _respond(
        self, request: web.BaseRequest, exchange: Exchange, outlet: Outlet, fault: Fault
    ) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)
        if fault.instead is not None:
            return await outlet.send(Reply(*fault.instead))
        refusal = self._refusal(exchange, unquote(exchange.path))
        if refusal is not None:
            return await outlet.send(refusal)
        intake = Intake(request, exchange, self.wire, fault)
        response = await self._backend(request, exchange, intake, outlet if fault.distorts else None)
        exchange.status = response.status
        return response

    def _refusal(self, exchange: Exchange, path: str) -> Reply | None:
        if self._user is not None:
            wanted = base64.b64encode(":".join(self._user).encode()).decode()
            given = exchange.headers.get("authorization", "")
            if not given:
                return Reply(401, {"WWW-Authenticate": 'Basic realm="git"'})
            if given != f"Basic {wanted}":
                return Reply(403, {}, self.denial)
        return None if self._repository(path) else Reply(404)

    def _repository(self, path: str) -> tuple[str, str] | None:
        """Find the repository that a path is of, and the rest; hosts take its name without `.git` too."""
        for end in ("/info/refs", "/git-upload-pack", "/git-receive-pack", "/HEAD"):
            name = path.strip("/").removesuffix(end)
            for repository in (name, f"{name}.git"):
                if path.endswith(end) and (self.folder / repository / "HEAD").exists():
                    return repository, end
        return None

    async def _backend(
        self, request: web.BaseRequest, exchange: Exchange, intake: Intake, outlet: Outlet | None
    ) -> web.StreamResponse:
        options = {"stdin": PIPE, "stdout": PIPE, "stderr": subprocess.DEVNULL, "limit": 1 << 18}
        async with started("git", "http-backend", **options, env=self._environ(exchange)) as process:
            feeding = asyncio.ensure_future(self._feed(process, intake))
            try:
                return await _answer(request, exchange, process, outlet)
            finally:
                feeding.cancel()
                await asyncio.wait((feeding,))

    def _environ(self, exchange: Exchange) -> dict[str, str]:
        told = {
            "CONTENT_TYPE": exchange.headers.get("content-type"),
            "HTTP_CONTENT_ENCODING": exchange.headers.get("content-encoding"),
            "GIT_PROTOCOL": exchange.headers.get("git-protocol"),
            "REMOTE_USER": self._user[0] if self._user else "anybody",
        }
        repository, rest = self._repository(unquote(exchange.path)) or ("", "")
        return {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": exchange.method,
            "PATH_INFO": f"/{repository}{rest}",
            "QUERY_STRING": exchange.query,
            **{name: value for name, value in told.items() if value},
        }

    async def _feed(self, process: Process, intake: Intake) -> None:
        pacer = Pacer(self.rate)
        stdin = process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError, asyncio.CancelledError):
            async for piece in intake.chunks():
                stdin.write(piece)
                await stdin.drain()
                await pacer.moved(len(piece))
        stdin.close()


async def _answer(
    request: web.BaseRequest, exchange: Exchange, process: Process, outlet: Outlet | None
) -> web.StreamResponse:
    """Pass on what the program writes: a head, and a body; through `outlet` when that is to be distorted."""
    out = process.stdout
    assert out is not None
    response = web.StreamResponse()
    while line := (await out.readline()).strip():
        name, _, value = line.decode().partition(":")
        if name.lower() == "status":
            response.set_status(int(value.split()[0]))
        else:
            response.headers[name] = value.strip()
    if outlet is not None:
        return await outlet.send(Reply(response.status, dict(response.headers), await out.read()))
    await response.prepare(request)
    while piece := await out.read(1 << 18):
        exchange.sent += len(piece)
        await response.write(piece)
    await response.write_eof()
    return response


def _git(*arguments: str) -> str:
    environ = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True, env=environ).stdout
