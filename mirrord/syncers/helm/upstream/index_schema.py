"""What helm takes as the value of each key of an index, and what of it can be put right.

helm reads an index into typed fields, and one value of another type makes it reject the whole file. Here a text that
lost its quotes gets them back, a key that helm does not know or cannot read is dropped, and both are noted. What has
another shape (a list for a text) is refused: what was meant is unknown, and the reader raises `InvalidEntryError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from mirrord.syncers.helm.names import instant
from mirrord.syncers.helm.upstream.plain import Plain, PlainScalar, Poison

Note = Callable[[str], None]
Reader = Callable[[str, Plain, Note], object]

_ALIAS = re.compile(r"[A-Za-z0-9_-]+")
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
LONGEST_KEY = 316  # characters: what Kubernetes allows for an annotation's
_TYPES = ("application", "library")


class InvalidEntryError(ValueError):
    """An entry, or what it stands for, cannot be taken."""


def text(key: str, value: Plain, note: Note) -> str:
    """Read a text."""
    if value.__class__ is str:
        found = str(value)
    elif isinstance(value, PlainScalar):
        note(f"{key}: {value[:40]} has no quotes")
        found = str(value)
    elif isinstance(value, bool):
        found = "true" if value else "false"
        note(f"{key}: {found} has no quotes")
    elif value is None:
        return ""
    else:
        raise _wrong(key, value, "a text")
    if not found.isascii():
        try:
            found.encode()
        except UnicodeEncodeError as error:
            raise InvalidEntryError(f"{key} holds half a character") from error
    return found


def flag(key: str, value: Plain, note: Note) -> bool:
    """Read `true` or `false`."""
    if isinstance(value, PlainScalar) and value.flag is not None:
        return value.flag
    if isinstance(value, str) and value in ("true", "false"):
        note(f"{key}: {value} has quotes")
        return value == "true"
    if value is None or isinstance(value, bool):
        return bool(value)
    raise _wrong(key, value, "true or false")


def texts(key: str, value: Plain, note: Note) -> list[str]:
    """Read a list of texts."""
    return [text(key, item, note) for item in _items(key, value) if item is not None]


def words(key: str, value: Plain, note: Note) -> dict[str, str]:
    """Read a mapping of texts to texts."""
    found = {}
    for name, item in _mapping(key, value).items():
        if not usable(name):
            note(f"{key} has a key that is too long for one, or not printable")
        elif item is not None:
            found[name] = text(f"{key}.{name}", item, note)
    return found


def moment(key: str, value: Plain, note: Note) -> str:
    """Read RFC 3339; what is no such time is dropped."""
    found = text(key, value, note) if value is not None else ""
    if value is None or instant(found):
        return found
    note(f"{key}: {found[:40]} is no time as 2024-01-31T10:00:00Z")
    return ""


def digest(key: str, value: Plain, note: Note) -> str:
    """Read a SHA-256 as helm writes it, without `sha256:`; what is none is dropped, as helm 4 fails on it."""
    found = text(key, value, note)
    match = _DIGEST.fullmatch(found)
    if found and match is None:
        note(f"{key}: {found[:80]} is no SHA-256")
    return match[1].lower() if match else ""


def chart_type(key: str, value: Plain, note: Note) -> str:
    """Read the type of a chart; for one that it does not know, helm skips the entry."""
    found = text(key, value, note)
    if found and found not in _TYPES:
        raise InvalidEntryError(f"{key} {found[:40]!r} is neither application nor library")
    return found


def alias(key: str, value: Plain, note: Note) -> str:
    """Read the other name of a dependency; for some characters helm skips the entry."""
    found = text(key, value, note)
    if found and not _ALIAS.fullmatch(found):
        raise InvalidEntryError(f"{key} {found[:40]!r} has characters other than letters, digits, _ and -")
    return found


def anything(key: str, value: Plain, note: Note) -> object:
    """Read what helm does not look into: texts, flags, lists and mappings of them."""
    if isinstance(value, list):
        return [anything(key, item, note) for item in value]
    if isinstance(value, dict):
        return {name: anything(key, item, note) for name, item in value.items() if usable(name)}
    return value if isinstance(value, bool) else text(key, value, note)


def freely(key: str, value: Plain, note: Note) -> list[object]:
    """Read a list of what helm does not look into."""
    return [anything(key, item, note) for item in _items(key, value)]


def record(key: str, value: Plain, note: Note, readers: Mapping[str, Reader]) -> dict[str, object]:
    """Read a mapping with known keys; drop the others, and what says nothing."""
    found: dict[str, object] = {}
    for name, item in _mapping(key, value).items():
        reader = readers.get(name)
        if reader is text and item.__class__ is str and item and item.isascii():
            found[name] = item
        elif reader is None:
            note(f"{_at(key, name[:60])} is no key that helm knows")
        elif (taken := reader(_at(key, name), item, note)) not in ("", None, False, [], {}):
            found[name] = taken
    return found


def _records(readers: Mapping[str, Reader]) -> Reader:
    def read(key: str, value: Plain, note: Note) -> list[dict[str, object]]:
        return [record(key, item, note, readers) for item in _items(key, value)]

    return read


def usable(name: str) -> bool:
    """Whether YAML can have `name` as a key on one line (YAML 1.2.2 §7.4.2: at most 1024 characters, escapes too)."""
    return len(name) <= LONGEST_KEY and name.isprintable()


def _items(key: str, value: Plain) -> list[Plain]:
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise _wrong(key, value, "a list")


def _mapping(key: str, value: Plain) -> dict[str, Plain]:
    if isinstance(value, dict):
        return value
    raise _wrong(key, value, "a mapping")


def _wrong(key: str, value: Plain, wanted: str) -> InvalidEntryError:
    if isinstance(value, Poison):
        return InvalidEntryError(f"{key}: {value.what}" if key else value.what)
    kind = {list: "a list", dict: "a mapping", type(None): "empty"}.get(type(value), "a text")
    return InvalidEntryError(f"{key or 'the entry'} is {kind}, not {wanted}")


def _at(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


_MAINTAINER: Mapping[str, Reader] = dict.fromkeys(("name", "email", "url"), text)
_DEPENDENCY: Mapping[str, Reader] = {
    **dict.fromkeys(("name", "version", "repository", "condition"), text),
    "tags": texts,
    "enabled": flag,
    "import-values": freely,
    "alias": alias,
}
ENTRY: Mapping[str, Reader] = {
    **dict.fromkeys(("name", "home", "version", "description", "icon", "apiVersion", "condition", "tags"), text),
    **dict.fromkeys(("appVersion", "kubeVersion", "checksum", "engine", "tillerVersion", "url"), text),
    **dict.fromkeys(("sources", "keywords", "urls"), texts),
    **dict.fromkeys(("deprecated", "removed"), flag),
    "maintainers": _records(_MAINTAINER),
    "dependencies": _records(_DEPENDENCY),
    "annotations": words,
    "type": chart_type,
    "created": moment,
    "digest": digest,
}
"""Every key that an entry may have (helm v4: ChartVersion and Metadata), and how it is read."""
