"""Files that list images, one a line, as public mirrors keep them. Pure: reading the file is the caller's.

| form | a line | which tags |
| --- | --- | --- |
| `tags` | `image[:tag][@digest]` | that one; without a tag the reader decides |
| `patterns` | `host/path[:regex]` (DaoCloud's mirror.txt) | those in which the regex is found, else releases |
| `daily` | `image` (nwcdlabs' required-images-daily.txt) | all but alpha, beta and Windows |
| `weekly` | `image` (container-mirror-v2's required-images-weekly.txt) | the newest two minor versions |

Blank lines and lines that begin with `#` are comments; so is the rest of a line from a `#` with a blank before it, in
every form: no tag has a blank, so no regular expression needs one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, Literal, NamedTuple, TypeVar

from mirrord.errors import UsageError
from mirrord.model.choice import Choice
from mirrord.patterns import compiled
from mirrord.wire.oci.reference import Reference, parse_repository

Entry = TypeVar("Entry")
ListForm = Literal["tags", "patterns", "daily", "weekly", "allows"]

MAX_CHARACTERS: Final = 8 << 20
"""Characters of one file; 100 000 references of usual length."""
MAX_BYTES: Final = 4 * MAX_CHARACTERS
"""Bytes of one file: what its characters take at most in UTF-8."""
MAX_LINES: Final = 200_000
MAX_LINE: Final = 4096
"""Characters of one line."""
_BLANK: Final = " \t\r"
_BOM: Final = "\ufeff"


RELEASES: Final = Choice(match=(r"/([a-z]+-)?[a-z]*[0-9]+(\.[0-9]+){1,2}.*/",))
"""Of a line of form `patterns` without a regex: tags with two or three numbers in front, no prereleases."""
DAILY: Final = Choice(
    exclude=("*alpha*", "*beta*", "*windowsservercore*", "*nanoserver*"), prereleases=True, settled=10 * 86400.0
)
WEEKLY: Final = Choice(match=(r"/v?[0-9]+\.[0-9]+(\.[0-9]+)?(-alpine[0-9.]*)?/",), newest=1, of="minor", groups=2)


@dataclass(frozen=True, slots=True)
class ListEntry:
    """One image of a list."""

    line: int
    reference: Reference
    pattern: str | None = None  # of form `patterns`: the regex as it is written; found anywhere in a tag
    rule: Choice | None = None  # which tags are meant; None: the one of `reference`

    @property
    def text(self) -> str:
        """The line as `mirrord list fmt` writes it."""
        return str(self.reference) if self.pattern is None else f"{self.reference}:{self.pattern}"


@dataclass(frozen=True, slots=True)
class ListProblem:
    """What is wrong with a line, and what to write instead."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        """Return `FILE:LINE: what; what to write instead`."""
        return f"{self.file}:{self.line}: {self.what}"


@dataclass(frozen=True, slots=True)
class ImageList:
    """The images of a file in its order, each once."""

    entries: tuple[ListEntry, ...] = ()
    problems: tuple[ListProblem, ...] = ()  # of lines that were left out
    repeated: tuple[ListProblem, ...] = ()  # of lines that an earlier one makes needless; the images are in `entries`


class ListLine(NamedTuple):
    """One line of a file, without its line end."""

    number: int
    content: str  # without comment and surrounding blanks; "" when there is nothing else
    comment: str  # from its `#`; "" when there is none


def form_of(file: str) -> ListForm:
    """Return the form that the name of a file says: `mirror*.txt`, `allows*.txt`, `*-daily.txt`, `*-weekly.txt`."""
    name = PurePath(file).name.lower()
    if name.endswith("-daily.txt"):
        return "daily"
    if name.endswith("-weekly.txt"):
        return "weekly"
    if name.startswith("mirror") and name.endswith(".txt"):
        return "patterns"
    return "allows" if name.startswith("allows") and name.endswith(".txt") else "tags"


def list_lines(text: str, file: str) -> Iterator[ListLine]:
    """Yield the lines of a list, blank ones and comments, too.

    Raises:
        UsageError: the text is too long, or has too many lines.
    """
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"{file}: longer than {MAX_CHARACTERS} characters; split it into several lists")
    lines = text.removeprefix(_BOM).split("\n")
    if len(lines) > MAX_LINES + 1:
        raise UsageError(f"{file}: more than {MAX_LINES} lines; split it into several lists")
    for number, line in enumerate(lines, 1):
        yield ListLine(number, *_parted(line.strip(_BLANK)))


def _parted(line: str) -> tuple[str, str]:
    if line.startswith("#"):
        return "", line
    starts = [at for at in (line.find(f"{blank}#") for blank in " \t") if at >= 0]
    at = min(starts, default=len(line))
    return line[:at].rstrip(_BLANK), line[at + 1 :]


def parse_list(text: str, file: str, form: ListForm) -> ImageList:
    """Read a list; a bad line is a problem and is left out, and the others go on.

    Args:
        text: content of the file.
        file: its name, for messages.
        form: what a line looks like.

    Raises:
        UsageError: the text is too long, or the form is `allows`, which names no images.
    """
    if form == "allows":
        raise UsageError(
            f"{file}: an allow list says what may be pulled; name a list of images, or write another `form:`"
        )
    entries: list[ListEntry] = []
    repeated: list[ListProblem] = []
    first: dict[str, int] = {}
    found, problems = parse_lines(text, file, lambda line: parse_entry(line, form))
    for entry in found:
        earlier = first.setdefault(entry.text, entry.line)
        if earlier == entry.line:
            entries.append(entry)
        else:
            what = f"{entry.text} is listed at line {earlier} already; remove one of them"
            repeated.append(ListProblem(file, entry.line, what))
    return ImageList(tuple(entries), problems, tuple(repeated))


def parse_lines(
    text: str, file: str, parse: Callable[[ListLine], Entry]
) -> tuple[tuple[Entry, ...], tuple[ListProblem, ...]]:
    """Read each line that is no comment; return what they say, and the problems of lines that were left out.

    Raises:
        UsageError: the text is too long.
    """
    entries: list[Entry] = []
    problems: list[ListProblem] = []
    for line in list_lines(text, file):
        try:
            entries += [parse(line)] if line.content else []
        except UsageError as error:
            problems.append(ListProblem(file, line.number, str(error)))
    return tuple(entries), tuple(problems)


def parse_entry(line: ListLine, form: ListForm) -> ListEntry:
    """Read what one line names.

    Raises:
        UsageError: it is not of this form; says what to write instead.
    """
    check_line(line.content)
    if form == "patterns":
        return _with_pattern(line)
    reference = parse_repository(line.content)
    if form == "tags":
        return ListEntry(line.number, reference)
    if reference.tag is not None or reference.digest is not None:
        raise UsageError(f"a list of form {form} has names alone; write {reference.name}")
    return ListEntry(line.number, reference, rule=DAILY if form == "daily" else WEEKLY)


def check_line(content: str) -> None:
    """Refuse what no line of any form may have.

    Raises:
        UsageError: it is too long, or has a blank within.
    """
    if len(content) > MAX_LINE:
        raise UsageError(f"{len(content)} characters are too many for a line; write at most {MAX_LINE}")
    if len(content.split()) > 1:
        raise UsageError("a blank stands between two words; write one image a line, and ` # ` before a comment")


def _with_pattern(line: ListLine) -> ListEntry:
    """Read `host/path[:regex]`: the first `:` after the last `/` parts them, so that a port is no regex."""
    folder, slash, last = line.content.rpartition("/")
    name, colon, pattern = last.partition(":")
    if "@" in line.content:
        raise UsageError("a list of form patterns has no digests; write the image into a list of form tags")
    reference = parse_repository(f"{folder}{slash}{name}")
    if not colon:
        return ListEntry(line.number, reference, rule=RELEASES)
    if not pattern:
        raise UsageError(f"nothing follows the colon; write {reference.name}, or a regular expression behind it")
    compiled(pattern)  # by itself: inside of the rule a stray parenthesis would change what it means
    whole = f".*(?:{pattern}).*"
    compiled(whole)  # bigger
    return ListEntry(line.number, reference, pattern, Choice(match=(f"/{whole}/",), prereleases=True))
