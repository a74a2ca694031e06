"""`mirrord healthcheck`: for containers without curl."""

from __future__ import annotations

import http.client
import ssl
from contextlib import closing

from mirrord.cli.console import note, say, say_json
from mirrord.errors import UsageError
from mirrord.wire.number import whole

PATIENCE = 5.0  # seconds


def healthcheck(listen: str, *, json: bool) -> int:
    """Run the command and return its exit code."""
    host, _, port = listen.rpartition(":")
    number = whole(port, 5)
    if ":" not in listen or number is None or number > 65535:
        raise UsageError(f"{listen!r} is not host:port; write something like 127.0.0.1:8080")
    reachable = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "::1", "::": "::1"}.get(host, host.strip("[]"))  # noqa: S104 - a wildcard is not an address to ask
    try:
        status, text = _ask(reachable, number)
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or error
        alive, tell = False, note
        text = f"{listen}: no daemon answers: {why}; if it listens elsewhere, use --listen"
    else:
        alive, tell = status == 200, say
        if status not in (200, 503):
            tell = note
            text = f"{listen}: something else than mirrord answers (status {status}); name its address by --listen"
    if json:
        say_json({"alive": alive, "message": text})
    else:
        tell(text)
    return 0 if alive else 1


def _ask(host: str, port: int) -> tuple[int, str]:
    """Return status and text of the answer, over TLS where plain HTTP is not understood."""
    try:
        return _answer(http.client.HTTPConnection(host, port, timeout=PATIENCE))
    except (http.client.HTTPException, ConnectionResetError):
        # Only whether it lives is asked, at an address of this machine: no name that a certificate could prove.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return _answer(http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=context))


def _answer(connection: http.client.HTTPConnection) -> tuple[int, str]:
    with closing(connection):
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        return answer.status, answer.read(4096).decode(errors="replace").strip()
