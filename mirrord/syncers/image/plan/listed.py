"""Which tags of which repositories a list of images means. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from mirrord.errors import UsageError
from mirrord.model.choice import Choice
from mirrord.model.origin import ConfigOrigin
from mirrord.names.lists import ListEntry
from mirrord.syncers.image.names import Source
from mirrord.wire.oci.reference import Reference

_EVERY = "*"


@dataclass(slots=True)
class _Lines:
    """All lines about one repository.

    Attributes:
        origin: its first line.
        tags: literals and globs.
        choice: rules; what they match is united, and all else is the same.
    """

    origin: ConfigOrigin
    tags: dict[str, None] = field(default_factory=dict)
    choice: Choice | None = None

    def source(self, repository: str) -> Source:
        """Return what they mean together."""
        if self.choice is None:
            return Source(repository=repository, tags=tuple(self.tags))
        match = (*(self.choice.match or (_EVERY,)), *self.tags) if self.tags else self.choice.match
        return Source(repository=repository, choice=replace(self.choice, match=match))


def listed_in(
    entries: Iterable[ListEntry], file: str, own: Source
) -> tuple[Sequence[tuple[Source, ConfigOrigin]], Sequence[str]]:
    """Return the sources that a list names with their lines, one for each repository and for each digest, and problems.

    Args:
        entries: of the list.
        file: its name, for messages.
        own: the source of the mirror, whose `tags` or `choice` are for lines that have neither tag nor pattern.
    """
    sources: list[tuple[Source, ConfigOrigin]] = []
    problems: list[str] = []
    found: dict[str, _Lines] = {}
    pinned: dict[str, tuple[Reference, ConfigOrigin]] = {}  # with a digest, by the name that they get
    for entry in entries:
        reference, origin = entry.reference, ConfigOrigin(file, entry.line)
        if reference.digest is not None:
            called = f"{reference.name}:{reference.tag}" if reference.tag else str(reference)
            other, line = pinned.setdefault(called, (reference, origin))
            if other != reference:
                problems.append(f"{origin}: {called} has another digest at line {line.line}; remove one of them")
            continue
        lines = found.setdefault(reference.name, _Lines(origin))
        try:
            _add(lines, entry, own)
        except UsageError as error:
            problems.append(f"{origin}: {error}")
    for reference, origin in pinned.values():
        if reference.name in found and reference.tag in found[reference.name].tags:
            called = f"{reference.name}:{reference.tag}"
            problems.append(f"{origin}: {called} is also listed without a digest; remove one of them")
        else:
            sources.append((Source(repository=str(reference)), origin))
    named = ((name, lines) for name, lines in found.items() if lines.tags or lines.choice)
    sources += ((lines.source(name), lines.origin) for name, lines in named)
    return sources, problems


def _add(lines: _Lines, entry: ListEntry, own: Source) -> None:
    """Add what one line means: its own tag or pattern, else the tags or rules of the mirror, else those of the form.

    Raises:
        UsageError: its rules differ from those of an earlier line.
    """
    if entry.reference.tag:
        lines.tags[entry.reference.tag] = None
    elif entry.pattern is None and own.tags:
        lines.tags |= dict.fromkeys(own.tags)
    elif choice := own.choice if entry.pattern is None and own.choice else entry.rule:
        before = lines.choice or choice
        if replace(before, match=()) != replace(choice, match=()):
            raise UsageError(f"{entry.reference.name} has other rules at line {lines.origin.line}; join the two lines")
        both = dict.fromkeys((*before.match, *choice.match))
        lines.choice = replace(choice, match=tuple(both) if before.match and choice.match else ())
    else:
        lines.tags["latest"] = None
