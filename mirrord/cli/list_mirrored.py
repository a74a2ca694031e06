"""`mirrord list mirrored`: what is mirrored where."""

from __future__ import annotations

import sys
from pathlib import Path

from mirrord.cli.ask import ask
from mirrord.commands import GetCatalog
from mirrord.report.catalog import FORMS


def list_mirrored(names: tuple[str, ...], *, config: Path | None, state: Path | None, shape: str) -> int:
    """Run the command and return its exit code."""
    parts = ask(GetCatalog(names), config, state, quiet=True)
    sys.stdout.write(FORMS[shape](entry for part in parts for entry in part.entries))
    return 0
