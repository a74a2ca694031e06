"""The command line: `grammar` defines what may be typed, one file implements each command. Only this package prints.

A command is imported only when it is called, so that `mirrord copy` never pays for the daemon.
"""

from __future__ import annotations

import sys

import click

from mirrord import garbage
from mirrord.cli.console import note, plain_lines, say_json
from mirrord.cli.grammar import COMMANDS, PROGRAM
from mirrord.errors import ConfigError, MirrordError, UsageError
from mirrord.wire.secret import redact, unnamed

__all__ = ["COMMANDS", "main"]


def _clean(text: str, *typed: str) -> str:
    """Remove secrets and control characters from a text; a user name in a `typed` word counts as a secret."""
    for word in typed:
        if "@" in word:
            text = text.replace(word, unnamed(word))
    return plain_lines(redact(text))


def _failed(given: list[str], code: str, message: str) -> None:
    """Print the error as JSON when the command line asked for JSON."""
    if "--json" in given:
        say_json({"error": {"code": code, "message": message}})


def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    garbage.look_briefly()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        sys.exit(PROGRAM(given, standalone_mode=False, prog_name="mirrord") or 0)
    except MirrordError as error:
        _failed(given, error.code, _clean(str(error)))
        # A problem of the configuration begins with file and line: editors jump to what begins so.
        note(_clean(str(error) if isinstance(error, ConfigError) else f"mirrord: {error}"))
        for notice in getattr(error, "notices", ()):
            note(_clean(f"notice: {notice}"))
        for last in getattr(error, "__notes__", ()):
            note(_clean(f"mirrord: {last}"))
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except click.ClickException as error:
        error.message = _clean(error.message, *given)  # type: ignore[misc]  # it repeats what was typed
        _failed(given, UsageError.code, error.format_message())
        error.show()
        sys.exit(UsageError.exit_code)
    finally:
        garbage.keep()  # what lives now goes with the process: the interpreter need not look for cycles in it once more
