"""Changes the file `settings.denied` by one line, which is checked by reading the result; the rest stays as it is.

The file is replaced in one durable step: after a crash it is the old one, or the new one. Everything here blocks.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from mirrord import failpoints
from mirrord.config.denied import load_denied, parse_denied, read_text
from mirrord.config.lines import Problems
from mirrord.errors import ConfigError
from mirrord.files import storage_errors, write_durably
from mirrord.names.book import NameBook
from mirrord.names.denied import Denied, DeniedEntry

_HEAD: Final = "# What was taken down: it is never mirrored, served or restored. See `mirrord takedown --help`.\n"


def add_entry(file: Path, entry: DeniedEntry, names: NameBook) -> Denied:
    """Write one more entry at the end, and return all.

    Raises:
        ConfigError: the file is wrong as it is, or cannot have a line at its end.
        StorageError: it cannot be written.
    """
    with _alone(file):
        before, text = load_denied(file, names), read_text(file)
        line = line_of(entry)
        if not before.entries:  # an empty list is written otherwise than one with entries
            text = "".join(one for one in text.splitlines(keepends=True) if one.strip() != "[]")
        text = f"{text}\n" if text and not text.endswith("\n") else text or _HEAD
        last = next((one for one in reversed(text.splitlines()) if one.lstrip().startswith("- ")), "")
        indent = last[: len(last) - len(last.lstrip())]
        fresh = f"{text}{indent}{line}\n"
        after = _parsed(fresh, file, names)
        if after is None or _bare(after.entries) != [*_bare(before.entries), *_bare([entry])]:
            raise ConfigError(f"{file}: cannot get a line at its end; write this entry into it by hand: {line}")
        _write(file, fresh)
        return after


def lift_entry(file: Path, entry: DeniedEntry, names: NameBook, now: datetime) -> Denied:
    """Turn the line of an entry into a comment, and return what is left.

    Raises:
        ConfigError: the file is wrong as it is, or the entry has more than its line.
        StorageError: it cannot be written.
    """
    with _alone(file):
        before = load_denied(file, names)
        lines = read_text(file).splitlines(keepends=True)
        place = f"{file}:{entry.line}"
        if entry not in before.entries:
            raise ConfigError(f"{place}: the file has changed meanwhile; try again")
        lines[entry.line - 1] = f"# lifted {now:%Y-%m-%dT%H:%MZ}: {lines[entry.line - 1].lstrip()}"
        fresh = "".join(lines)
        after = _parsed(fresh, file, names)
        if after is None or _bare(after.entries) != _bare(one for one in before.entries if one != entry):
            raise ConfigError(
                f"{place}: the entry has more than this line; remove it by hand, then run `mirrord reload`"
            )
        _write(file, fresh)
        return after


def line_of(entry: DeniedEntry) -> str:
    """Return an entry as one line of YAML."""
    keys = {"image": entry.image, "mirror": entry.mirror, "item": entry.item, "digests": [*entry.digests]}
    keys["within"] = [*entry.within]
    pairs = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items() if value]
    reason = json.dumps(entry.reason, ensure_ascii=False)
    return f"- {{{', '.join([*pairs, f'reason: {reason}', *([f'at: {json.dumps(entry.at)}'] if entry.at else [])])}}}"


def _bare(entries: Sequence[DeniedEntry] | Iterator[DeniedEntry]) -> list[DeniedEntry]:
    return [replace(entry, line=0) for entry in entries]


def _parsed(text: str, file: Path, names: NameBook) -> Denied | None:
    problems = Problems()
    found = parse_denied(text, str(file), names, problems)
    return None if problems.count() else found


def _write(file: Path, text: str) -> None:
    with storage_errors(file):
        place = file.resolve()
        mode = place.stat().st_mode & 0o777
    write_durably(place, text.encode(), mode=mode, named=lambda: failpoints.hit("denied.written"))


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Let one process at a time change a file: several daemons may share it."""
    with storage_errors(file):
        handle = os.open(file.resolve().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with storage_errors(file):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
