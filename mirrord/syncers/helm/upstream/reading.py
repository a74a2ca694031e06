"""Reads the index of a chart repository, entry by entry.

helm rejects a whole index for one bad value in one entry. Here the entry is left out or put right, and named; the
others go on. Whatever comes out of this, written again, is an index that helm takes as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mirrord.errors import ContentError, TooLargeError
from mirrord.model.digest import Digest
from mirrord.plan.semver import valid_version
from mirrord.syncers.helm.names import INDEX, PROVENANCE, ChartVersion, Problem, valid_name
from mirrord.syncers.helm.upstream.index_schema import ENTRY, InvalidEntryError, moment, record, texts, usable, words
from mirrord.syncers.helm.upstream.plain import Plain, Poison
from mirrord.syncers.helm.upstream.yaml_events import IndexDocument, build

LONGEST_FILE = 255  # bytes of a file name, on about every file system
MOST = 1000  # problems of an index that are listed one by one

_TOP = frozenset(("apiVersion", "generated", "entries", "serverInfo", "publicKeys", "annotations"))


@dataclass(frozen=True, slots=True)
class Index:
    """What an index lists, as far as helm would take it.

    Attributes:
        entries: in the order of the file. A version that was listed twice with different digests is here twice: the
            archive will tell which is right.
        problems: what was left out or put right, in the order of the file.
        more: how many more were left out, whose problems are not listed.
        unread: what upstream has, and could not be read this time.
        generated: when it was made, as written, or None.
        public_keys: names of the repository's keys.
        annotations: the index's own.
        context: the path below which the server has its API (`serverInfo.contextPath`), or "".
    """

    entries: tuple[ChartVersion, ...]
    problems: tuple[Problem, ...] = ()
    more: int = 0
    unread: tuple[Problem, ...] = ()
    generated: str | None = None
    public_keys: tuple[str, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    context: str = ""

    @property
    def left_out(self) -> tuple[Problem, ...]:
        """Those of `problems` that cost an entry, or a chart."""
        return tuple(problem for problem in self.problems if problem.left_out)


def read_index(data: bytes) -> Index:
    """Read `index.yaml`, YAML or JSON.

    Raises:
        ContentError: that is no index: empty, a web page, cut off, without `apiVersion`, neither YAML nor JSON.
        TooLargeError: it is made to be too much.
    """
    document = _document(data)
    top = document.value
    if not isinstance(top, dict) or not isinstance(top.get("apiVersion"), str) or not top["apiVersion"]:
        raise ContentError(f"{INDEX} is no index of charts: it has no apiVersion")
    charts = top.get("entries")
    if isinstance(charts, Poison):
        raise ContentError(f"{INDEX}: {charts.what}")
    if not isinstance(charts, dict | None):
        raise ContentError(f"{INDEX} is no index of charts: its entries are no mapping")
    if "generated" not in top and not data.endswith((b"\n", b"}")):
        raise ContentError(f"{INDEX} is cut off: it ends in the middle of a line")
    return _Reading().index(top, charts or {}, more=document.more)


def _document(data: bytes) -> IndexDocument:
    start = data[:256].removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start:
        raise ContentError(f"{INDEX} is empty")
    if start.startswith(b"<"):
        raise ContentError(f"{INDEX} is a web page (HTML or XML), no chart index")
    try:
        return build(data)
    except TooLargeError as error:
        raise TooLargeError(f"{INDEX} {error}") from error
    except ContentError as error:
        raise ContentError(f"{INDEX} {error}") from error


class _Reading:
    """One pass over one index; collects what is wrong."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._where = INDEX
        self._entries: list[ChartVersion] = []
        self._taken: dict[str, int] = {}
        self._more = {True: 0, False: 0}  # by whether an entry was left out

    def index(self, top: Mapping[str, Plain], charts: Mapping[str, Plain], *, more: bool) -> Index:
        for key in top.keys() - _TOP:
            self._note(f"{key[:60]} is no key that helm knows")
        if more:
            self._note("a second document follows, which helm does not read")
        generated = self._top("generated", top) or None
        keys = self._top("publicKeys", top)
        annotations = self._top("annotations", top)
        for key, listed in charts.items():
            self._chart(key, listed)
        server = top.get("serverInfo")
        path = server.get("contextPath") if isinstance(server, dict) else None
        rest = [Problem(INDEX, f"{count} more entries are odd", left) for left, count in self._more.items() if count]
        return Index(
            tuple(self._entries),
            (*self._problems, *rest),
            self._more[True],
            generated=generated if isinstance(generated, str) else None,
            public_keys=tuple(keys) if isinstance(keys, list) else (),
            annotations=tuple(sorted(annotations.items())) if isinstance(annotations, dict) else (),
            context=path if isinstance(path, str) else "",
        )

    def _top(self, key: str, top: Mapping[str, Plain]) -> object:
        value = top.get(key)
        if value is None:
            return None
        try:
            return {"generated": moment, "publicKeys": texts, "annotations": words}[key](key, value, self._note)
        except InvalidEntryError as refused:
            self._note(str(refused))
            return None

    def _chart(self, key: str, listed: Plain) -> None:
        if listed is None:
            return
        if not isinstance(listed, list):
            what = listed.what if isinstance(listed, Poison) else "is no list of versions"
            self._tell(Problem(key[:80], what, left_out=True, chart=key))
            return
        for number, raw in enumerate(listed, 1):
            self._where = _where(key, number, raw)
            before = len(self._problems)
            try:
                self._take(self._entry(key, raw))
            except InvalidEntryError as refused:
                del self._problems[before:]  # what was put right does not matter any more
                self._tell(Problem(self._where, str(refused), left_out=True, **_identity(key, raw)))

    def _entry(self, key: str, raw: Plain) -> ChartVersion:
        entry = record("", raw, self._note, ENTRY)
        name, version = str(entry.get("name", "")), str(entry.get("version", ""))
        if not valid_name(name):
            raise InvalidEntryError(f"name {name[:80]!r} is no name for a chart" if name else "has no name")
        if not valid_version(version):
            raise InvalidEntryError(f"version {version[:80]!r} is no semantic version" if version else "has no version")
        if name != key and not usable(key):
            self._note("is listed under a name that is too long for one, or not printable")
        digest = entry.get("digest")
        urls, created = entry.get("urls"), entry.get("created")
        found = ChartVersion(
            name,
            version,
            Digest(f"sha256:{digest}") if digest else None,
            tuple(urls) if isinstance(urls, list) else (),
            created if isinstance(created, str) else None,
            entry.get("deprecated") is True,
            entry,
            () if name == key or not usable(key) else (key,),
        )
        if len(found.file.encode()) + len(PROVENANCE) > LONGEST_FILE:
            raise InvalidEntryError("name and version are too long for a file name")
        return found

    def _take(self, found: ChartVersion) -> None:
        """Let no two entries claim one file, except to give a version another digest, or another place in the index."""
        number = self._taken.setdefault(found.file, len(self._entries))
        if number == len(self._entries):
            self._entries.append(found)
            return
        first = self._entries[number]
        if (first.name, first.version) != (found.name, found.version):
            raise InvalidEntryError(f"its file {found.file} is also that of {first.name} {first.version}")
        if found.digest != first.digest:
            self._entries.append(found)
        elif set(found.listed) <= set(first.listed):
            self._note("is listed twice")
        else:
            self._entries[number] = replace(first, keys=(*first.listed, *found.listed))

    def _note(self, what: str) -> None:
        self._tell(Problem(self._where, what, left_out=False))

    def _tell(self, problem: Problem) -> None:
        if len(self._problems) < MOST:
            self._problems.append(problem)
        else:
            self._more[problem.left_out] += 1


def _identity(key: str, raw: Plain) -> dict[str, str]:
    """Return which chart and version an entry is of, when it says so."""
    entry = raw if isinstance(raw, dict) else {}
    name, version = entry.get("name", key), entry.get("version")
    return {"chart": name, "version": version} if isinstance(name, str) and isinstance(version, str) else {}


def _where(key: str, number: int, raw: Plain) -> str:
    """Name an entry by what it says about itself, else by its place."""
    version = raw.get("version") if isinstance(raw, dict) else None
    return f"{key[:80]} {version[:80]}" if isinstance(version, str) and version else f"{key[:80]} (number {number})"
