"""Clients of the front that read slowly, when what they read has no room: they hold no upstream for themselves."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from pathlib import Path

from mirrord.blobs.hashed_file import CHUNK
from mirrord.blobs.spool import BUFFER
from mirrord.model.digest import Digest
from mirrord.testing import Registry, build_image, push, require
from tests.support.commands import Desk
from tests.support.frontdesk import FrontDesk, configuration
from tests.support.judges import judged

MIB = 1 << 20
NAME = "team/app"
BLOBS = [random.Random(seed).randbytes(17 * MIB) for seed in range(4)]
IMAGE = build_image(layer_size=MIB, seed="cold")
CLIENTS = 100
LISTEN = '"listen": "127.0.0.1:0"'


async def opened(front: FrontDesk, digest: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for a blob, read the head of the answer, and take no more than buffers hold."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", int(front.port)))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1 << 14)
    head = f"GET {front.path(NAME)}/blobs/{digest} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    while await reader.readline() != b"\r\n":
        pass
    return reader, writer


async def test_slow_clients_hold_no_upstream(tmp_path: Path) -> None:
    """One download at once, no room, three clients that do not read: a fourth gets its blob, then they get theirs."""
    async with Registry() as upstream, contextlib.AsyncExitStack() as stack:
        digests = [upstream.content.put_blob(NAME, blob) for blob in BLOBS]
        desk, more = Desk(tmp_path), f"hosts: {{'{upstream.host}': {{requests: 3}}}}\nmirrors: []\n"
        text = configuration(upstream.host, more, cache={"size": "64MiB"})
        desk.configure(text.replace(LISTEN, f'{LISTEN}, "spool": {{"budget": "16MiB"}}'))
        front = FrontDesk(await stack.enter_async_context(desk.serving()), desk, upstream.host)
        slow = []
        for digest in digests[:3]:
            reader, writer = await opened(front, digest)
            stack.callback(writer.close)
            slow.append(reader)
        answer = await front.get(f"{front.path(NAME)}/blobs/{digests[3]}")
        assert (answer.status, Digest.of(answer.body)) == (200, digests[3])
        assert upstream.count("GET", f"/blobs/{digests[3]}") == 1
        for reader, digest in zip(slow, digests, strict=False):
            assert Digest.of(await reader.read()) == digest


async def test_a_hundred_clients_that_do_not_read(tmp_path: Path) -> None:
    """Their transfers have no room and four places: skopeo pulls a cold image meanwhile; then they get their rest."""
    require("skopeo")
    async with Registry() as upstream, contextlib.AsyncExitStack() as stack:
        digests = [upstream.content.put_blob(NAME, blob) for blob in BLOBS[:2]]
        await push(IMAGE, upstream, "team/other", ["v1"])
        desk, limits = Desk(tmp_path), {"pulls": 1, "exempt": ["127.0.0.0/8"]}
        text = configuration(upstream.host, "mirrors: []\n", cache={"size": "64MiB"}, limits=limits)
        desk.configure(text.replace(LISTEN, f'{LISTEN}, "spool": {{"budget": "16MiB"}}'))
        front = FrontDesk(await stack.enter_async_context(desk.serving()), desk, upstream.host)
        slow = []
        for number in range(CLIENTS):
            reader, writer = await opened(front, digests[number % 2])
            stack.callback(writer.close)
            slow.append(reader)
        image = front.reference("prefix", "team/other:v1")
        async with asyncio.timeout(60):
            assert await judged("skopeo", image, tmp_path / "pulled") == IMAGE.digest
        assert [upstream.count("GET", f"/blobs/{digest}") for digest in IMAGE.blobs] == [1] * len(IMAGE.blobs)
        contents = await asyncio.gather(*(reader.read() for reader in slow))
        assert [Digest.of(content) for content in contents] == [digests[number % 2] for number in range(CLIENTS)]
        asked = [one for digest in digests for one in upstream.select("GET", f"/blobs/{digest}")]
        assert len([one for one in asked if "range" not in one.headers]) == CLIENTS
        most = 1 + len(BLOBS[0]) // (BUFFER - CHUNK)
        assert 2 * CLIENTS - 4 <= len(asked) <= CLIENTS * most
