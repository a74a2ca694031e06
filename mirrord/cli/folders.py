"""Where the configuration and the state are, and what the configuration says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mirrord.config.load import Configuration, load_folder
from mirrord.errors import ConfigError
from mirrord.syncer.port import Syncer

FOLDERS = (Path("/etc/mirrord/conf.d"), Path("conf.d"))


def config_folder(given: Path | None) -> Path:
    """Return the folder to read; ConfigError says where it was looked for when there is none."""
    for folder in (given,) if given else FOLDERS:
        if folder.is_dir():
            return folder
    looked = str(given) if given else " and ".join(map(str, FOLDERS))
    raise ConfigError(f"no configuration folder at {looked}; make one, or name it with --config")


def state_folder(given: Path | None) -> Path:
    """Return the state directory; systemd may name several, the first is ours."""
    named = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return given or Path(named or "state")


def configuration(given: Path | None, syncers: Mapping[str, Syncer]) -> Configuration:
    """Read the configuration with these syncers; ConfigError when it is wrong."""
    return load_folder(config_folder(given), syncers, dict(os.environ))
