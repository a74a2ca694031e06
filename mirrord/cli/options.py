"""Options that several commands share, and where they look when nothing is given."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mirrord.errors import ConfigError

FOLDERS = (Path("/etc/mirrord/conf.d"), Path("conf.d"))

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="DIR", help="Folder of YAML files; default /etc/mirrord/conf.d, then ./conf.d."
    ),
]
State = Annotated[
    Path | None, typer.Option(metavar="DIR", help="State directory; default $STATE_DIRECTORY, then ./state.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Mirrors; all when none is named.")]


def config_folder(given: Path | None) -> Path:
    """Return the folder to read.

    Raises:
        ConfigError: it is not there; says where it was looked for.
    """
    for folder in (given,) if given else FOLDERS:
        if folder.is_dir():
            return folder
    looked = str(given) if given else " and ".join(map(str, FOLDERS))
    raise ConfigError(f"no configuration folder at {looked}; make one, or name it with --config")


def state_folder(given: Path | None) -> Path:
    """Return the state directory; systemd may name several, the first is ours."""
    named = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return given or Path(named or "state")
