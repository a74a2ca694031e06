"""What commands are described with: the options that many have, and how a command finds what carries it out."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import click

FOLDERS: Final = (Path("/etc/mirrord/conf.d"), Path("conf.d"))
"""Where the configuration is looked for when no folder is named."""
STATE_OF_MACHINE: Final = Path("/var/lib/mirrord")
"""The state that belongs to the first of these folders, as in the unit for systemd."""


def mirrors(ctx: click.Context, _: click.Parameter, begin: str) -> list[str]:
    """Return the names of mirrors that begin so and are not typed yet, for the completion of a shell."""
    names: list[str] = import_module("mirrord.cli.completion").mirror_names(ctx.params.get("config"))
    typed = ctx.params.get("names") or ()
    return [name for name in dict.fromkeys(names) if name.startswith(begin) and name not in typed]


CONFIG: Final = click.Option(
    ["--config", "-c"],
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Read the configuration in this folder. Default: /etc/mirrord/conf.d, then ./conf.d. A running daemon "
    "keeps to its own folder, and refuses commands that name another.",
)
STATE: Final = click.Option(
    ["--state"],
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Use this state directory. Default: $STATE_DIRECTORY; else, with the configuration in "
    "/etc/mirrord/conf.d and no state in ./state, /var/lib/mirrord; else ./state.",
)
NAMES: Final = click.Argument(
    ["names"], nargs=-1, metavar="[NAME]...", help="Names of mirrors. Default: all mirrors.", shell_complete=mirrors
)
NAMES_OR_IMAGES: Final = click.Argument(
    ["names"],
    nargs=-1,
    metavar="[NAME or IMAGE]...",
    help="Names of mirrors, or images. Default: all mirrors.",
    shell_complete=mirrors,
)


_TO_WORD: Final = str.maketrans("- ", "__")


def flag(name: str, text: str, *short: str) -> click.Option:
    """Describe an option that is given or not."""
    return click.Option([name, *short], is_flag=True, help=text)


def value(name: str, metavar: str, text: str) -> click.Option:
    """Describe an option with a value, None when it is not given."""
    return click.Option([name], metavar=metavar, help=text)


def values(name: str, metavar: str, text: str) -> click.Option:
    """Describe an option that may be given several times, with a value each."""
    return click.Option([name], metavar=metavar, multiple=True, help=text)


_SETTINGS: Final = {"help_option_names": ["-h", "--help"]}  # of each: click keeps what its first context had
QUIET: Final = flag("--quiet", "Print only what failed.", "-q")
VERBOSE: Final = flag("--verbose", "Print a line for each step, with full digests.", "-v")
JSON: Final = flag("--json", "Print JSON for programs.")


def host_options(what: str) -> tuple[click.Option, ...]:
    """Describe what commands without a configuration have in the place of `hosts:`, for the hosts of `what`."""
    return (
        flag("--allow-private", f"Allow private addresses, such as 10.0.0.5, for {what}."),
        value("--ca", "FILE", "Trust the certificate authorities in this PEM file, in addition to the system's."),
        values("--insecure", "HOST", "Use plain HTTP for HOST."),
        values("--tls", "HOST", "Use TLS for HOST on this machine, where plain HTTP is the default."),
        values(
            "--token-realm", "HOST=URL", "Get tokens for HOST from this server, which receives the credentials of HOST."
        ),
    )


def function_name(name: str) -> str:
    """Return the name of the function of a command, and of its module: `raw_url`, `list_fmt`, `import_`."""
    word = name.translate(_TO_WORD)
    return f"{word}_" if iskeyword(word) else word


def command(name: str, text: str, *parameters: click.Parameter) -> click.Command:
    """Describe a command that the function of its name in `mirrord.cli.<name>` carries out.

    Args:
        name: as it is typed; `list fmt` is the command `fmt` of the group `list`, and `mirrord.cli.list_fmt`.
        text: its help: paragraphs, the first of which is its line in lists; examples have two spaces before them, and
            stay as they are written.
        parameters: what may be typed after it; their names are those of the function's arguments.
    """
    word = function_name(name)
    paragraphs = (f"\b\n{dedent(part)}" if part.startswith("  ") else part for part in text.split("\n\n"))
    return click.Command(
        name.rpartition(" ")[2],
        help="\n\n".join(paragraphs),
        params=list(parameters),
        callback=partial(_call, word),
        context_settings=_SETTINGS,
    )


def group(name: str, text: str, *commands: click.Command) -> click.Group:
    """Describe commands that have a word in common: `list fmt`, `list check`."""
    return click.Group(name, help=text, commands=commands, context_settings=_SETTINGS)


def _call(word: str, **typed: Any) -> int:
    code: int = getattr(import_module(f"mirrord.cli.{word}"), word)(**typed)
    return code
