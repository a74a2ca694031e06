"""Commands that run the daemon."""

from __future__ import annotations

from typing import Final

import click

from mirrord.cli.grammar.words import CONFIG, JSON, STATE, command, flag, group, mirrors, value

_SERVE = command(
    "serve",
    """Run the daemon: the schedules, the status page and the read-only server of local content, until SIGTERM.

SIGHUP reads the configuration again; a wrong one is refused, and the old one stays in use. SIGTERM waits for running
mirrors; a second SIGTERM does not. Listens on 127.0.0.1:8080, or on `settings.listen`, `MIRRORD_LISTEN` or `--listen`.

  $ mirrord serve --config /etc/mirrord/conf.d --state /var/lib/mirrord

Answers at / (page), /status (JSON), /metrics, /livez, /readyz, /startupz, /healthz,
/api/v1/catalog.txt, .json and .csv (what is mirrored where), /v2/ (registry), /helm/ (charts), /git/ and /raw/
(repositories and their files). Exit code 0 after SIGTERM, 75 when the state directory or the address is in use, 78 when
the configuration is wrong.
""",
    CONFIG,
    STATE,
    value("--listen", "HOST:PORT", "Listen on this address."),
)


def _no_folder(_: click.Context, __: click.Parameter, given: str | None) -> None:
    if given is not None:
        raise click.UsageError("The daemon reads the folder that it was started with; leave --config out.")


_RELOAD = command(
    "reload",
    """Make the running daemon read its configuration again, and print what changes, or what is wrong.

The same as SIGHUP: a wrong configuration is refused, and the current one stays in use.
Lists the mirrors that were added, removed or changed, and the settings that need a restart:
`settings.listen`, `settings.tls`, `settings.spool`, `settings.log`, `settings.record`, `settings.blobs` and `webhook`.
The daemon reads the folder that it was started with.

  $ mirrord reload

Exit code 0 when it is in use, 64 when no daemon runs, 78 when it is wrong.
""",
    STATE,
    JSON,
    click.Option(["--config", "-c"], hidden=True, expose_value=False, callback=_no_folder),
)

_CANCEL = command(
    "cancel",
    """End the runs of mirrors that are under way, whatever started them, and wait until they have ended.

What was done is kept and remembered, so that the next run continues from there; the history has the run as
`interrupted`. Schedules stay as they are. A run that waits for the one under way begins then. With several replicas the
one that runs the mirror ends it, whichever is asked.

  $ mirrord cancel craned

Exit code 0 when nothing of it runs any more, 64 when there is no such mirror or no daemon, 75 when a run has not ended
in time.
""",
    click.Argument(
        ["names"], nargs=-1, required=True, metavar="NAME...", help="Names of mirrors.", shell_complete=mirrors
    ),
    CONFIG,
    STATE,
    JSON,
)

_TOKEN_NAME = click.Argument(["name"], metavar="NAME", help="The name of the token: a-z, 0-9, '.', '_' and '-'.")

_TOKEN_ADD = command(
    "token add",
    """Make a token for clients, and print it. It is shown once: only its hash is kept.

With `--read` it reads `/v2/`, with `--ask` it asks for images by `POST /api/v1/sync`; neither does the other.

To read, one is needed where `front:` reads an upstream with `credentials: true`, and clients beyond this machine can
reach mirrord. Elsewhere it is not needed, but tells clients apart for their limits.
Clients send it as a password, with any user name. A running daemon knows it within two seconds.

  $ mirrord token add cluster-1 --read
  $ mirrord token add ci --ask

Exit code 0 when it is made, 64 when the name is wrong or taken, 74 when it cannot be written.
""",
    _TOKEN_NAME,
    flag("--read", "Let it read images."),
    flag("--ask", "Let it ask for images, as `asking:` allows."),
    STATE,
    JSON,
)

_TOKEN_LIST = command(
    "token list",
    """Print the names of all tokens, what they are for, and when they were made.

  $ mirrord token list

Exit code 0, or 74 when they cannot be read.
""",
    STATE,
    JSON,
)

_TOKEN_REVOKE = command(
    "token revoke",
    """Revoke a token: it counts no more. A running daemon refuses it within two seconds.

  $ mirrord token revoke cluster-1

Exit code 0 when it is revoked, 64 when there is none of this name, 74 when the rest cannot be written.
""",
    _TOKEN_NAME,
    STATE,
    JSON,
)

_TOKEN = group("token", "Make and revoke tokens for clients.", _TOKEN_ADD, _TOKEN_LIST, _TOKEN_REVOKE)

_STATE_COPY = command(
    "state copy",
    """Copy the record from the state directory to the database of `settings.record`, or back.

All of it is copied, or nothing. The other end must have no record, and no mirrord may run. The original stays: after a
copy to sqlite, remove `settings.record`.

  $ mirrord state copy --to postgresql

Exit code 0, 64 when the other end has a record or one of them is in use, 74 when one of them cannot be used, 75 when
the daemon runs, 78 when the configuration is wrong.
""",
    click.Option(
        ["--to"],
        type=click.Choice(["postgresql", "sqlite"]),
        metavar="KIND",
        required=True,
        help="Where to: postgresql, the database of `settings.record`, or sqlite, `mirrord.db` in the state directory.",
    ),
    CONFIG,
    STATE,
)

_STATE = group("state", "Move what mirrord knows.", _STATE_COPY)

_NOTIFY_LIST = command(
    "notify list",
    """Print the receivers of notifications: what is reported to each, when it last got a message, and the last error.

  $ mirrord notify list

Exit code 0, 75 when a command holds the state, 78 when no daemon runs and the configuration is wrong.
""",
    CONFIG,
    STATE,
    JSON,
)

_NOTIFY_TEST = command(
    "notify test",
    """Send a test message to a receiver of notifications, and print what its service answered.

Uses the configuration of the running daemon; when none runs, the one in the folder.

  $ mirrord notify test ops

Exit code 0 when the service took the message, 1 when it refused it, 64 when there is no such receiver, 69 when the
service cannot be reached, 75 when it limits the rate, 78 when a secret is missing.
""",
    click.Argument(["name"], metavar="NAME", help="The name of the receiver under `notify:`."),
    CONFIG,
    STATE,
    JSON,
)

_NOTIFY = group("notify", "List and test the receivers of notifications.", _NOTIFY_LIST, _NOTIFY_TEST)

_DEMO = command(
    "demo",
    """Demonstrate everything on this machine alone, without account and configuration. Nothing is left behind.

Starts four registries, a chart repository, three Git hosts and the daemon on loopback, builds an image for linux/amd64
and linux/arm64, publishes it from one registry to the three others and to the local store as `main` and
`main-<commit>`, mirrors the charts and a Git repository, and leaves all of it running until Ctrl-C. The
registries are Debian's `docker-registry` where it is installed.

  $ mirrord demo --once

Exit code 0 when everything was published and checked, 1 when not.
""",
    flag("--once", "Exit after everything is published and checked."),
)

RUNNING: Final = (_SERVE, _RELOAD, _CANCEL, _NOTIFY, _TOKEN, _STATE, _DEMO)
