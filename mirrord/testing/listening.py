"""Opening and closing loopback servers for doubles."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web

READ_AHEAD = 512 * 1024
LONGEST_HEADER = 64 * 1024  # a password of 8 kB is 11 kB in base64; registries written in Go take 1 MiB


async def listen(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    buffer: int | None = None,
) -> tuple[web.ServerRunner, int]:
    """Serve `handler` on 127.0.0.1; returns what to `cleanup()` and the port.

    Args:
        handler: gets every request.
        port: 0 for a free one.
        tls: speak TLS with this.
        buffer: size of the kernel's buffers in bytes, so that back-pressure is felt early; None leaves them alone.
    """
    server = socket.socket()
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if buffer is not None:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        server.bind(("127.0.0.1", port))
        runner = web.ServerRunner(
            web.Server(
                handler,
                handler_cancellation=True,
                read_bufsize=buffer or READ_AHEAD,
                max_field_size=LONGEST_HEADER,
                auto_decompress=False,
                access_log=None,
            ),
            handle_signals=False,
            shutdown_timeout=0.01,  # 0 would wait for ever
        )
        await runner.setup()
        await web.SockSite(runner, server, ssl_context=tls).start()
    except BaseException:
        server.close()
        raise
    return runner, int(server.getsockname()[1])
