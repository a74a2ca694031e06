"""What may be typed: every command with its help, its arguments and its options.

Nothing here knows how a command is carried out, so that help and usage errors cost the interpreter
and click alone. `mirrord.cli.<command>` is imported when the command was understood, and its function of the same name
gets what was typed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click

from mirrord import __version__
from mirrord.cli.grammar.looking import LOOKING
from mirrord.cli.grammar.mirroring import MIRRORING
from mirrord.cli.grammar.pointing import POINTING
from mirrord.cli.grammar.running import RUNNING
from mirrord.cli.grammar.setting_up import SETTING_UP

GROUPS: Mapping[str, tuple[click.Command, ...]] = {
    "Setting up": SETTING_UP,
    "Mirroring": MIRRORING,
    "Looking": LOOKING,
    "Pointing": POINTING,
    "Running": RUNNING,
}


def commands_of(group: tuple[click.Command, ...]) -> Iterator[tuple[str, click.Command]]:
    """Yield what may be typed with each command: `sync`, `list fmt`."""
    for one in group:
        if isinstance(one, click.Group):
            yield from ((f"{one.name} {name}", below) for name, below in one.commands.items())
        else:
            yield str(one.name), one


COMMANDS: Mapping[str, click.Command] = {name: one for group in GROUPS.values() for name, one in commands_of(group)}
"""Every command by what is typed."""

_WIDEST = 100  # columns: longer lines are hard to read
HELP = "Keep copies of images, charts and Git repositories close to their users: read once, written to every target."
EXIT_CODES = """\
0 done, or nothing to do · 1 failed · 2 partly done · 64 wrong usage, or no daemon to ask · 69 nothing reachable ·
74 disk or database · 75 try later (busy, rate-limited) · 78 wrong configuration · 129 stopped by SIGHUP ·
130 stopped by Ctrl-C · 143 stopped by SIGTERM"""


class _Program(click.Group):
    """The first page of the help: commands in their groups, exit codes at the end."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click hands it over
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Answer `help` and `version`, which are options here, with the option."""
        if args[0] in {"help", "version"}:
            raise click.UsageError(f"No such command {args[0]!r}; did you mean mirrord --{args[0]}?", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click calls it so
        width = max(map(len, COMMANDS))
        for title, group in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(list(_lines(group, width)))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click calls it so
        with formatter.section("Exit codes"):
            formatter.write_text(EXIT_CODES)


def _lines(group: tuple[click.Command, ...], width: int) -> Iterator[tuple[str, str]]:
    """Yield each command, padded so that all groups have one second column, and the first paragraph of its help."""
    for name, command in commands_of(group):
        yield name.ljust(width), " ".join(str(command.help).partition("\n\n")[0].split())


PROGRAM = _Program(
    "mirrord",
    commands={str(command.name): command for group in GROUPS.values() for command in group},
    help=HELP,
    no_args_is_help=True,
    context_settings={"max_content_width": _WIDEST, "help_option_names": ["-h", "--help"]},
    params=[],
)
click.version_option(__version__, "--version", "-V", message="mirrord %(version)s", help="Print the version and exit.")(
    PROGRAM
)
