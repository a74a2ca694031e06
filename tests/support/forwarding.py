"""An HTTP proxy on loopback, as companies have one between their machines and the world."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass(slots=True, eq=False)
class ForwardProxy:
    """Tunnels (CONNECT) and forwards (`GET http://…`), and remembers what it was asked.

    Attributes:
        names: authorities that only this proxy can resolve → where they are; everything else is refused with 403.
        login: user name and password that it wants, or None.
        tls: what it needs to speak TLS itself, or None.
        host: its own `host:port`.
        asked: first line of each request, without the version: `CONNECT registry.test:443`.
        logins: `Proxy-Authorization` of each request, "" without.
        certificates: whether the client presented a certificate, for each request.
    """

    names: Mapping[str, str]
    login: tuple[str, str] | None = None
    tls: ssl.SSLContext | None = None
    host: str = ""
    asked: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    certificates: list[bool] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.tls)
        self.host = "{}:{}".format(*self._server.sockets[0].getsockname())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all tunnels."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, _, rest = head.partition("\r\n")
            method, target, _ = first.split(" ")
            self.asked.append(f"{method} {target}")
            self.certificates.append(bool(writer.get_extra_info("peercert")))
            fields = dict(line.split(": ", 1) for line in rest.splitlines() if ": " in line)
            self.logins.append(fields.get("Proxy-Authorization", ""))
            status = self._judge(method, target)
            if status != 200:
                wants = 'Proxy-Authenticate: Basic realm="proxy"\r\n' if status == 407 else ""
                closing = "Content-Length: 0\r\nConnection: close\r\n\r\n"
                writer.write(f"HTTP/1.1 {status} No\r\n{wants}{closing}".encode())
                await writer.drain()
                return
            authority = target if method == "CONNECT" else target.split("/")[2]
            host, _, port = self.names[authority].rpartition(":")
            there, out = await asyncio.open_connection(host, int(port))
            ends.append(out)
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = target.split("/", 3)[3]
                kept = "".join(f"{name}: {text}\r\n" for name, text in fields.items() if name != "Connection")
                out.write(f"{method} /{path} HTTP/1.1\r\n{kept}Connection: close\r\n\r\n".encode("latin-1"))
            await asyncio.gather(_pass(reader, out), _pass(there, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # hung up on
        finally:
            for end in ends:
                end.close()

    def _judge(self, method: str, target: str) -> int:
        if self.login is not None:
            wanted = base64.b64encode(":".join(self.login).encode()).decode()
            if self.logins[-1] != f"Basic {wanted}":
                return 407
        authority = target if method == "CONNECT" else target.split("/")[2]
        return 200 if authority in self.names else 403


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(64 * 1024):
        writer.write(data)
        await writer.drain()
    writer.close()
