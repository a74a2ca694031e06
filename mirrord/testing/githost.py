"""A Git host in this process: `git http-backend` on 127.0.0.1 and a free port, every request remembered.

    async with GitHost(folder, kind="gitee", user=("robot", "secret")) as host:
        host.create("team/app.git")
        ...
        assert host.count("POST", "git-receive-pack") == 1

Real git answers; only HTTP around it, the rules of well-known hosts, and what goes wrong on order, are made here.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import subprocess
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import unquote

from aiohttp import web

from mirrord.testing.exchange import Exchange, Moment, Wire
from mirrord.testing.faults import Faults
from mirrord.testing.intake import NO_FAULT, Intake, Outlet, Pacer
from mirrord.testing.listening import listen
from mirrord.testing.reply import Reply
from mirrord.testing.running import started

Kind = Literal["plain", "github", "gitee", "coding"]

GITEE_LIMIT: Final = """#!/bin/sh
size=$(du -sk objects | cut -f1)
test "$size" -le "$(git config gitee.limit || echo 1048576)" && exit 0
echo "Powered by GITEE.COM [GNK-5.0]" >&2
echo "This repository(including wiki) size $size KB, exceeds the limit." >&2
echo "Push rejected for repository size exceeds limit." >&2
exit 1
"""
PROTECTED: Final = """#!/bin/sh
test "$1" = "refs/heads/$(git config gitee.protected)" || exit 0
test "$2" = 0000000000000000000000000000000000000000 && exit 0
git merge-base --is-ancestor "$2" "$3" 2>/dev/null && exit 0
echo "error: GE007: the protected branch $1 cannot be forced" >&2
exit 1
"""
_CONFIG: Final = {
    "plain": {},
    "github": {"receive.hideRefs": "refs/pull", "receive.denyDeleteCurrent": "refuse"},
    "gitee": {},
    "coding": {"receive.denyNonFastForwards": "true"},
}


class GitHost:
    """Repositories below a folder, over HTTP; an async context manager.

    Attributes:
        folder: where the bare repositories are.
        kind: whose rules are imitated.
        faults: what goes wrong, on order.
        wire: where all requests are logged.
        rate: bytes a second that are taken of pushes, or None.
        host: `127.0.0.1:PORT`, once started.
    """

    def __init__(
        self,
        folder: Path,
        *,
        user: tuple[str, str] | None = None,
        kind: Kind = "plain",
        rate: float | None = None,
        wire: Wire | None = None,
    ) -> None:
        self.folder, self.kind, self.rate = folder, kind, rate
        self.faults, self.wire = Faults(), wire or Wire()
        self.host = ""
        self._user = user
        self._runner: web.ServerRunner | None = None
        self._busy: set[asyncio.Task[object]] = set()

    @property
    def base(self) -> str:
        """URL of the host."""
        return f"http://{self.host}"

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
        settings = {"http.receivepack": "true", "uploadpack.allowFilter": "true", **_CONFIG[self.kind]}
        settings |= {key.replace("__", "."): value for key, value in config.items()}
        for key, value in settings.items():
            _git("-C", str(path), "config", key, value)
        if self.kind == "gitee":
            self.hook(name, "pre-receive", GITEE_LIMIT)
            self.hook(name, "update", PROTECTED)
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

    @property
    def log(self) -> list[Exchange]:
        """All requests that came here, in order."""
        return [one for one in self.wire.exchanges if one.server == self.host]

    def count(self, method: str, pattern: str = "") -> int:
        """Count the requests that match: `method` as `GET` or `*`, `pattern` searched in path?query."""
        return sum(one.matches(method, pattern) for one in self.log)

    def forget(self) -> None:
        """Empty the log, to count anew."""
        self.wire.exchanges.clear()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._runner, port = await listen(self._handle, int(self.host.rpartition(":")[2] or 0))
        self.host = f"127.0.0.1:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, with every process: who still answers was cancelled, and is waited for."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._busy:
            await asyncio.wait(self._busy)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)
        path, _, query = request.path_qs.partition("?")
        headers = {name.lower(): value for name, value in request.headers.items()}
        exchange = self.wire.begin(self.host, request.method, path, query, headers)
        fault = self.faults.take(request.method, exchange.target) or NO_FAULT
        outlet = Outlet(request, exchange, self.wire, fault)
        try:
            if fault.held:
                await fault.wait()
            if fault.dropped:
                return await outlet.drop()
            if fault.instead is not None:
                return await outlet.send(Reply(*fault.instead))
            refusal = self._refusal(exchange, unquote(path))
            if refusal is not None:
                return await outlet.send(refusal)
            intake = Intake(request, exchange, self.wire, fault)
            response = await self._backend(request, exchange, intake, outlet if fault.distorts else None)
            exchange.status = response.status
            return response
        finally:
            self.wire.mark(exchange, Moment.ENDED)

    def _refusal(self, exchange: Exchange, path: str) -> Reply | None:
        if self._user is not None:
            wanted = base64.b64encode(":".join(self._user).encode()).decode()
            given = exchange.headers.get("authorization", "")
            if not given:
                return Reply(401, {"WWW-Authenticate": 'Basic realm="git"'})
            if given != f"Basic {wanted}":
                return Reply(403, {}, b"The token username invalid\n" if self.kind == "gitee" else b"denied\n")
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
