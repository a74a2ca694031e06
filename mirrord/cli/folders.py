"""Finds the configuration and the state, and reads the configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mirrord.cli.grammar.words import FOLDERS, STATE_OF_MACHINE
from mirrord.config.load import Configuration, read_folder
from mirrord.daemon.lock import used
from mirrord.errors import ConfigError
from mirrord.syncer.port import Syncer

_LINE = re.compile(r":[0-9]+: ")  # a problem in a file, unlike one of the folder itself


def config_folder(given: Path | None) -> Path:
    """Return the folder to read; ConfigError names the folders that were tried."""
    if given:
        return given  # reading it reports what is wrong
    for folder in FOLDERS:
        if _is_there(folder):
            return folder
    neither = " nor ".join(map(str, FOLDERS))
    raise ConfigError(f"neither {neither} exists; make one with `mirrord init`, or name the folder with --config")


@contextmanager
def concluded(folder: Path, undone: str) -> Iterator[None]:
    """End the lines of a wrong configuration with a last one that says what was not done, and why."""
    try:
        yield
    except ConfigError as error:
        count = len([one for one in error.problems if _LINE.search(one)])
        if count and not getattr(error, "__notes__", ()):
            error.add_note(f"{undone}: {count} problem{'' if count == 1 else 's'} in {folder}")
        raise


def state_folder(given: Path | None, config: Path | None = None) -> Path:
    """Return the state directory; `config` is the folder that --config named.

    systemd may name several in $STATE_DIRECTORY, the first is ours. With the configuration of the machine, found
    or named, goes the state of the machine, except beside a state that an earlier version began in ./state.
    """
    if given or (named := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]):
        return given or Path(named)
    here = Path("state")
    machines = config == FOLDERS[0] if config else _is_there(FOLDERS[0])
    return STATE_OF_MACHINE if machines and not used(here) else here


def _is_there(folder: Path) -> bool:
    """Return whether a folder exists; one that this user may not look at does, and reading it reports that."""
    try:
        return folder.is_dir()
    except PermissionError:
        return True


def configuration(given: Path | None, syncers: Mapping[str, Syncer]) -> Configuration:
    """Read the configuration, with the secrets that are on this machine; ConfigError when it is wrong."""
    return read_folder(config_folder(given), syncers, dict(os.environ))
