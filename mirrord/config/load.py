"""The only door to YAML: a folder of files becomes a `Configuration`, or one `ConfigError` with every problem.

The files are joined section by section. Each key may be set only once: a second time, in one file or in two, is an
error that names both places. Scalars are kept as the text that was written; the model that wants a number or a flag
reads it as one. So `no`, `on`, `1.20` and `12:30:45` stay what they look like wherever text is wanted, as in YAML 1.2
and unlike YAML 1.1. Aliases, tags, second documents and more than 64 levels are refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml  # noqa: TID251 - this is the door

from mirrord.config.crossings import add_place
from mirrord.config.files import MAX_BYTES, UnreadableError, list_folder, read_file, text_of
from mirrord.config.front import read_fronts
from mirrord.config.hosts import read_hosts
from mirrord.config.lines import ConfigDocument, Problems, Trail, Value, document, how_to_mend, join
from mirrord.config.mirrors import read_mirrors, read_targets
from mirrord.config.names import read_names
from mirrord.config.needs import (
    Absence,
    absences,
    lacking_logins,
    unread_proxies,
    unused_hosts,
    unused_targets,
    users_of_hosts,
)
from mirrord.config.settings import Settings, read_settings
from mirrord.errors import ConfigError
from mirrord.model.origin import ConfigOrigin
from mirrord.names.book import NameBook
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import FrontRules, Mirror, Target
from mirrord.wire.host import HostBook

MAX_DEPTH = 64
_NULLS = ("", "~", "null", "Null", "NULL")
_BLANK = "\t\r\n"
_NO_TEMPLATE = "variables and templates are not replaced; write {env: NAME} for a secret"
_CITED = re.compile(r"'[^']{2,}'")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything the operator wrote, validated."""

    settings: Settings = field(default_factory=Settings)  # of the program itself
    book: HostBook = field(default_factory=HostBook)  # how to talk to hosts; its keyring is still nobody's
    names: NameBook = field(default_factory=NameBook)  # what names mean
    mirrors: tuple[Mirror, ...] = ()  # in the order in which they were written
    targets: Mapping[str, Target] = field(default_factory=dict)  # by name, without the built-in `local`
    files: tuple[Path, ...] = ()  # what was read, in order
    notices: tuple[str, ...] = ()  # what was skipped or has no effect, one sentence each
    fronts: Mapping[str, FrontRules] = field(default_factory=dict)  # what clients may pull through, by kind
    absent: tuple[Absence, ...] = ()  # what is not on this machine; the credentials of such hosts are missing in `book`

    def require(self, mirrors: Collection[str], undone: str = "nothing was done") -> None:
        """Check that all that these mirrors need is on this machine; without any, that everything is.

        Raises:
            ConfigError: something is not; holds a line for each. Its note says what was not done, and who needs them.
        """
        wanted = frozenset(mirrors)
        needed = [one for one in self.absent if not wanted or one.mirrors is None or one.mirrors & wanted]
        if not needed:
            return
        error = ConfigError(*(one.problem for one in needed))
        users = [one.name for one in self.mirrors if any(one.name in (each.mirrors or ()) for each in needed)]
        by = ", ".join([name for name in users if not wanted or name in wanted])
        missing = "1 secret or file is" if len(needed) == 1 else f"{len(needed)} secrets or files are"
        error.add_note(f"{undone}: {missing} missing{f' (needed by {by})' if by else ''}")
        raise error


def load_folder(folder: Path, syncers: Mapping[str, Syncer], environ: Mapping[str, str]) -> Configuration:
    """Read, join and validate every `*.yaml` of a folder, as the daemon does: all secrets have to be on this machine.

    Arguments and errors as for `read_folder`; what is absent is an error, too.
    """
    return read_folder(folder, syncers, environ, complete=True)


def read_folder(
    folder: Path, syncers: Mapping[str, Syncer], environ: Mapping[str, str], *, complete: bool = False
) -> Configuration:
    """Read, join and validate every `*.yaml` of a folder, whose secrets may be on another machine.

    Args:
        folder: `/etc/mirrord/conf.d` or another.
        syncers: by kind; they validate their own keys.
        environ: for `{env: NAME}`, `$CREDENTIALS_DIRECTORY` and `$MIRRORD_LISTEN`.
        complete: whether secrets and files that are not on this machine are errors.

    Raises:
        ConfigError: something is wrong; has every problem, each as `file:line: key: what; what to write instead`, and
            the notices about files that were skipped.
    """
    files, passed_over = list_folder(folder)
    try:
        return _validated(files, passed_over, syncers, environ, complete=complete)
    except ConfigError as error:
        # A file whose name has another ending may have what is missing; an editor's copies explain nothing.
        error.notices = tuple(notice for notice in passed_over if "; rename it to " in notice)
        raise


def _validated(
    files: tuple[Path, ...],
    passed_over: tuple[str, ...],
    syncers: Mapping[str, Syncer],
    environ: Mapping[str, str],
    *,
    complete: bool,
) -> Configuration:
    problems = Problems()
    whole = join([_read(file, problems) for file in files], problems)
    settings = read_settings(whole.get("settings"), problems, environ)
    before = problems.count()
    book = read_hosts(whole.get("hosts"), problems, environ)
    whole_book = problems.count() == before
    names = read_names(whole.get("names"), problems)
    fronts = read_fronts(whole.get("front"), syncers, names, problems)
    targets = read_targets(whole.get("targets"), syncers, problems)
    mirrors = read_mirrors(whole.get("mirrors"), targets, syncers, settings, problems, names=names)
    # Without a host that is left out, its mirrors would seem to lack its keys.
    ignored = _ignored_keys(mirrors, syncers, book, problems) if whole_book else ()
    for lacking in problems.absent if complete else ():
        problems.add(*lacking)
    problems.settle()
    found = {name: target for name, target in targets.items() if target}
    users = users_of_hosts(mirrors, syncers, fronts)
    unused = unused_hosts(users, targets, whole.get("hosts"), book, problems)
    notices = (*passed_over, *unused, *unused_targets(mirrors, targets, problems), *ignored)
    notices = (*notices, *unread_proxies(users, book, environ), *lacking_logins(fronts, book, problems))
    absent = tuple(absences(users, problems))
    return Configuration(settings, book, names, mirrors, found, files, notices, fronts, absent)


def _ignored_keys(
    mirrors: Sequence[Mirror], syncers: Mapping[str, Syncer], book: HostBook, problems: Problems
) -> tuple[str, ...]:
    """Ask the syncers about keys without effect; each is reported once, whatever the number of mirrors.

    Where mirrors and `hosts:` do not fit together, that is noted.
    """
    ignored: list[str] = []
    wrong: dict[str, tuple[Mirror, str]] = {}  # by its key: mirrors that share a target have one problem there
    trails = {name: trail for trail, name in reversed(problems.names.items())}
    for mirror in mirrors:
        syncer = syncers[mirror.kind]
        try:
            ignored += syncer.ignored_keys(mirror, book) if syncer.ignored_keys else ()
        except ConfigError as error:
            for what in error.problems:
                wrong.setdefault(": ".join(what.split(": ")[:2]), (mirror, what))
    for mirror, what in wrong.values():
        add_place(trails[mirror.name], mirror, what, problems)
    return tuple(dict.fromkeys(ignored))


def _read(file: Path, problems: Problems) -> ConfigDocument:
    """Read one file; when that fails the problem is noted and the file counts as empty."""
    try:
        text = text_of(read_file(file, MAX_BYTES)[0]).removeprefix("\ufeff")
        value, origins = parse_text(text, str(file), problems)
        return document(value, origins, problems)
    except UnreadableError as refused:
        problems.add_at(ConfigOrigin(str(file), refused.line), str(refused))
    except ValueError as error:
        problems.add_at(ConfigOrigin(str(file), 1), str(error))
    problems.partial = True
    return ConfigDocument()


def parse_text(text: str, file: str, problems: Problems) -> tuple[Value, dict[Trail, ConfigOrigin]]:
    """Return a YAML document and where its values are; when it cannot be read that is noted, and it counts as empty."""
    try:
        return _parse(text, file, problems)
    except UnreadableError as refused:
        problems.add_at(ConfigOrigin(file, refused.line), f"{refused}; more may follow once this is mended")
        problems.partial = True
        return None, {}


def _parse(text: str, file: str, problems: Problems) -> tuple[Value, dict[Trail, ConfigOrigin]]:
    lines = text.splitlines()
    try:
        return _Parser(text, file, problems).document()
    except UnreadableError as refused:
        if "{{" in lines[refused.line - 1]:
            raise UnreadableError(refused.line, f"is not YAML; {_NO_TEMPLATE}") from refused
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = min(mark.line + 1, len(lines)) if mark else 0  # the end of the text has no line
        template = line and ("${" in lines[line - 1] or "{{" in lines[line - 1])
        nested = mark is not None and mark.line < line and "flow" not in (error.context or "")
        spot = (lines[line - 1] if line else "", mark.column if mark else 0)
        hint = _NO_TEMPLATE if template else how_to_mend(*spot, nested=nested)
        problem = _CITED.sub("…", error.problem or "")  # the parser may quote a part of a password
        raise UnreadableError(line, f"is not YAML ({problem}); {hint}") from error
    except yaml.YAMLError as error:
        bad = next((position for position, char in enumerate(text) if not char.isprintable() and char not in _BLANK), 0)
        hint = "contains a character that YAML does not allow; write it as an escape inside double quotes"
        raise UnreadableError(text.count("\n", 0, bad) + 1, hint) from error


class _Parser:
    """Builds values from libyaml's events: each event is checked before an object is made of it."""

    def __init__(self, text: str, file: str, problems: Problems) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_Loader)
        self._file = file
        self._problems = problems
        self._origins: dict[Trail, ConfigOrigin] = {(): ConfigOrigin(file, 1)}

    def document(self) -> tuple[Value, dict[Trail, ConfigOrigin]]:
        """Return the only document and the lines of its values.

        Raises:
            UnreadableError: an alias, a tag, a second document, more than 64 levels, a key that is not text.
            yaml.YAMLError: not YAML at all.
        """
        value: Value = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise UnreadableError(
                        _line(event), "a second document starts here; write it into a file of its own"
                    )
                value = self._value(next(self._events), ())
        return value, self._origins

    def _value(self, event: yaml.Event, trail: Trail) -> Value:
        self._allowed(event, trail)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(trail)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(trail)
        scalar = _scalar(event)
        return None if not scalar.style and scalar.value in _NULLS else str(scalar.value)

    def _mapping(self, trail: Trail) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            self._allowed(event, trail)
            if not isinstance(event, yaml.ScalarEvent):
                raise UnreadableError(_line(event), "a key is a list or a mapping; put quotes around it if it is text")
            key = str(_scalar(event).value)
            here = (*trail, key)
            if key in found:
                first = self._origins[here].line
                what = f"{self._problems.spell(here)}: is written twice, first at line {first}; keep one of them"
                self._problems.add_at(ConfigOrigin(self._file, _line(event)), what)
                self._value(next(self._events), (*here, "again"))
            else:
                self._origins[here] = ConfigOrigin(self._file, _line(event))
                found[key] = self._value(next(self._events), here)
        return found

    def _list(self, trail: Trail) -> list[Value]:
        found: list[Value] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            here = (*trail, len(found))
            self._origins[here] = ConfigOrigin(self._file, _line(event))
            found.append(self._value(event, here))
        return found

    def _allowed(self, event: yaml.Event, trail: Trail) -> None:
        """Refuse what turns small files into large or surprising values (PyYAML #235, kubernetes #83253).

        No name is shown: `password: *hunter2` and `password: !hunter2` are passwords without quotes.
        """
        if isinstance(event, yaml.AliasEvent):
            what = "aliases (*name) are not supported; write the value out, in quotes if it begins with *"
            raise UnreadableError(_line(event), what)
        if getattr(event, "tag", None):
            what = "tags (!name) are not supported; remove it, or write the value in quotes if it begins with !"
            raise UnreadableError(_line(event), what)
        if len(trail) >= MAX_DEPTH:
            raise UnreadableError(_line(event), f"is nested more than {MAX_DEPTH} levels deep; write it flatter")


def _scalar(event: yaml.Event) -> yaml.ScalarEvent:
    assert isinstance(event, yaml.ScalarEvent)  # libyaml's grammar leaves nothing else
    return event


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None
    return int(event.start_mark.line) + 1
