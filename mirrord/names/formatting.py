"""The one way to write a list of images: sorted by bytes, in canonical spelling, nothing twice. Pure.

Comments stay with the line that they stand above, those behind a line stay behind it. A comment at the top with a
blank line below it is about the file, and stays at the top; a comment below the last line stays at the end. Comments of
a line that is taken out move to the line that makes it needless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mirrord.errors import UsageError
from mirrord.names.allows import AllowEntry, AllowList, Canonical, parse_allow
from mirrord.names.lists import ListForm, ListLine, ListProblem, list_lines, parse_entry


@dataclass(frozen=True, slots=True)
class FormattedList:
    """A list as it should be written.

    Attributes:
        text: the whole file; of a file with problems only what could be read.
        problems: lines that are none.
    """

    text: str
    problems: tuple[ListProblem, ...] = ()


@dataclass(slots=True)
class _Row:
    """The comments of a line that is written."""

    above: list[str]
    behind: str
    moved: dict[str, None] = field(default_factory=dict)  # from lines that this one makes needless

    def take(self, other: _Row) -> None:
        """Take over the comments of another line that this one makes needless."""
        self.moved |= dict.fromkeys(other.above)
        if self.behind and other.behind:
            self.moved[other.behind] = None
        self.behind = self.behind or other.behind

    def comments(self) -> list[str]:
        """Return the lines above it."""
        own = {*self.above, self.behind}
        return [*self.above, *(text for text in self.moved if text not in own)]


@dataclass(slots=True)
class _Parts:
    """A file in parts: comments of its own, and rows by the number of their line."""

    top: list[str] = field(default_factory=list)
    rows: list[tuple[ListLine, _Row]] = field(default_factory=list)
    end: list[str] = field(default_factory=list)


def format_list(text: str, file: str, form: ListForm, canonical: Canonical) -> FormattedList:
    """Return a list in its one form; formatting the result changes nothing.

    Args:
        text: content of the file.
        file: its name, for messages.
        form: what a line looks like.
        canonical: the names that aliases give to registries.

    Raises:
        UsageError: the text is too long.
    """
    parts = _parts(text, file)
    problems: list[ListProblem] = []
    read: list[tuple[str, _Row]] = []
    allows: list[tuple[AllowEntry, _Row]] = []
    for line, row in parts.rows:
        try:
            if form == "allows":
                allows.append((parse_allow(line, canonical), row))
            else:
                entry = parse_entry(line, form)
                read.append((replace(entry, reference=canonical(entry.reference)).text, row))
        except UsageError as error:
            problems.append(ListProblem(file, line.number, str(error)))
    rows = _allowed(allows) if form == "allows" else _once(read)
    return FormattedList(_written(parts, rows), tuple(problems))


def _parts(text: str, file: str) -> _Parts:
    parts, above = _Parts(), list[str]()
    for line in list_lines(text, file):
        if line.content:
            parts.rows.append((line, _Row(above, line.comment)))
            above = []
        elif line.comment:
            above.append(line.comment)
        elif above and not parts.rows and not parts.top:
            parts.top, above = above, []
    parts.end = above
    return parts


def _once(read: Sequence[tuple[str, _Row]]) -> Mapping[str, _Row]:
    rows: dict[str, _Row] = {}
    for text, row in read:
        if rows.setdefault(text, row) is not row:
            rows[text].take(row)
    return rows


def _allowed(read: Sequence[tuple[AllowEntry, _Row]]) -> Mapping[str, _Row]:
    coverage = AllowList(entry for entry, _ in read)
    over = {id(row): coverage.needless(entry) for entry, row in read}
    rows = {entry.text: row for entry, row in read if over[id(row)] is None}
    for _, row in read:
        found = over[id(row)]
        while found is not None:  # the one that covers may be covered itself
            last, found = found, coverage.needless(found)
            if found is None:
                rows[last.text].take(row)
    return rows


def _written(parts: _Parts, rows: Mapping[str, _Row]) -> str:
    lines = [*parts.top, *([""] if parts.top and (rows or parts.end) else [])]
    for text, row in sorted(rows.items(), key=lambda pair: pair[0].encode()):
        lines += [*row.comments(), f"{text} {row.behind}".rstrip()]
    lines += parts.end
    return "".join(f"{line}\n" for line in lines)
