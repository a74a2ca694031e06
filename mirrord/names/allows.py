"""Allow lists of public mirrors: names of repositories, `prefix/*` for one more segment, `prefix/**` for any. Pure.

A tag or a digest never matters: `ghcr.io/a/b` allows `ghcr.io/a/b@sha256:…`, too. `docker.io/*` means Docker Hub's
official images, which people write without a namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

from mirrord.errors import UsageError
from mirrord.names.lists import ListLine, ListProblem, check_line, parse_lines
from mirrord.wire.host import HUB
from mirrord.wire.oci.reference import Reference, parse_repository

Canonical = Callable[[Reference], Reference]

_ONE, _ANY = "/*", "/**"
_SAMPLE: Final = "/any/any"  # a depth at which no short name is meant
_OFFICIAL: Final = f"{HUB}/library/"


@dataclass(frozen=True, slots=True)
class AllowEntry:
    """One line: a name, and perhaps a wildcard behind it."""

    line: int
    name: str  # `host/path`, or with a wildcard also `host`
    wildcard: str = ""  # "", "/*" or "/**"

    @property
    def text(self) -> str:
        """The line as `mirrord list fmt` writes it."""
        return f"{self.name}{self.wildcard}"


def unchanged(reference: Reference) -> Reference:
    """Return a reference as it is: the aliases of who has none."""
    return reference


def parse_allow(line: ListLine, canonical: Canonical = unchanged) -> AllowEntry:
    """Read one line, with the names that aliases give to registries.

    Raises:
        UsageError: it is none; says what to write instead.
    """
    check_line(line.content)
    wildcard = next((end for end in (_ANY, _ONE) if line.content.endswith(end)), "")
    prefix = line.content.removesuffix(wildcard)
    if "*" in prefix:
        raise UsageError(_misplaced(line.content))
    if not wildcard:
        reference = canonical(_repository(prefix))
        if reference.tag is not None or reference.digest is not None:
            raise UsageError(f"a line names a repository without tag or digest; write {reference.name}")
        return AllowEntry(line.number, reference.name)
    try:
        sample = canonical(Reference.parse(f"{prefix}{_SAMPLE}"))
    except UsageError as error:
        path = prefix.partition("/")[2]
        if path != path.lower():
            raise UsageError(f"a repository is lower case; write {line.content.lower()[:80]}") from error
        raise UsageError(str(error).replace(_SAMPLE, "")) from error
    return AllowEntry(line.number, sample.name.removesuffix(_SAMPLE), wildcard)


def _repository(text: str) -> Reference:
    try:
        return parse_repository(text)
    except UsageError as error:
        raise UsageError(str(error).replace(f"write {text}/NAME", f"write {text}{_ANY}, or {text}/NAME")) from error


def _misplaced(line: str) -> str:
    """Return what is wrong with a line that has a `*` where none can be."""
    shown, (first, _, rest) = line[:80], line.partition("/")
    if set(line) == {"*"}:
        return f"{shown!r} has no registry before the wildcard; write one line for each registry: {HUB}{_ANY}"
    if "/" not in line:
        name = line.replace("*", "")[:80]
        return f"{shown!r}: a wildcard is a whole segment; write {_OFFICIAL}{name}, or {_OFFICIAL[:-1]}{_ONE}"
    if "*" in first:
        return f"{shown!r} has a wildcard in the registry; write one line for each: registry.example.com/{rest[:80]}"
    folder, _, last = line.rpartition("/")
    if "*" in folder:
        before = line.partition("*")[0].rpartition("/")[0]
        return f"{shown!r} has a wildcard before the end; write {before[:80]}{_ANY}, or a line for each repository"
    if last in (".*", ".+", "(.*)", "[^/]*"):
        return f"{shown!r} is a regular expression, and lines have names and wildcards; write {folder[:80]}{_ONE}"
    return f"{shown!r}: a wildcard is a whole segment; write {line.replace('*', '')[:80]}, or {folder[:80]}{_ONE}"


class AllowList:
    """What entries allow, and which of them others make needless; a lookup takes one step a level of the name."""

    def __init__(self, entries: Iterable[AllowEntry] = ()) -> None:
        """Take them in any order; of equal ones the first counts."""
        self._by_text: dict[str, AllowEntry] = {}
        for entry in entries:
            self._by_text.setdefault(entry.text, entry)

    def entries(self) -> Collection[AllowEntry]:
        """Return the entries in the order in which they were given, each once."""
        return self._by_text.values()

    def line(self, reference: Reference) -> AllowEntry | None:
        """Return the entry that allows a reference in canonical form, whatever its tag or digest, or None."""
        return self.named(reference.name)

    def named(self, name: str) -> AllowEntry | None:
        """Return the entry that allows a repository, `host/path` in canonical form, or None."""
        return (self._by_text.get(name) or self._of_name(name)) if self._by_text else None

    def needless(self, entry: AllowEntry) -> AllowEntry | None:
        """Return another entry that allows all that this one does, or None."""
        first = self._by_text[entry.text]
        if first is not entry:
            return first
        if not entry.wildcard:
            return self._of_name(entry.name)
        if entry.wildcard == _ONE and (found := self._by_text.get(f"{entry.name}{_ANY}")):
            return found
        return self._deeper(entry.name)

    def _of_name(self, name: str) -> AllowEntry | None:
        found = self._by_text.get(f"{name.rpartition('/')[0]}{_ONE}") or self._deeper(name)
        return found or (self._by_text.get(f"{HUB}{_ONE}") if name.startswith(_OFFICIAL) and _short(name) else None)

    def _deeper(self, name: str) -> AllowEntry | None:
        """Return the entry for any depth below one of the folders of `name`."""
        parts = name.split("/")
        prefixes = ("/".join(parts[:count]) for count in range(1, len(parts)))
        return next(filter(None, (self._by_text.get(f"{prefix}{_ANY}") for prefix in prefixes)), None)


def _short(name: str) -> bool:
    return name.count("/") == 2


def parse_allows(
    text: str, file: str, canonical: Canonical = unchanged
) -> tuple[tuple[AllowEntry, ...], tuple[ListProblem, ...]]:
    """Read an allow list: its entries, and the problems of lines that were left out.

    Raises:
        UsageError: the text is too long.
    """
    return parse_lines(text, file, lambda line: parse_allow(line, canonical))
