"""Images that a Dockerfile names: `FROM`, `COPY --from=`, `RUN --mount=…,from=` and `# syntax=`. Pure, linear.

Stages are no images, and neither is `scratch`. Instructions on several lines, comments between these, and
here-documents are read as BuildKit reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from mirrord.names.workloads import NamedImage, Scalar

_DIRECTIVE = re.compile(r"#[ \t]*([A-Za-z]+)[ \t]*=[ \t]*(\S+)")
_BEGIN = re.compile(r"[ \t]*(?:FROM|ARG)[ \t]", re.IGNORECASE)
_WORDS = re.compile(r"\S+")
_HERE = re.compile(r"[0-9]*<<(-?)([\"']?)([^<\"']+)\2")  # a whole word: neither $((1<<x)) nor <<<text is one
_NO_IMAGE: Final = "scratch"
_BOM: Final = "\ufeff"


class _Word(NamedTuple):
    text: str
    start: int


def is_dockerfile(text: str) -> bool:
    """Whether the first line that is no comment begins with FROM or ARG, as in every Dockerfile and in no YAML."""
    for line in text.removeprefix(_BOM).split("\n"):
        if line.strip() and not line.lstrip().startswith("#"):
            return _BEGIN.match(line) is not None
    return False


def named_in_dockerfile(text: str) -> Iterator[NamedImage]:
    """Yield the images of a Dockerfile in their order."""
    escape, syntax = _directives(text)
    if syntax:
        yield syntax
    stages: set[str] = set()
    for words in _instructions(text, escape):
        for word in _named(words):
            name = word.text
            if name.lower() not in stages and name.lower() != _NO_IMAGE and not name.isdecimal():
                yield _image(name, word.start)
        if words[0].text.upper() == "FROM" and len(words) > 2 and words[-2].text.upper() == "AS":
            stages.add(words[-1].text.lower())


def _image(name: str, start: int) -> NamedImage:
    return NamedImage(name, Scalar(name, start, start + len(name)), name)


def _directives(text: str) -> tuple[str, NamedImage | None]:
    """Return what continues a line, and the image of `# syntax=`; both stand above everything else."""
    escape, syntax, at = "\\", None, len(text) - len(text.removeprefix(_BOM))
    for line in text[at:].split("\n"):
        found = _DIRECTIVE.match(line)
        if found is None:
            break
        if found[1].lower() == "escape" and found[2] == "`":
            escape = "`"
        elif found[1].lower() == "syntax":
            syntax = _image(found[2], at + found.start(2))
        at += len(line) + 1
    return escape, syntax


def _instructions(text: str, escape: str) -> Iterator[list[_Word]]:
    """Yield the words of each instruction; the lines of its here-documents are passed over."""
    words: list[_Word] = []
    here: list[tuple[str, str]] = []  # of here-documents that are open: a dash when tabs may lead, and the end
    at = len(text) - len(text.removeprefix(_BOM))
    for line in text[at:].split("\n"):
        start, at = at, at + len(line) + 1
        bare = line.strip()
        if here:
            dash, end_of = here[0]
            if (line.lstrip("\t") if dash else line).rstrip("\r") == end_of:
                del here[0]
            continue
        if bare.startswith("#") or (not bare and words):
            continue
        goes_on = bare.endswith(escape)
        end = len(line.rstrip()) - 1 if goes_on else len(line)
        words += (_Word(found[0], start + found.start()) for found in _WORDS.finditer(line, 0, end))
        if goes_on or not words:
            continue
        yield words
        if _verb(words) in ("RUN", "COPY", "ADD"):
            here = [(found[1], found[3]) for word in words if (found := _HERE.fullmatch(word.text))]
        words = []
    if words:
        yield words


def _verb(words: list[_Word]) -> str:
    verb = words[0].text.upper()
    return words[1].text.upper() if verb == "ONBUILD" and len(words) > 1 else verb


def _named(words: list[_Word]) -> Iterator[_Word]:
    """Yield the words of an instruction, or the parts of them, that may be images."""
    verb = _verb(words)
    rest = words[2:] if words[0].text.upper() == "ONBUILD" else words[1:]
    flags = [*_flags(rest)]
    if verb == "FROM":
        yield from rest[len(flags) : len(flags) + 1]
    for flag in flags:
        option, _, value = flag.text.partition("=")
        if verb in ("COPY", "ADD") and option == "--from" and value:
            yield _Word(value, flag.start + len(option) + 1)
        elif verb == "RUN" and option == "--mount":
            at = flag.start + len(option) + 1
            for part in value.split(","):
                if part.startswith("from=") and len(part) > len("from="):
                    yield _Word(part[len("from=") :], at + len("from="))
                at += len(part) + 1


def _flags(words: list[_Word]) -> Iterator[_Word]:
    for word in words:
        if not word.text.startswith("--"):
            return
        yield word
