"""List files, which mirrord reads as they are."""

from __future__ import annotations

from pathlib import Path

from mirrord.errors import MirrordError
from mirrord.importing.draft import Draft
from mirrord.importing.values import Keys, OtherMirror
from mirrord.model.origin import ConfigOrigin
from mirrord.names.lists import ListForm, form_of, list_lines, parse_list

_REGEX = frozenset("*+?()[]^$|\\")


def lines_of(text: str, file: str) -> list[tuple[int, str]]:
    """Return the lines that are not comments, with their numbers.

    Raises:
        UsageError: the text is too long.
    """
    return [(line.number, line.content) for line in list_lines(text, file) if line.content]


def fits(text: str, file: str) -> bool:
    """Whether a text is a list: one word a line, which is the name of an image.

    A `*.txt` is no configuration of another tool: there half of the lines suffices, and the others are reported.
    """
    try:
        lines = [line for _, line in lines_of(text, file)]
    except MirrordError:
        return False
    words = [line for line in lines if line[:1].isalnum() and not line.endswith(":") and len(line.split()) == 1]
    if file.endswith(".txt"):
        return 0 < len(lines) <= 2 * len(words)
    return 0 < len(lines) == len(words) and any("/" in line or ":" in line for line in lines)


def read(text: str, file: str, draft: Draft) -> None:
    """Add a list to the draft as it is; lines that mirrord cannot read are reported."""
    form = _form(text, file)
    found, origin = parse_list(text, file, form), ConfigOrigin(file, 1)
    for problem in found.problems:
        draft.report.lose(ConfigOrigin(problem.file, problem.line), "", problem.what)
    if not found.entries:
        return
    named: Keys = {} if form == form_of(file) else {"form": form}
    keys = {"kind": "image", "from": {"list": str(Path(file).absolute()), **named}}
    to = draft.options.to
    where = {f"{to}-list": {"kind": "image", "to": to}} if to else {}
    if not to:
        draft.report.tell(origin, "", "without --to HOST/PATH the images go to the store of mirrord, which serves them")
    draft.many(OtherMirror(origin, Path(file).stem, keys, where))


def _form(text: str, file: str) -> ListForm:
    """Return the form that the name of the file says, or that of patterns, when there are some."""
    form = form_of(file)
    last = [line.rpartition("/")[2].partition(":")[2] for _, line in lines_of(text, file)]
    return "patterns" if form == "tags" and any(_REGEX & set(tag) for tag in last) else form
