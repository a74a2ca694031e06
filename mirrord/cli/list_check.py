"""`mirrord list check`: what is wrong with lists of images, for people and for pipelines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Unpack

from mirrord.cli.console import say
from mirrord.cli.existence import Question, absent_images
from mirrord.cli.exits import common_exit_code
from mirrord.cli.hosts import HostOptions, copy_hosts
from mirrord.cli.list_fmt import decoded, read_list
from mirrord.cli.revisions import check_revision, text_before
from mirrord.daemon import loop
from mirrord.errors import UsageError
from mirrord.names.allows import AllowList, parse_allows
from mirrord.names.lists import MAX_BYTES, ListForm, ListProblem, form_of, list_lines, parse_list
from mirrord.patterns import compiled
from mirrord.printable import plain
from mirrord.wire.host import HostBook
from mirrord.wire.oci.reference import Reference

_DATA: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"})


@dataclass(frozen=True, slots=True)
class _Checked:
    """One list: what is wrong with its lines, and what a registry can be asked."""

    file: str
    text: str
    problems: tuple[ListProblem, ...]
    questions: tuple[Question, ...]


def list_check(
    files: tuple[Path, ...],
    *,
    form: ListForm | None,
    shape: str,
    exists: bool,
    since: str | None,
    **options: Unpack[HostOptions],
) -> int:
    """Run the command and return its exit code."""
    if not exists and (idle := next((name for name, typed in options.items() if typed), None)):
        raise UsageError(f"--{idle.replace('_', '-')} needs --exists: without it no registry is asked")
    if since is not None:
        check_revision(since)
    lists = [_checked(file, form or form_of(str(file))) for file in dict.fromkeys(files)]
    hosts = sorted({one.reference.domain for checked in lists for one in checked.questions}) if exists else []
    book = copy_hosts(hosts, os.environ, **options) if exists else None
    problems, codes, asked = loop.run(_found(lists, since, book), plain=True)
    for problem in problems:
        say(_annotation(problem) if shape == "github" else plain(str(problem)))
    if not problems:
        counted = "1 image" if asked == 1 else f"{asked} images"
        say(f"{counted}, {'all there' if exists else 'no problem'}")
        return 0
    return common_exit_code(codes) if all(codes) else 1


async def _found(
    lists: Sequence[_Checked], since: str | None, book: HostBook | None
) -> tuple[list[ListProblem], list[str], int]:
    """Return the problems by file and line, for each the code of the error that is its reason, and how many images."""
    problems: list[tuple[ListProblem, str]] = []
    questions: list[Question] = []
    for checked in lists:
        fresh = None if since is None else await _fresh(checked, since)
        problems += [(one, "") for one in checked.problems if fresh is None or one.line in fresh]
        questions += [one for one in checked.questions if fresh is None or one.line in fresh]
    for absence in await absent_images(questions, book) if book is not None and questions else ():
        asked = absence.question
        problems.append((ListProblem(asked.file, asked.line, absence.what), absence.code))
    order = {checked.file: number for number, checked in enumerate(lists)}
    problems.sort(key=lambda found: (order[found[0].file], found[0].line))
    return [problem for problem, _ in problems], [code for _, code in problems], len(questions)


async def _fresh(checked: _Checked, since: str) -> frozenset[int]:
    """Return the numbers of lines that the file did not have, at whatever place, at a revision."""
    before = await text_before(Path(checked.file), since, MAX_BYTES)
    text = "" if before is None else decoded(before, f"{checked.file} at {since}")
    known = {line.content for line in list_lines(text, f"{checked.file} at {since}")}
    lines = list_lines(checked.text, checked.file)
    return frozenset(line.number for line in lines if line.content not in known)


def _checked(file: Path, form: ListForm) -> _Checked:
    text, name = read_list(file), str(file)
    if form == "allows":
        return _Checked(name, text, *_allows(text, name))
    found = parse_list(text, name, form)
    questions = (
        Question(name, one.line, one.reference, compiled(one.pattern) if one.pattern else None) for one in found.entries
    )
    return _Checked(name, text, (*found.problems, *found.repeated), tuple(questions))


def _allows(text: str, name: str) -> tuple[tuple[ListProblem, ...], tuple[Question, ...]]:
    entries, problems = parse_allows(text, name)
    coverage = AllowList(entries)

    def needless() -> Iterator[ListProblem]:
        for entry in entries:
            if over := coverage.needless(entry):
                what = f"{entry.text} is allowed by {over.text} at line {over.line}; remove this line"
                yield ListProblem(name, entry.line, what)

    exact = (Question(name, one.line, Reference.parse(one.name)) for one in entries if not one.wildcard)
    return (*problems, *needless()), tuple(exact)


def _annotation(problem: ListProblem) -> str:
    """Return a workflow command: GitHub shows it beside the line of the change."""
    file, what = problem.file.translate(_PROPERTY), problem.what.translate(_DATA)
    return f"::error file={file},line={problem.line}::{what}"
