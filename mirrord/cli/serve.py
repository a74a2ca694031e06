"""`mirrord serve`: the daemon."""

from __future__ import annotations

from typing import Annotated

import typer

from mirrord.cli.ask import Config, State, config_folder, state_folder
from mirrord.daemon.loop import run
from mirrord.daemon.main import serve as serve_daemon

HELP = """Run the scheduler, the status endpoint and the read-only registry of what is kept locally, until SIGTERM.

SIGHUP reads the configuration again: a wrong one is refused and the old one stays. SIGTERM lets runs end;
a second one does not. Listens on 127.0.0.1:8080 unless the configuration or [cyan]MIRRORD_LISTEN[/cyan] says otherwise.

  $ mirrord serve --config /etc/mirrord/conf.d --state /var/lib/mirrord

Answers at / (page), /status (JSON), /metrics, /livez, /readyz, /startupz, /healthz,
/v2/ (registry), /helm/ (charts), /git/ and /raw/ (repositories and their files).
Exit code 0 after SIGTERM, 75 when the state directory or the address is taken, 78 when the configuration
is wrong.
"""


def serve(
    config: Config = None,
    state: State = None,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Listen there.")] = None,
) -> int:
    """Run the daemon and return its exit code."""
    return run(serve_daemon(config_folder(config), state_folder(state), listen))
