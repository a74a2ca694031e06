"""Reads files in which programs name images: YAML of any number of documents, and JSON. See `mirrord.names.workloads`.

JSON is reduced while it is read, and YAML document by document, so that a large file needs little more memory than its
text. A document that is wrong costs itself only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from mirrord.config.files import UnreadableError, text_of
from mirrord.config.foreign import Node, decode, parse_foreign
from mirrord.errors import ConfigError
from mirrord.names.workloads import gather, images_of

MAX_WORKLOADS: Final = 64 << 20
"""Bytes of one file."""
_MARK: Final = re.compile(rb"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_DIRECTIVES: Final = re.compile(rb"(?:[ \t]*(?:[%#][^\n]*)?(?:\r?\n|\Z))*+")  # `%YAML 1.2` stands above a mark
_BLANK: Final = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class WorkloadDocument:
    """The images of one document, or why it cannot be read: `FILE:LINE: what; what to do`."""

    images: tuple[str, ...] = ()
    problem: str = ""


def read_workloads(data: bytes, file: str) -> Iterator[WorkloadDocument]:
    """Yield the documents of a file, in their order."""
    if len(data) > MAX_WORKLOADS:
        yield WorkloadDocument(problem=f"{file}:1: is longer than {MAX_WORKLOADS >> 20} MiB; split it")
    elif data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        yield from _json(data, file)
    else:
        yield from _yaml(data, file)


def _json(data: bytes, file: str) -> Iterator[WorkloadDocument]:
    try:
        documents = list(_decoded(text_of(data).removeprefix("\ufeff")))
    except UnreadableError as error:
        yield WorkloadDocument(problem=f"{file}:{error.line}: {error}")
    except RecursionError:
        yield WorkloadDocument(problem=f"{file}:1: is nested too deep; flatten it")
    except json.JSONDecodeError as error:
        of_yaml = list(_yaml(data, file))  # `{a: b}` is YAML
        wrong = f"{file}:{error.lineno}: is not JSON ({error.msg}); correct it, or render it first"
        yield from of_yaml if not any(one.problem for one in of_yaml) else [WorkloadDocument(problem=wrong)]
    else:
        yield from (WorkloadDocument(tuple(images)) for images in documents)


def _decoded(text: str) -> Iterator[list[str]]:
    """Yield the images of each of the JSON documents that follow one another."""
    decoder = json.JSONDecoder(object_pairs_hook=gather, parse_int=str, parse_float=str, parse_constant=str)
    at = _end_of_blank(text, 0)
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        yield images_of(value)
        at = _end_of_blank(text, at)


def _end_of_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _yaml(data: bytes, file: str) -> Iterator[WorkloadDocument]:
    """Split at the marks between documents, which no text in YAML may contain, and read each part by itself."""
    starts = [0, *(found.start() for found in _MARK.finditer(data)), len(data)]
    line = 1
    for start, end in pairwise(starts):
        part = data[start:end]
        if not _DIRECTIVES.fullmatch(part):
            yield _document(part, file, line)
        line += part.count(b"\n")


def _document(part: bytes, file: str, first: int) -> WorkloadDocument:
    try:
        documents = parse_foreign(decode(part, ""), "").documents
    except ConfigError as error:
        _, line, what = str(error).split(":", 2)
        template = part.find(b"{{")
        if template >= 0:
            line, what = str(part.count(b"\n", 0, template) + 1), " has a template, {{ }}; render it first"
        return WorkloadDocument(problem=f"{file}:{first + int(line) - 1}:{what}")
    return WorkloadDocument(tuple(image for one in documents for image in images_of(_reduced(one))))


def _reduced(node: Node) -> Any:
    if isinstance(node.value, dict):
        return gather((key, _reduced(inner)) for key, inner in node.value.items())
    if isinstance(node.value, tuple):
        return [_reduced(inner) for inner in node.value]
    return node.value
