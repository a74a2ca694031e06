"""`mirrord list fmt`: the one way to write a list of images."""

from __future__ import annotations

import shlex
from itertools import zip_longest
from pathlib import Path
from typing import Final

from mirrord.cli.console import note, say
from mirrord.cli.folders import configuration
from mirrord.cli.in_place import replace_file
from mirrord.config.files import UnreadableError, text_of
from mirrord.errors import ContentError, MissingError, TooLargeError, UsageError
from mirrord.files import read_content
from mirrord.names.book import NameBook
from mirrord.names.formatting import format_list
from mirrord.names.lists import MAX_BYTES, ListForm, form_of
from mirrord.printable import plain
from mirrord.syncer.port import load_syncers

MOVED: Final = NameBook({"k8s.gcr.io": "registry.k8s.io"})
"""Registries that have another name now."""


def read_named(file: Path, cap: int, wanted: str) -> bytes:
    """Return the content of a file that the command line names.

    Raises:
        UsageError: there is none, or it is no file of at most `cap` bytes; then it says what is wanted instead.
    """
    try:
        return read_content(file, cap)
    except MissingError as error:
        raise UsageError(plain(str(error))) from error
    except (ContentError, TooLargeError) as error:
        raise UsageError(plain(f"{error}; give {wanted}")) from error


def read_list(file: Path) -> str:
    """Return the text of a list.

    Raises:
        UsageError: it cannot be read, is too long, or is not UTF-8; names the line.
    """
    return decoded(read_named(file, MAX_BYTES, "a list of images"), str(file))


def decoded(data: bytes, name: str) -> str:
    """Return the text of a list with its byte order mark; UsageError names the line that is not UTF-8."""
    try:
        return text_of(data)
    except UnreadableError as error:
        raise UsageError(plain(f"{name}:{error.line}: {error}")) from error


def list_fmt(files: tuple[Path, ...], *, form: ListForm | None, config: Path | None, check: bool) -> int:
    """Run the command and return its exit code."""
    names = configuration(config, load_syncers()).names if config else MOVED
    results = [_format(file, form or form_of(str(file)), names, check=check) for file in dict.fromkeys(files)]
    return 0 if all(results) else 1


def _format(file: Path, form: ListForm, names: NameBook, *, check: bool) -> bool:
    """Format one file, and return whether it is formatted now."""
    before = read_list(file)
    found = format_list(before, str(file), form, names.canonical)
    for problem in found.problems:
        note(plain(str(problem)))
    if found.problems:
        return False
    if found.text == before:
        return True
    if check:
        pairs = enumerate(zip_longest(before.split("\n"), found.text.split("\n")), 1)
        line = next((number for number, (old, new) in pairs if old != new), 1)
        note(plain(f"{file}:{line}: not formatted; run `mirrord list fmt {shlex.quote(str(file))}`"))
        return False
    replace_file(file, before, found.text)
    say(plain(f"{file}: formatted"))
    return True
