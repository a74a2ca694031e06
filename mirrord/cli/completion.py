"""`mirrord completion`: what a shell needs to complete the words of a command."""

from __future__ import annotations

import re
from pathlib import Path

from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from mirrord.cli.console import say
from mirrord.cli.grammar import PROGRAM
from mirrord.cli.grammar.words import FOLDERS
from mirrord.config.files import MAX_BYTES, list_folder, read_file
from mirrord.errors import ConfigError

_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
_NAME = re.compile(r"(?<![\w-])name: *[\"']?([a-z0-9][a-z0-9-]{0,62})")


def completion(*, shell: str) -> int:
    """Run the command and return its exit code."""
    # Not by the class's own method: for bash it runs bash, to warn of versions before 4.4.
    say(ShellComplete.source(_SHELLS[shell](PROGRAM, {}, "mirrord", "_MIRRORD_COMPLETE")))
    return 0


def mirror_names(given: Path | None) -> list[str]:
    """Return the names of mirrors in the configuration folder, as far as they can be read.

    A shell waits for it: so files are searched for `name:`, and not read as YAML.
    """
    folder = given or next(filter(Path.is_dir, FOLDERS), None)
    try:
        files, _ = list_folder(folder) if folder else ((), ())
    except ConfigError:
        return []
    return [name for file in files for name in _names(file)]


def _names(file: Path) -> list[str]:
    try:
        text = read_file(file, MAX_BYTES)[0].decode(errors="replace")
    except ValueError:
        return []
    return [name for line in text.splitlines() for name in _NAME.findall(line.partition("#")[0])]
