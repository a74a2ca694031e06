"""`mirrord notify list`: who is notified, and how that went."""

from __future__ import annotations

from pathlib import Path

from mirrord.cli.ask import ask
from mirrord.cli.console import note, say_json, table
from mirrord.commands import GetStatus
from mirrord.report.moments import rfc3339
from mirrord.report.status import status_document


def notify_list(*, config: Path | None, state: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    status = ask(GetStatus(), config, state, quiet=True)
    if json:
        say_json(status_document(status)["notify"])
        return 0
    if not status.notify:
        note("nobody is notified; write notify: in the configuration")
        return 0
    rows = [
        (
            one.name,
            one.kind,
            one.host,
            ", ".join(one.on),
            ", ".join(one.mirrors),
            rfc3339(one.last_sent) or "-",
            one.last_error or "-",
        )
        for one in status.notify
    ]
    table(("NAME", "KIND", "HOST", "ON", "MIRRORS", "LAST SENT", "LAST ERROR"), rows)
    return 0
