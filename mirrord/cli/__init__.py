"""The command line: one small file a command; the only place that prints or exits.

A command is imported only when it is called, so that `mirrord copy` never pays for the daemon.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from json import dumps
from typing import Annotated

import typer

from mirrord import __version__
from mirrord.cli.console import plain_lines
from mirrord.errors import MirrordError, UsageError
from mirrord.wire.secret import redact, unnamed

COMMANDS = (
    "copy",
    "check",
    "plan",
    "sync",
    "publish",
    "restore",
    "status",
    "serve",
    "reload",
    "healthcheck",
    "raw-url",
    "demo",
)

GARBAGE = 20_000  # objects between two looks for cycles: the default of 700 costs 6 % of a copy and finds nothing

EXIT_CODES = """
[bold]Exit codes[/bold]

0 done, or nothing to do · 1 failed · 2 partly done · 64 wrong usage · 69 nothing reachable ·
74 disk or database · 75 try later (busy, rate-limited) · 78 wrong configuration
"""


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer hands over the flag like this
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,  # noqa: FBT002 - read by its callback
) -> None:
    """Keep copies of images, charts and Git repositories close to their users: read once, written to every target."""


def application(*names: str) -> typer.Typer:
    """Build the command line with these commands."""
    app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="rich", epilog=flowing(EXIT_CODES))
    app.callback(epilog=flowing(EXIT_CODES))(_root)
    for name in names:
        word = name.replace("-", "_")
        module = import_module(f"mirrord.cli.{word}")
        app.command(name, help=flowing(module.HELP))(getattr(module, word))
    return app


def flowing(text: str) -> str:
    """Join the lines of each paragraph, so that they fit every terminal; examples (two spaces before them) stay."""
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(part if part.startswith("  ") else part.replace("\n", " ") for part in paragraphs)


def _clean(text: str, *typed: str) -> str:
    """Take secrets (in words that were `typed` a user's name is one) and control characters out; the last door."""
    for word in typed:
        if "@" in word:
            text = text.replace(word, unnamed(word))
    return plain_lines(redact(text))


def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    gc.set_threshold(GARBAGE)
    given = sys.argv[1:] if arguments is None else arguments
    wanted = next((word for word in given if not word.startswith("-")), "")
    app = application(*((wanted,) if wanted in COMMANDS else COMMANDS))
    try:
        sys.exit(app(given, standalone_mode=False, prog_name="mirrord") or 0)
    except MirrordError as error:
        if "--json" in given:
            typer.echo(dumps({"error": {"code": error.code, "message": _clean(str(error))}}))
        typer.echo(_clean(f"mirrord: {error}"), err=True)
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Exception as error:
        # What typer's parser finds wrong knows how to show itself; it has no public class.
        if not hasattr(error, "show"):
            raise
        message = str(getattr(error, "message", ""))
        error.message = _clean(message, *given)  # type: ignore[attr-defined]  # it repeats what was typed
        error.show()
        sys.exit(UsageError.exit_code)
    finally:
        gc.freeze()  # what lives now goes with the process: the interpreter need not look for cycles in it once more
