"""Programs that answer requests: what they get, what becomes of their answers, and that none outlives its client."""

from __future__ import annotations

import asyncio
import ctypes
import os
from pathlib import Path

import pytest

from mirrord.serve.spooled import AnswerRoom
from tests.support.scripted import begun, ended, fifo, running, site

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, prctl(2)


async def test_what_a_program_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program gets what its syncer gives it and the search path: nothing of this environment, or of requests."""
    monkeypatch.setenv("CANARY", "secret")
    async with site(tmp_path) as served:
        served.scripts.scripts["env"] = "env"
        lines = ("Proxy: http://evil.test", "Git-Protocol: version=2", "Authorization: Basic eDp5", "Cookie: c")
        code, head, body = await served.get("env?a=b%20c&d", "GET", *lines)
    env = dict(line.split("=", 1) for line in body.decode().splitlines())
    assert code == 200
    assert b"X-More: yes" in head
    assert b"X-Content-Type-Options: nosniff" in head
    assert {key: env.get(key) for key in ("FOLDER", "NAME", "PATH")} == {
        "FOLDER": str(tmp_path),
        "NAME": "env",
        "PATH": os.environ["PATH"],
    }
    assert env.keys() <= {"FOLDER", "NAME", "PATH", "PWD", "SHLVL", "_", "OLDPWD"}  # the others are the shell's own


async def test_what_is_posted_is_the_input(tmp_path: Path) -> None:
    """A program reads the whole body on its standard input; what its syncer puts in front comes first, once."""
    data = os.urandom(700_000)
    async with site(tmp_path) as served:
        served.scripts.scripts["echo"], served.scripts.begin = "cat", b"begin:"
        assert (await served.get("echo", "POST", body=data))[::2] == (200, b"begin:" + data)


async def test_large_answers_are_whole(tmp_path: Path) -> None:
    """Megabytes arrive whole, by a reader that takes them slowly, and the connection serves on."""
    async with site(tmp_path) as served:
        served.scripts.scripts |= {"zeros": "head -c 20000000 /dev/zero", "end": "printf 'the end'"}
        requests = [f"GET /run/{name} HTTP/1.1\r\nHost: h\r\n" for name in ("zeros", "end")]
        answer = await served.raw(f"{requests[0]}\r\n{requests[1]}Connection: close\r\n\r\n".encode())
        assert answer.count(b"\0") == 20_000_000
        assert b"the end" in answer


async def test_answers_come_as_they_are_written(tmp_path: Path) -> None:
    """The first of an answer is sent while its program still works on the rest."""
    async with site(tmp_path) as served:
        rest = fifo(tmp_path, "rest")
        served.scripts.scripts["slow"] = f"printf first; cat {rest}"
        reader, writer = await served.connect(b"GET /run/slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n5\r\nfirst\r\n"), 30)).startswith(b"HTTP/1.1 200 ")
        await asyncio.to_thread(rest.write_bytes, b"second")
        assert await asyncio.wait_for(reader.read(), 30) == b"6\r\nsecond\r\n0\r\n\r\n"
        writer.close()


@pytest.mark.parametrize(
    ("script", "code"),
    [("true", 200), ("exit 1", 500), ("kill -9 $$", 502), ("printf x; exit 1", 200), ("exec /none", 500)],
)
async def test_ends(tmp_path: Path, script: str, code: int) -> None:
    """A program that fails and says nothing is an error; where it says something, that is the answer."""
    async with site(tmp_path) as served:
        served.scripts.scripts["ends"] = script
        assert (await served.get("ends"))[0] == code


async def test_head_method(tmp_path: Path) -> None:
    """HEAD gets the head, and no program is started for it."""
    async with site(tmp_path) as served:
        served.scripts.scripts["mark"] = f"touch {tmp_path / 'mark'}; printf x"
        code, head, body = await served.get("mark", "HEAD")
        assert (code, b"X-More: yes" in head, body, (tmp_path / "mark").exists()) == (200, True, b"", False)


async def test_a_program_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be started is 500, without a path in it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    async with site(tmp_path) as served:
        served.scripts.scripts["none"] = "true"
        code, _, body = await served.get("none")
        assert (code, str(tmp_path).encode() in body) == (500, False)


async def test_a_program_that_is_cut_off(tmp_path: Path) -> None:
    """An answer whose program died in the middle is never taken for whole."""
    async with site(tmp_path) as served:
        served.scripts.scripts["dies"] = "printf half; kill -9 $$"
        answer = await served.raw(b"GET /run/dies HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert not answer.endswith(b"0\r\n\r\n")


async def test_a_client_that_leaves(tmp_path: Path) -> None:
    """When the client leaves, the program and all that it started are gone, whatever they were doing."""
    async with site(tmp_path, room=AnswerRoom(tmp_path, 0, 0)) as served:
        pipe = fifo(tmp_path, "ready")
        quiet = f"(cat {fifo(tmp_path, 'never')} & echo > {pipe}; wait)"
        for name, script in (("quiet", quiet), ("busy", f"echo > {pipe}; cat /dev/zero")):
            served.scripts.scripts[name] = script
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
            served.scripts.scripts["family"] = f"(cat {never}; :) & echo > {pipe}; wait"
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
        served.scripts.scripts["hangs"] = f"echo > {pipe}; cat {fifo(tmp_path, 'never')}"
        _, writer = await served.connect(b"GET /run/hangs HTTP/1.1\r\nHost: h\r\n\r\n")
        await asyncio.to_thread(pipe.read_bytes)
    writer.close()
    await ended(served)


@pytest.mark.parametrize(
    ("script", "code"), [("cat NEVER", b"504"), ("printf x; cat NEVER", b"200")], ids=["no-begin", "no-end"]
)
async def test_stalls(tmp_path: Path, script: str, code: bytes) -> None:
    """A program that does not go on is ended: 504, or an answer that is not taken for whole."""
    async with site(tmp_path, stall=0.2) as served:
        served.scripts.scripts["stalls"] = script.replace("NEVER", str(fifo(tmp_path, "never")))
        answer = await served.raw(b"GET /run/stalls HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert answer.split()[1] == code
        assert code == b"504" or not answer.endswith(b"0\r\n\r\n")
        await ended(served)


async def test_a_client_that_does_not_read(tmp_path: Path) -> None:
    """A client that takes nothing any more does not keep a program, nor what that wrote."""
    async with site(tmp_path, stall=0.2) as served:
        served.scripts.scripts["endless"] = "cat /dev/zero"
        _, writer = await served.connect(b"GET /run/endless HTTP/1.1\r\nHost: h\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # both loops' transports have it
        await begun(served)
        await ended(served)
        writer.transport.abort()
