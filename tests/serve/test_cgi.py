"""Programs that answer requests: what they get, what they may say, and that none outlives its client."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mirrord.serve.app import make_app
from mirrord.serve.cgi import Programs
from mirrord.serve.door import Listener, bind
from mirrord.serving import Asked, Content, Program
from mirrord.syncer import Services
from mirrord.testing.frontserver import Shown

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, prctl(2)
OK = "Content-Type: text/plain\\r\\n\\r\\n"


class Scripted:
    """Answers with a shell script named by the path, or a Python one."""

    prefixes = ("/run/",)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scripts: dict[str, tuple[str, ...]] = {}

    def shell(self, name: str, script: str) -> None:
        self.scripts[name] = ("sh", "-c", script)

    def python(self, name: str, script: str) -> None:
        self.scripts[name] = (sys.executable, "-I", "-S", "-c", script)

    async def content(self, asked: Asked, services: Services) -> Content:
        env = {"FOLDER": str(self.folder), "PATH_INFO": asked.path}
        return Content(200, {"X-More": "yes"}, program=Program(self.scripts[asked.path], env))


class Site:
    """A listening application in front of scripts."""

    def __init__(self, scripts: Scripted, programs: Programs, port: int) -> None:
        self.scripts, self.programs, self.port = scripts, programs, port

    async def connect(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        return reader, writer

    async def raw(self, data: bytes) -> bytes:
        reader, writer = await self.connect(data)
        try:
            return await asyncio.wait_for(reader.read(), 30)
        except ConnectionError:
            return b"reset"
        finally:
            writer.close()

    async def get(self, name: str, method: str = "GET", *lines: str) -> tuple[int, bytes, bytes]:
        """Return status, head and body of a request without keep-alive (HTTP/1.0: the body comes as it is)."""
        head = "".join(f"{line}\r\n" for line in lines)
        answer = await self.raw(f"{method} /run/{name} HTTP/1.0\r\nHost: h\r\n{head}\r\n".encode())
        head_, _, body = answer.partition(b"\r\n\r\n")
        return int(head_.split()[1]), head_, body


@contextlib.asynccontextmanager
async def site(folder: Path, **limits: Any) -> AsyncIterator[Site]:
    scripts = Scripted(folder)
    nobody: Any = None
    programs = Programs(**limits)
    listener, connection = Listener(make_app(Shown(nobody, scripts), programs), grace=0.05), bind("127.0.0.1:0")
    await listener.listen(connection)
    try:
        yield Site(scripts, programs, connection.getsockname()[1])
    finally:
        await listener.close()
        connection.close()


def fifo(folder: Path, name: str) -> Path:
    """Make a named pipe: whoever reads it waits until somebody writes, and the other way round."""
    os.mkfifo(folder / name)
    return folder / name


def running(folder: Path) -> list[int]:
    """Return the processes whose environment names `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and f"FOLDER={folder}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


async def begun(served: Site) -> None:
    """Wait until a program runs."""
    async with asyncio.timeout(30):
        while not running(served.scripts.folder):  # noqa: ASYNC110 - processes can only be looked for
            await asyncio.sleep(0.01)


async def ended(served: Site) -> None:
    """Wait until every program has been reaped, and nothing that it started is left."""
    async with asyncio.timeout(30):
        while served.programs.running or running(served.scripts.folder):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)


async def test_what_a_program_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program sees RFC 3875's variables and the search path, and neither this environment nor strange headers."""
    monkeypatch.setenv("CANARY", "secret")
    async with site(tmp_path) as served:
        served.scripts.shell("env", f"printf '{OK}'; env")
        lines = ("Proxy: http://evil.test", "Git-Protocol: version=2", "User-Agent: git/2", "Authorization: Basic eDp5")
        code, head, body = await served.get("env?a=b%20c&d", "GET", *lines, "Accept: \x80", "Cookie: c")
        env = dict(line.split("=", 1) for line in body.decode().splitlines())
    assert code == 200
    assert b"X-More: yes" in head
    assert b"X-Content-Type-Options: nosniff" in head
    expected = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": "GET",
        "QUERY_STRING": "a=b%20c&d",
        "HTTP_GIT_PROTOCOL": "version=2",
        "HTTP_USER_AGENT": "git/2",
        "REMOTE_ADDR": "127.0.0.1",
        "PATH_INFO": "env",
        "PATH": os.environ["PATH"],
    }
    assert {key: env[key] for key in expected} == expected
    assert not {"CANARY", "HTTP_PROXY", "HTTP_AUTHORIZATION", "HTTP_COOKIE", "HTTP_ACCEPT", "HOME"} & env.keys()


async def test_bodies_stream_both_ways(tmp_path: Path) -> None:
    """What a client sends arrives while it still sends, and the answer comes while the program still writes."""
    async with site(tmp_path) as served:
        served.scripts.shell("echo", f"printf '{OK}'; cat")
        head = b"POST /run/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        reader, writer = await served.connect(head + b"3\r\nabc\r\n")
        assert b"Transfer-Encoding: chunked" in await asyncio.wait_for(reader.readuntil(b"abc"), 30)
        writer.write(b"3\r\ndef\r\n")
        await asyncio.wait_for(reader.readuntil(b"def"), 30)
        writer.write(b"0\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 30)
        writer.close()


async def test_large_answers_are_whole(tmp_path: Path) -> None:
    """Megabytes arrive whole, by a reader that takes them slowly, and the connection serves on."""
    async with site(tmp_path) as served:
        served.scripts.shell("zeros", f"printf '{OK}'; head -c 20000000 /dev/zero")
        served.scripts.shell("end", f"printf '{OK}the end'")
        requests = [f"GET /run/{name} HTTP/1.1\r\nHost: h\r\n" for name in ("zeros", "end")]
        answer = await served.raw(f"{requests[0]}\r\n{requests[1]}Connection: close\r\n\r\n".encode())
        assert answer.count(b"\0") == 20_000_000
        assert b"the end" in answer


async def test_compressed_requests_stay_compressed(tmp_path: Path) -> None:
    """A body with a content coding is handed over as it came, and the program is told of the coding."""
    async with site(tmp_path) as served:
        served.scripts.shell("coded", f'printf \'{OK}\'; printf %s, "$HTTP_CONTENT_ENCODING" "$CONTENT_LENGTH"; cat')
        head = b"POST /run/coded HTTP/1.0\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\n"
        assert (await served.raw(head + b"not gzip")).endswith(b"gzip,8,not gzip")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param("printf 'Status: 404 Not Found\\r\\nContent-Type: text/plain\\r\\n\\r\\nno'", 404, id="status"),
        pytest.param("printf 'Content-Type: text/plain\\n\\nx'", 200, id="bare-line-ends"),
        pytest.param("printf 'Location: https://h.test/\\r\\n\\r\\n'", 302, id="location"),
        pytest.param("printf 'Status: 999\\r\\n\\r\\n'", 502, id="strange-status"),
        pytest.param("printf 'Status: x\\r\\n\\r\\n'", 502, id="no-status"),
        pytest.param("printf 'no head at all\\n\\n'", 502, id="no-head"),
        pytest.param("printf '\\r\\n'", 502, id="empty-head"),
        pytest.param("printf 'A: b\\r\\n'", 502, id="half-a-head"),
        pytest.param("head -c 1000000 /dev/zero", 502, id="endless-line"),
        pytest.param("yes 'A: b' | head -c 1000000", 502, id="endless-head"),
        pytest.param("exit 1", 502, id="nothing"),
        pytest.param("kill -9 $$", 502, id="killed"),
    ],
)
async def test_heads(tmp_path: Path, script: str, code: int) -> None:
    """A program's head is read by RFC 3875 §6; what is none is 502."""
    async with site(tmp_path) as served:
        served.scripts.shell("head", script)
        assert (await served.get("head"))[0] == code


async def test_head_method(tmp_path: Path) -> None:
    """HEAD gets the head, and the program is not let to write the rest."""
    async with site(tmp_path) as served:
        served.scripts.shell("endless", f"printf '{OK}'; cat /dev/zero")
        assert (await served.get("endless", "HEAD"))[::2] == (200, b"")
        await ended(served)


async def test_a_program_that_is_missing(tmp_path: Path) -> None:
    """What cannot be started is 500, without a path in it."""
    async with site(tmp_path) as served:
        served.scripts.scripts["none"] = (str(tmp_path / "none"),)
        code, _, body = await served.get("none")
        assert (code, str(tmp_path).encode() in body) == (500, False)


async def test_a_program_that_is_cut_off(tmp_path: Path) -> None:
    """An answer whose program died in the middle is never taken for whole."""
    async with site(tmp_path) as served:
        served.scripts.shell("dies", f"printf '{OK}half'; kill -9 $$")
        answer = await served.raw(b"GET /run/dies HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert not answer.endswith(b"0\r\n\r\n")


async def test_a_client_that_leaves(tmp_path: Path) -> None:
    """When the client leaves, the program and all that it started are gone, whatever they were doing."""
    async with site(tmp_path) as served:
        pipe = fifo(tmp_path, "ready")
        quiet = f"printf '{OK}'; (cat {fifo(tmp_path, 'never')} & echo > {pipe}; wait)"
        for name, script in (("quiet", quiet), ("busy", f"printf '{OK}'; echo > {pipe}; cat /dev/zero")):
            served.scripts.shell(name, script)
            _, writer = await served.connect(f"GET /run/{name} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            await asyncio.to_thread(pipe.read_bytes)
            assert running(tmp_path)
            writer.transport.abort()
            await ended(served)


async def test_no_zombies(tmp_path: Path) -> None:
    """Where orphans become our children, as those of a container's first process do, none stays behind unburied."""
    prctl = ctypes.CDLL(None).prctl
    assert prctl(SUBREAPER, 1, 0, 0, 0) == 0
    try:
        async with site(tmp_path) as served:
            pipe, never = fifo(tmp_path, "ready"), fifo(tmp_path, "never")
            served.scripts.shell("family", f"printf '{OK}'; (cat {never}; :) & echo > {pipe}; wait")
            _, writer = await served.connect(b"GET /run/family HTTP/1.1\r\nHost: h\r\n\r\n")
            await asyncio.to_thread(pipe.read_bytes)
            family = running(tmp_path)
            writer.transport.abort()
            await ended(served)
            assert family
            assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []
    finally:
        prctl(SUBREAPER, 0, 0, 0, 0)


async def test_a_daemon_that_stops(tmp_path: Path) -> None:
    """No program is left when the listener has closed."""
    async with site(tmp_path) as served:
        pipe = fifo(tmp_path, "ready")
        served.scripts.shell("hangs", f"printf '{OK}'; echo > {pipe}; cat {fifo(tmp_path, 'never')}")
        _, writer = await served.connect(b"GET /run/hangs HTTP/1.1\r\nHost: h\r\n\r\n")
        await asyncio.to_thread(pipe.read_bytes)
    writer.close()
    await ended(served)


@pytest.mark.parametrize("script", ["cat NEVER", "printf 'A: b\\r\\n\\r\\n'; cat NEVER"], ids=["no-head", "no-end"])
async def test_stalls(tmp_path: Path, script: str) -> None:
    """A program that does not go on is ended: 504, or an answer that is not taken for whole."""
    async with site(tmp_path, stall=0.2) as served:
        served.scripts.shell("stalls", script.replace("NEVER", str(fifo(tmp_path, "never"))))
        answer = await served.raw(b"GET /run/stalls HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert b" 504 " in answer or not answer.endswith(b"0\r\n\r\n")
        await ended(served)


async def test_a_client_that_does_not_read(tmp_path: Path) -> None:
    """A client that takes nothing any more does not keep a program."""
    async with site(tmp_path, stall=0.2) as served:
        served.scripts.shell("endless", f"printf '{OK}'; cat /dev/zero")
        _, writer = await served.connect(b"GET /run/endless HTTP/1.1\r\nHost: h\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # both loops' transports have it
        await begun(served)
        await ended(served)
        writer.transport.abort()


async def test_large_requests(tmp_path: Path) -> None:
    """A request that is too large is 413, whether its size was told or not, and its program is ended."""
    async with site(tmp_path, largest=1000) as served:
        served.scripts.shell("eats", f"cat > /dev/null; printf '{OK}'")
        assert (await served.get("eats", "POST", "Content-Length: 1001"))[0] == 413
        head = b"POST /run/eats HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        assert b" 413 " in await served.raw(head + b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n")
        assert b" 200 " in await served.raw(head + b"3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n")
        assert b" 400 " in await served.raw(head + b"3\r\nabc\r\nnonsense\r\n")
        await ended(served)


async def test_bounded(tmp_path: Path) -> None:
    """So many programs run at once, so many requests wait, the next is asked to come back later."""
    async with site(tmp_path, at_once=2, waiting=1) as served:
        ready, first = fifo(tmp_path, "ready"), []
        for name in ("one", "two"):
            served.scripts.shell(name, f"printf '{OK}'; echo > {ready}; read line < {fifo(tmp_path, name)}")
            first.append(asyncio.create_task(served.get(name)))
            await asyncio.to_thread(ready.read_bytes)
        served.scripts.shell("quick", f"printf '{OK}quick'")
        answers = [asyncio.create_task(served.get("quick")) for _ in range(2)]
        done, (waiting,) = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        code, head, _ = done.pop().result()
        assert (code, b"Retry-After: " in head) == (503, True)
        for name in ("one", "two"):
            await asyncio.to_thread((tmp_path / name).write_bytes, b"go\n")
        assert (await waiting)[::2] == (200, b"quick")
        assert [(await task)[0] for task in first] == [200, 200]


async def test_patience_ends(tmp_path: Path) -> None:
    """Whoever waited too long for its turn is asked to come back later."""
    async with site(tmp_path, at_once=1, patience=0.05) as served:
        ready = fifo(tmp_path, "ready")
        served.scripts.shell("waits", f"printf '{OK}'; echo > {ready}; cat {fifo(tmp_path, 'never')}")
        _, writer = await served.connect(b"GET /run/waits HTTP/1.1\r\nHost: h\r\n\r\n")
        await asyncio.to_thread(ready.read_bytes)
        assert (await served.get("waits"))[0] == 503
        writer.transport.abort()
        await ended(served)
