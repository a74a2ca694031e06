"""What the front says when it has nothing to give."""

from __future__ import annotations

from mirrord.syncer.serving import Response


def refusal(status: int, reason: str) -> Response:
    """Return a short text for people; `git` shows the status only."""
    return Response(status, {"Content-Type": "text/plain; charset=utf-8"}, body=f"{reason}\n".encode())
