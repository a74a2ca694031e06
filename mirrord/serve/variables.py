"""What a CGI program gets to know of a request (RFC 3875 §4.1)."""

from __future__ import annotations

import os

from aiohttp import web

_PASSED = ("Accept", "Accept-Encoding", "Accept-Language", "Content-Encoding", "Git-Protocol", "User-Agent")


def environment(request: web.BaseRequest, body: bytes | None = None) -> dict[str, str]:
    """Return what a request says, as RFC 3875 §4.1 names it, and the search path; `body` when it was read already."""
    given = request.headers
    passed = {f"HTTP_{name.upper().replace('-', '_')}": given.get(name) for name in _PASSED}
    passed |= {"CONTENT_TYPE": given.get("Content-Type"), "CONTENT_LENGTH": given.get("Content-Length")}
    if body is not None:
        passed |= {"HTTP_CONTENT_ENCODING": None, "CONTENT_LENGTH": str(len(body))}
    told = {key: value for key, value in passed.items() if value and value.isascii() and value.isprintable()}
    socket = request.transport.get_extra_info("sockname") if request.transport else None
    host, port = socket[:2] if isinstance(socket, tuple) else ("localhost", 0)
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": "mirrord",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": str(host),
        "SERVER_PORT": str(port),
        "REMOTE_ADDR": request.remote or "",
        "REQUEST_METHOD": request.method,
        "QUERY_STRING": request.raw_path.partition("?")[2],
        **told,
    }
