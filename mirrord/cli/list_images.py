"""`mirrord list images`: a list of what workloads use."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from mirrord.cli.console import note, say
from mirrord.cli.list_fmt import MOVED, read_named
from mirrord.config.lines import masked
from mirrord.config.workloads import MAX_WORKLOADS, WorkloadDocument, read_workloads
from mirrord.errors import UsageError
from mirrord.names.workloads import is_template
from mirrord.wire.oci.reference import Reference

_STDIN = Path("-")


def list_images(*, files: tuple[Path, ...]) -> int:
    """Run the command and return its exit code."""
    named: dict[str, None] = {}
    left_out: dict[str, bool] = {}  # what to say, and whether an image may be missing in the list
    for file in dict.fromkeys(files or (_STDIN,)):
        name = "stdin" if file == _STDIN else str(file)
        for document in read_workloads(_read(file), name):
            for text, problem in _texts(document, name):
                if problem:
                    left_out[problem] = bool(document.problem) or is_template(text)
                else:
                    named[text] = None
    for problem in left_out:
        note(problem)
    for text in sorted(named, key=str.encode):
        say(text)
    return 1 if any(left_out.values()) else 0


def _read(file: Path) -> bytes:
    if file == _STDIN:
        return sys.stdin.buffer.read(MAX_WORKLOADS + 1)
    return read_named(file, MAX_WORKLOADS, "a file of YAML or JSON, or - for standard input")


def _texts(document: WorkloadDocument, file: str) -> Iterator[tuple[str, str]]:
    """Yield the text of each image and why it is left out; "" when it is not."""
    if document.problem:
        yield "", document.problem
    for text in _distinct(image.text for image in document.images):
        try:
            if is_template(text):
                yield text, f"{file}: image {masked(text)[:100]!a} has a template; render it first"
            else:
                yield str(MOVED.canonical(Reference.parse(text))), ""
        except UsageError as error:
            yield text, f"{file}: image {masked(text)[:100]!a} is left out: {error}"


def _distinct(texts: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys(text.strip() for text in texts if not text.startswith("sha256:"))
