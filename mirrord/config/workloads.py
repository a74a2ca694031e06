"""Reads files in which programs name images: YAML of any number of documents, and JSON. See `mirrord.names.workloads`.

JSON is reduced while it is read, and YAML document by document, so that a large file needs little more memory than its
text. A document that is wrong costs itself only. Images know where they stand, in characters of the text of the file,
a byte order mark included.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from mirrord.config.files import UnreadableError, text_of
from mirrord.config.foreign import Node, as_written, parse_foreign
from mirrord.errors import ConfigError
from mirrord.names.workloads import ImagePart, NamedImage, Scalar, gather, images_of, joined

MAX_WORKLOADS: Final = 64 << 20
"""Bytes of one file."""
_MARK: Final = re.compile(rb"^(?:(?=---(?:\s|\Z))|\.\.\.(?=\s|\Z))", re.MULTILINE)
_DIRECTIVES: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?:[ \t]*(?:[%#][^\n]*)?(?:\r?\n|\Z))*+")  # above a mark
_DIRECTIVE: Final = re.compile(rb"^(?:\xef\xbb\xbf)?%", re.MULTILINE)
_BLANK: Final = re.compile(r"[ \t\r\n]*")
_WORD: Final = re.compile(r'"[^"\\]*(?:\\(?s:.)[^"\\]*)*(?:"|\\?\Z)|[{}\[\]]|[^\s{}\[\],:"]+')  # of JSON that is right
_LITERALS: Final = ("null", "true", "false")
_BOM: Final = "\ufeff"


@dataclass(frozen=True, slots=True)
class WorkloadDocument:
    """The images of one document, or why it cannot be read: `FILE:LINE: what; what to do`.

    `repeated` is each key that a mapping has twice, with the line of its last.
    """

    images: tuple[NamedImage, ...] = ()
    problem: str = ""
    repeated: tuple[tuple[int, str], ...] = ()


def read_workloads(data: bytes, file: str) -> Iterator[WorkloadDocument]:
    """Yield the documents of a file, in their order."""
    begin = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:3]
    is_template = begin[:2] == b"{{" and begin != b"{{{"
    if len(data) > MAX_WORKLOADS:
        yield WorkloadDocument(problem=f"{file}:1: is longer than {MAX_WORKLOADS >> 20} MiB; split it")
    elif begin[:1] in (b"{", b"[") and not is_template:
        yield from _json(data, file)
    else:
        yield from _yaml(data, file)


def _json(data: bytes, file: str) -> Iterator[WorkloadDocument]:
    try:
        text = text_of(data)
        _check_json(text.removeprefix(_BOM))
    except UnreadableError as error:
        yield WorkloadDocument(problem=f"{file}:{error.line}: {error}")
    except RecursionError:
        yield WorkloadDocument(problem=f"{file}:1: is nested too deep; flatten it")
    except json.JSONDecodeError as error:
        of_yaml = list(_yaml(data, file))  # `{a: b}` is YAML
        wrong = f"{file}:{error.lineno}: is not JSON ({error.msg}); correct it, or render it first"
        yield from of_yaml if not any(one.problem for one in of_yaml) else [WorkloadDocument(problem=wrong)]
    else:
        repeated: list[tuple[int, str]] = []
        for value in _scanned(text, repeated):
            yield WorkloadDocument(tuple(images_of(value)), repeated=tuple(repeated))
            repeated.clear()


def _check_json(text: str) -> None:
    """Raise what `json` says of JSON documents that follow one another, without keeping them."""
    decoder = json.JSONDecoder(object_pairs_hook=lambda _: None, parse_int=len, parse_float=len)
    at = _end_of_blank(text, 0)
    while at < len(text):
        _, at = decoder.raw_decode(text, at)
        at = _end_of_blank(text, at)


def _scanned(text: str, repeated: list[tuple[int, str]]) -> Iterator[Any]:
    """Yield JSON documents that were checked, each mapping reduced; unlike `json` this knows where texts stand."""
    line, counted = 1, 0
    around: list[tuple[str, list[Any]]] = [("", [])]  # each mapping or list that is open, with what is in it
    for found in _WORD.finditer(text):
        word = found[0]
        if word in "{[":
            around.append((word, []))
            continue
        value: Any = None
        if word == "]":
            value = around.pop()[1]
        elif word == "}":
            inner = around.pop()[1]
            keys = [key.text for key in inner[::2]]
            if len(set(keys)) < len(keys):
                line, counted = line + text.count("\n", counted, found.start()), found.start()
                repeated += ((line, key) for key, count in Counter(keys).items() if count > 1)
            value = gather(zip(keys, inner[1::2], strict=True))
        elif word not in (*_LITERALS, _BOM):
            value = Scalar(json.loads(word) if "\\" in word else word.strip('"'), found.start(), found.end())
        begun, values = around[-1]
        if begun == "[" and isinstance(value, ImagePart) and values and isinstance(values[-1], ImagePart):
            values[-1] = ImagePart(joined([values[-1].images, value.images]), None)  # a long list stays a short one
        else:
            values.append(value)
        if len(around) == 1:
            yield around[0][1].pop()


def _end_of_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _yaml(data: bytes, file: str) -> Iterator[WorkloadDocument]:
    """Split before `---` and behind `...`, which no text in YAML may contain, and read each part by itself."""
    starts = [0, *(found.end() for found in _MARK.finditer(data)), len(data)]
    line, before = 1, 0
    above: tuple[int, int, int] | None = None  # where directives begin that are of the next document
    for start, end in pairwise(starts):
        begin, first, ahead = above or (start, line, before)
        part, above = data[start:end], None
        if not _DIRECTIVES.fullmatch(part):
            yield _document(data[begin:end], file, first, ahead)
        elif _DIRECTIVE.search(part):
            above = start, line, before
        line += part.count(b"\n")
        before += len(part.decode(errors="replace"))


def _document(part: bytes, file: str, first: int, before: int) -> WorkloadDocument:
    """Read one document, before which so many lines and characters stand in the file."""
    try:
        text = as_written(part, "")
        found = parse_foreign(text, "")
    except ConfigError as error:
        _, line, what = str(error).split(":", 2)
        template = part.find(b"{{")
        if template >= 0:
            line, what = str(part.count(b"\n", 0, template) + 1), " has a template, {{ }}; render it first"
        return WorkloadDocument(problem=f"{file}:{first + int(line) - 1}:{what}")
    before += len(part.decode()) - len(text)  # the byte order mark
    images = tuple(image for one in found.documents for image in images_of(_reduced(one, before)))
    return WorkloadDocument(images, repeated=tuple((first + line - 1, key) for line, key in found.repeated))


def _reduced(node: Node, before: int) -> Any:
    if isinstance(node.value, dict):
        return gather((key, _reduced(inner, before)) for key, inner in node.value.items())
    if isinstance(node.value, tuple):
        return [_reduced(inner, before) for inner in node.value]
    return None if node.value is None else Scalar(node.value, before + node.start, before + node.end)
