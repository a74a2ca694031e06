"""`mirrord import`: a configuration out of that of another tool."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mirrord.cli.console import note, say, say_json
from mirrord.config.files import read_file
from mirrord.config.foreign import MAX_FOREIGN_BYTES
from mirrord.errors import MirrordError, UsageError
from mirrord.files import storage_errors
from mirrord.importing.formats import Imported, import_files
from mirrord.importing.values import Options

PARTLY = 2


def import_(
    *, files: tuple[Path, ...], form: str | None, out: Path | None, to: tuple[str, ...], scoped: bool, json: bool
) -> int:
    """Run the command and return its exit code."""
    if out and out.exists():
        raise UsageError(f"{out}: exists already, and nothing is overwritten; name another file")
    if len(to) > 1:
        raise UsageError(
            "--to names one place; write the others below `targets:`, and add them to `to:` of the mirrors"
        )
    options = Options("".join(to).rstrip("/"), scoped, os.environ)
    found = import_files([(str(file), _content(file)) for file in files], form, options)
    if out and found.text:
        with storage_errors(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            with out.open("x", encoding="utf-8") as target:
                target.write(found.text)
    _show(found, out, json=json)
    if not found.text:
        return MirrordError.exit_code
    return PARTLY if found.lost else 0


def _content(file: Path) -> bytes:
    try:
        return read_file(file, MAX_FOREIGN_BYTES)[0]
    except ValueError as error:
        raise UsageError(f"{file} {error}") from error


def _show(found: Imported, out: Path | None, *, json: bool) -> None:
    if json:
        say_json(
            {
                "formats": found.formats,
                "configuration": found.text,
                "not_converted": found.lost,
                "notices": found.notices,
                "secrets": found.secrets,
            }
        )
        return
    if found.text and not out:
        sys.stdout.write(found.text)
    for line in found.notices:
        note(f"notice: {line}")
    for line in found.lost:
        note(f"not converted: {line}")
    for name, what in found.secrets.items():
        note(f"set {name}: {what}")
    if not found.text:
        note("nothing could be converted, so nothing is written")
    elif out:
        say(f"{out} is written; next: mirrord check --config {out.parent}")
