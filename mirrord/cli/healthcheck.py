"""`mirrord healthcheck`: for containers without curl."""

from __future__ import annotations

import http.client

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
        connection = http.client.HTTPConnection(reachable, number, timeout=PATIENCE)
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        text = answer.read(4096).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or error
        alive, tell = False, note
        text = f"{listen}: no daemon answers: {why}; if it listens elsewhere, use --listen"
    else:
        alive, tell = answer.status == 200, say
        if answer.status not in (200, 503):
            tell = note
            text = (
                f"{listen}: something else than mirrord answers (status {answer.status}); name its address by --listen"
            )
    if json:
        say_json({"alive": alive, "message": text})
    else:
        tell(text)
    return 0 if alive else 1
