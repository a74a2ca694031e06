"""A front whose answers shell scripts write, and a client that counts no one as lost: for tests of what is served."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from mirrord.serve.app import make_app
from mirrord.serve.bodies import Bodies
from mirrord.serve.door import Listener, bind
from mirrord.serve.programs import ProgramLimit, Programs
from mirrord.serve.slots import Slots
from mirrord.serve.spooled import AnswerRoom
from mirrord.syncer.serving import Process, Request, Response
from mirrord.syncer.values import Services
from tests.support.frontserver import Shown


class Scripted:
    """Answers with a shell script named by the path; what is posted is its input."""

    prefixes = ("/run/",)

    def __init__(self, folder: Path) -> None:
        """Name `folder` in the environment of each script, so that `running` finds them."""
        self.folder = folder
        self.scripts: dict[str, str] = {}
        self.begin = b""

    async def respond(self, asked: Request, _: Services) -> Response:
        """Let the script of that name answer; what is posted is its input."""
        env = {"FOLDER": str(self.folder), "NAME": asked.path}

        async def posted(body: bytes) -> Response:
            argv = ("sh", "-c", self.scripts[asked.path])
            return Response(200, {"X-More": "yes"}, Process(argv, env, body, self.begin, "quick" in asked.query))

        if asked.method == "POST":
            return Response(200, {}, posted=posted, longest=1_000_000)
        return await posted(b"")


def lane(working: int, started: int = 100, **limits: Any) -> ProgramLimit:
    """Make a lane that one client may have for itself."""
    return ProgramLimit(Slots(working, working, **limits), Slots(started, started, **limits))


class Site:
    """A listening application in front of scripts."""

    def __init__(self, scripts: Scripted, programs: Programs, room: AnswerRoom, port: int) -> None:
        """Talk to what listens on `port`."""
        self.scripts, self.programs, self.room, self.port = scripts, programs, room, port

    async def connect(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect and send."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        return reader, writer

    async def raw(self, data: bytes) -> bytes:
        """Send, and return all that comes until the other side closes."""
        reader, writer = await self.connect(data)
        try:
            return await asyncio.wait_for(reader.read(), 30)
        except ConnectionError:
            return b"reset"
        finally:
            writer.close()

    async def get(self, name: str, method: str = "GET", *lines: str, body: bytes = b"") -> tuple[int, bytes, bytes]:
        """Return status, head and body of a request without keep-alive (HTTP/1.0: the body comes as it is)."""
        told = "".join(f"{line}\r\n" for line in (*lines, *([f"Content-Length: {len(body)}"] if body else [])))
        answer = await self.raw(f"{method} /run/{name} HTTP/1.0\r\nHost: h\r\n{told}\r\n".encode() + body)
        head_, _, body = answer.partition(b"\r\n\r\n")
        return int(head_.split()[1]), head_, body


@contextlib.asynccontextmanager
async def site(
    folder: Path, *, room: AnswerRoom | None = None, patience: float = 30.0, **limits: Any
) -> AsyncIterator[Site]:
    """Listen; when the context ends, all room that answers took has been given back."""
    scripts, room = Scripted(folder), room or AnswerRoom(folder)
    nobody: Any = None
    programs = Programs(room, **limits)
    app = make_app(Shown(nobody, scripts), programs, Bodies(patience))
    listener, connection = Listener(app, grace=0.05), bind("127.0.0.1:0")
    await listener.listen(connection)
    before = room.memory, room.disk
    try:
        yield Site(scripts, programs, room, connection.getsockname()[1])
    finally:
        await listener.close()
        connection.close()
    assert (room.memory, room.disk) == before


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


async def begun(served: Site, count: int = 1) -> None:
    """Wait until so many programs run, no more and no fewer."""
    async with asyncio.timeout(30):
        while served.programs.running != count or not running(served.scripts.folder):  # noqa: ASYNC110 - can only be looked for
            await asyncio.sleep(0.01)


async def ended(served: Site) -> None:
    """Wait until every program has been reaped, and nothing that it started is left."""
    async with asyncio.timeout(30):
        while served.programs.running or running(served.scripts.folder):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
