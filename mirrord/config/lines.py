"""Joins the files to one value, and remembers where each part was written and every problem.

`settings`, `names`, `pointing`, `asking` and `webhook` are joined key by key, `hosts`, `targets`, `front`,
`pull_requests` and `notify` name by name, `mirrors` one after the other. A problem is reported as
`file:line: key: what is wrong; what to write`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from mirrord.errors import ConfigError
from mirrord.model.origin import ConfigOrigin
from mirrord.wire.secret import redact

Trail = tuple[str | int, ...]
"""The way to a value from the top: keys of mappings and positions in lists."""

_SECRET_KEY = re.compile(r"pass(word|wd|phrase)?|secret|(identity_?|access_?)?token", re.IGNORECASE)
_PLACES = ("env", "file", "credential")
_WORD = re.compile(r"[^\s'\"]+")
_USER = re.compile(r"(?<![^/@])[^/@:]{1,256}:(?!//)")
_AT = re.compile(r"@(?!sha\d+:)")
# `password:x`, without the blank, is one key.
_RUN_ON = re.compile(rf"((?:{_SECRET_KEY.pattern})[:=]).+", re.DOTALL | re.IGNORECASE)

Value = None | str | list["Value"] | dict[str, "Value"]
"""What a file holds. Scalars stay text: the model that wants a number or a flag reads it as one."""


SECTIONS = (
    "settings", "hosts", "names", "front", "targets", "mirrors", "pointing", "asking", "pull_requests", "webhook",
    "notify",
)  # fmt: skip
_KEYWISE = ("settings", "names", "pointing", "asking", "webhook")
_SHAPES = {
    "settings": "is not a mapping; write keys such as listen: 127.0.0.1:8080",
    "hosts": "is not a mapping; write a host and its keys, such as ghcr.io: {requests: 4}",
    "names": "is not a mapping; write keys such as naming: path",
    "front": "is not a mapping; write a kind and its keys, such as image: {upstreams: [quay.io], allow: [quay.io/*]}",
    "targets": "is not a mapping; write a name and its keys, such as ghcr: {kind: image, to: ghcr.io/team}",
    "mirrors": "is not a list; begin each mirror with a dash, such as - {name: app, kind: image, …}",
    "pointing": "is not a mapping; write keys such as to: [front]",
    "asking": "is not a mapping; write keys such as to: [local]",
    "pull_requests": "is not a mapping; write a name and its keys, such as app: {forge: github, …}",
    "webhook": "is not a mapping; write keys such as listen: 0.0.0.0:8443",
    "notify": "is not a mapping; write a name and its keys, such as ops: {kind: slack, url: {env: SLACK_URL}}",
}


@dataclass(frozen=True, slots=True)
class ConfigDocument:
    """One file: its sections, and the line of each value."""

    sections: Mapping[str, Value] = field(default_factory=dict)
    origins: Mapping[Trail, ConfigOrigin] = field(default_factory=dict)


def document(value: Value, origins: Mapping[Trail, ConfigOrigin], problems: Problems) -> ConfigDocument:
    """Check the outermost shape of a file; what does not fit is noted and left out."""
    if value is None:
        return ConfigDocument()
    if not isinstance(value, dict):
        problems.add_at(origins[()], f"is not a mapping; write sections: {', '.join(SECTIONS)}")
        return ConfigDocument()
    kept: dict[str, Value] = {}
    for name, section in value.items():
        wanted = list if name == "mirrors" else dict
        if name not in SECTIONS:
            shown = problems.spell((name[:60],))
            problems.add_at(origins[name,], f"{shown}: unknown section; {nearest(name, SECTIONS)}")
        elif section is not None and not isinstance(section, wanted):
            problems.add_at(origins[name,], f"{name}: {_SHAPES[name]}")
        elif section is not None:
            kept[name] = section
    return ConfigDocument(kept, origins)


def join(documents: Iterable[ConfigDocument], problems: Problems) -> Mapping[str, Value]:
    """Join all files to one value, and note in `problems` where each part was written."""
    whole: dict[str, Value] = {}
    for each in documents:
        shift = 0
        for name, section in each.sections.items():
            if isinstance(section, list):
                mirrors = whole.setdefault(name, [])
                assert isinstance(mirrors, list)
                shift = len(mirrors)
                mirrors.extend(section)
            elif isinstance(section, dict):
                into = whole.setdefault(name, {})
                assert isinstance(into, dict)
                _merge(into, section, (name,), each, problems, deep=name in _KEYWISE)
        for trail, origin in each.origins.items():
            if trail[:1] == ("mirrors",) and len(trail) > 1 and isinstance(trail[1], int):
                trail = ("mirrors", trail[1] + shift, *trail[2:])  # noqa: PLW2901 - behind those of the files before
            problems.origins.setdefault(trail, origin)
    return whole


def _merge(
    into: dict[str, Value],
    more: dict[str, Value],
    trail: Trail,
    source: ConfigDocument,
    problems: Problems,
    *,
    deep: bool,
) -> None:
    for key, value in more.items():
        here = (*trail, key)
        there = into.get(key)
        if key not in into:
            into[key] = value
        elif deep and isinstance(there, dict) and isinstance(value, dict):
            _merge(there, value, here, source, problems, deep=True)
        else:
            what = f"{problems.spell(here)}: is also written at {problems.origin(here)}; keep one of them"
            problems.add_at(source.origins[here], what)


def nearest(word: str, known: Mapping[str, object] | set[str] | tuple[str, ...]) -> str:
    """Return what to write instead of an unknown word: the most similar known one, or all of them."""
    folded = {one.lower(): one for one in sorted(known)}
    if close := get_close_matches(word[:80].lower(), folded, n=1, cutoff=0.6):
        return f"did you mean {folded[close[0]]!r}?"
    return f"use one of: {', '.join(sorted(known))}" if known else "no key is allowed here"


def _masked(word: re.Match[str]) -> str:
    """Return a word with `***` for the `user:password` before its last `@`: a password may hold any character."""
    text = word[0]
    ats = [at.start() for at in _AT.finditer(text)]
    user = _USER.search(text, 0, ats[-1]) if ats else None
    return f"{text[: user.start()]}***@{text[ats[-1] + 1 :]}" if user else text


def _shown(part: str | int, above: Trail) -> str | int:
    """Return a part of a trail as it may be shown: a key below `password` and the like may be a secret itself."""
    if isinstance(part, int):
        return part
    # The first two parts are a section and a name that somebody chose: a target may be called `token`.
    below = any(isinstance(key, str) and _SECRET_KEY.fullmatch(key) for key in above[2:])
    if below and part not in _PLACES:
        return "***"
    user, at, rest = part.rpartition("@")
    return _RUN_ON.sub(r"\1***", f"***@{rest}" if at and user else part)


@dataclass(slots=True)
class Problems:
    """Collects all problems, so that one run reports them all."""

    origins: dict[Trail, ConfigOrigin] = field(default_factory=dict)  # where each value was written
    # how to spell a position that has a better name (`mirrors[3]` is `mirrors.craned`)
    names: dict[Trail, str] = field(default_factory=dict)
    partial: bool = False  # a file could not be read at all, so what seems undefined may be defined there
    absent: list[tuple[Trail, str]] = field(default_factory=list)  # what is not on this machine, and where it is named
    _found: list[tuple[ConfigOrigin, str]] = field(default_factory=list)

    def origin(self, trail: Trail) -> ConfigOrigin:
        """Return where the value was written, or the closest thing around it that was."""
        for length in range(len(trail), 0, -1):
            if found := self.origins.get(trail[:length]):
                return found
        return ConfigOrigin("configuration")

    def places(self, trail: Trail) -> Mapping[str, ConfigOrigin]:
        """Return where the values below `trail` were written, by what people call them: `front.image.allow[0]`."""
        below = {found: origin for found, origin in self.origins.items() if found[: len(trail)] == trail}
        return {self.spell(found): origin for found, origin in below.items()}

    def spell(self, trail: Trail) -> str:
        """Write the trail as people do, `mirrors.craned.to[0]`, without what may be a secret."""
        text = ""
        for length, part in enumerate(trail, start=1):
            name = _shown(self.names.get(trail[:length], part), trail[: length - 1])
            text += f"[{name}]" if isinstance(name, int) else f".{name}" if text else name
        return text

    def add(self, trail: Trail, what: str) -> None:
        """Note what is wrong with the value at `trail`."""
        self._found.append((self.origin(trail), f"{self.spell(trail)}: {what}"))

    def add_below(self, trail: Trail, name: str, what: str) -> None:
        """Note what a syncer says about the entry at `trail`, `file:line: mirrors.NAME.from: …`, at that key's line."""
        bare = what.removeprefix(f"{self.origin(trail)}: ")
        key, _, rest = bare.removeprefix(f"{trail[0]}.{name}.").partition(": ")
        below = bare.startswith(f"{trail[0]}.{name}.")
        self.add((*trail, *key.split(".")) if below else trail, rest if below else bare)

    def add_at(self, origin: ConfigOrigin, what: str) -> None:
        """Note what is wrong with a file or a line that cannot be read."""
        self._found.append((origin, what))

    def lack(self, trail: Trail, what: str) -> None:
        """Note that what the value at `trail` names is not on this machine."""
        self.absent.append((trail, what))

    def take(self, other: Problems) -> None:
        """Take over what was found elsewhere, in a file of its own."""
        self._found += other._found

    def count(self) -> int:
        """Return how many were found so far."""
        return len(self._found)

    def line(self, trail: Trail, what: str) -> str:
        """Return what is to be reported about the value at `trail`, in one line without secrets."""
        return _line(self.origin(trail), f"{self.spell(trail)}: {what}")

    def settle(self) -> None:
        """End the collection.

        Raises:
            ConfigError: there were problems; one line each, in the order of files and lines.
        """
        if self._found:
            ordered = sorted(self._found, key=lambda found: (found[0].file, found[0].line))
            raise ConfigError(*dict.fromkeys(_line(origin, what) for origin, what in ordered))


def masked(text: str) -> str:
    """Return a text in one line, without what may be a password in it."""
    return " ".join(_WORD.sub(_masked, redact(text)).split())


def _line(origin: ConfigOrigin, what: str) -> str:
    return f"{' '.join(redact(str(origin)).split())}: {masked(what)}"


_FIRST = "*&!%@`|>"  # none of them may begin a text without quotes


def how_to_mend(line: str, column: int, *, nested: bool) -> str:
    """Return how to mend a line of YAML (`nested`: outside of {…} and […]) where the parser stopped; shows no text."""
    if "\t" in line[: len(line) - len(line.lstrip())] or line[column : column + 1] == "\t":
        return "indent with spaces instead of tabs"
    here = line[column : column + 1]
    if begins := next((char for char in here + line[max(column - 1, 0) : column] if char in _FIRST), ""):
        return f"put quotes around text that begins with {begins}, such as '{begins}'"
    if nested and (not line[:column].strip() or line.find(":") == column):
        return "indent all keys of a mapping alike, end each with a colon, and begin each entry of a list with a dash"
    return "correct it; text with { } [ ] , # or ': ' in it needs quotes"
