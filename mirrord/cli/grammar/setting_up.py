"""Commands for the person who writes the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from mirrord.cli.grammar.words import CONFIG, JSON, command

_INIT = command(
    "init",
    """Write a small configuration with comments to start from. Existing files are never overwritten.

The file mirrors one public image into the embedded store and needs no account. Charts, repositories, other
targets and credentials are in it as comments.

  $ mirrord init ./conf.d

Exit code 0 when it is written, 64 when the folder has a configuration already.
""",
    click.Argument(
        ["folder"],
        metavar="[FOLDER]",
        type=click.Path(path_type=Path),
        default=Path("conf.d"),
        help="Where to write; it is created when it is missing. Default: ./conf.d.",
    ),
)

_CHECK = command(
    "check",
    """Check the configuration and print everything that is wrong with it. Start nothing, ask no host.

Each problem is one line: file, line, key, what is wrong and what to write instead. Secrets and other
files that are not on this machine are notices: `serve`, `sync` and `plan` need them, `check` does not.

  $ mirrord check --config ./conf.d

Exit code 0 when nothing is wrong, 78 when something is.
""",
    CONFIG,
    JSON,
)

_SCHEMA = command(
    "schema",
    """Print the JSON Schema of a configuration file, with which editors complete keys and mark mistakes.

It has the keys of all kinds that are installed. Editors with a YAML language server read it where a file begins with
`# yaml-language-server: $schema=FILE`.

  $ mirrord schema > mirrord.schema.json

Exit code 0.
""",
)

_COMPLETION = command(
    "completion",
    """Print the script with which a shell completes commands, options and names of mirrors.

For bash, in ~/.bashrc (for zsh, in ~/.zshrc, with zsh instead of bash):

  eval "$(mirrord completion bash)"

For fish, once:

  $ mirrord completion fish > ~/.config/fish/completions/mirrord.fish

Exit code 0.
""",
    click.Argument(
        ["shell"], metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]), help="Which shell: bash, zsh or fish."
    ),
)

SETTING_UP: Final = (_INIT, _CHECK, _SCHEMA, _COMPLETION)
