"""Reads YAML and JSON that other programs take, with the line of each value: for `mirrord import`.

The second door to YAML. What mirrord refuses in its own files is common in those of others, and is read here: anchors
and aliases, merge keys (`<<`), tags, several documents, keys that are written twice (the last one counts, as for most
programs). Scalars are kept as text, so that the key `on` is no flag. A file is bounded by its bytes, its depth, and
the number of values that it has once aliases are resolved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import yaml  # noqa: TID251 - a door: events only, no objects

from mirrord.config.files import UnreadableError, text_of
from mirrord.errors import ConfigError

MAX_FOREIGN_BYTES = 16 * 2**20
MAX_VALUES = 1_000_000
MAX_DEPTH = 64
_NULLS = ("", "~", "null", "Null", "NULL")
_MERGE = "<<"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it was written.

    Attributes:
        line: 1-based, of its key or its dash.
        value: None for null; else text, a list, or a mapping in the order in which it was written.
        size: the number of values in it, with aliases resolved.
        start: of a text: its first character, counted from 0, with its quotes, and its anchor or tag if it has one.
        end: the character behind it.
    """

    line: int
    value: str | tuple[Node, ...] | dict[str, Node] | None
    size: int = 1
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    @property
    def mapping(self) -> Mapping[str, Node]:
        """Its keys and values; none when it is no mapping."""
        return self.value if isinstance(self.value, dict) else {}

    def text(self, key: str) -> str:
        """Return the text that it has under a key, "" without one."""
        value = self.mapping[key].value if key in self.mapping else None
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class ForeignText:
    """The documents of a file, and its keys that were written twice: line and key."""

    documents: tuple[Node, ...]
    repeated: tuple[tuple[int, str], ...] = ()


def parse_foreign(text: str, file: str) -> ForeignText:
    """Read the text of a file of another program, as `decode` returns it.

    Raises:
        ConfigError: it is not YAML, contains itself, or is too large or too deep; `file:line: what`, without
            any text of the file, which may be a password.
    """
    reader = _Reader(text)
    try:
        documents = tuple(reader.documents())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = min(mark.line, text.count("\n")) + 1 if mark else 1
        raise ConfigError(f"{file}:{line}: is not YAML; correct it") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{file}:1: is not YAML; it has characters that YAML does not allow") from error
    except UnreadableError as error:
        raise ConfigError(f"{file}:{error.line}: {error}") from error
    return ForeignText(documents, tuple(reader.repeated))


def decode(data: bytes, file: str) -> str:
    """Return the text of a file, without a byte order mark and without the `CR` of line ends.

    Raises:
        ConfigError: it is longer than 16 MiB, or is no text in UTF-8.
    """
    return as_written(data, file).replace("\r\n", "\n")


def as_written(data: bytes, file: str) -> str:
    """Return the text of a file without a byte order mark; errors as of `decode`."""
    if len(data) > MAX_FOREIGN_BYTES:
        raise ConfigError(f"{file}:1: is longer than {MAX_FOREIGN_BYTES // 2**20} MiB; split it")
    try:
        text = text_of(data).removeprefix("\ufeff")
    except UnreadableError as error:
        raise ConfigError(f"{file}:{error.line}: {error}") from error
    if "\0" in text:
        raise ConfigError(f"{file}:{text.count(chr(10), 0, text.index(chr(0))) + 1}: is not text; name another file")
    return text


class _Reader:
    """Builds nodes from libyaml's events."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_Loader)
        self._anchors: dict[str | None, Node | None] = {}  # None while the value is being read
        self.repeated: list[tuple[int, str]] = []

    def documents(self) -> Iterator[Node]:
        """Yield the documents of the file."""
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors.clear()
                yield self._node(next(self._events), 0)

    def _node(self, event: yaml.Event, depth: int) -> Node:
        line = _line(event)
        if depth > MAX_DEPTH:
            raise UnreadableError(line, f"is nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, line)
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = None
        node = self._value(event, line, depth)
        if node.size > MAX_VALUES:
            raise UnreadableError(line, f"has more than {MAX_VALUES} values once its aliases are resolved")
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _alias(self, anchor: str | None, line: int) -> Node:
        if anchor not in self._anchors:
            raise UnreadableError(line, "has an alias of an anchor that is not defined before it")
        found = self._anchors[anchor]
        if found is None:
            raise UnreadableError(line, "contains itself: an alias stands inside its own anchor")
        return replace(found, line=line)

    def _value(self, event: yaml.Event, line: int, depth: int) -> Node:
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(line, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(line, depth)
        assert isinstance(event, yaml.ScalarEvent)  # libyaml's grammar leaves nothing else
        start, end = (mark.index if mark else 0 for mark in (event.start_mark, event.end_mark))
        return Node(line, None if not event.style and event.value in _NULLS else str(event.value), 1, start, end)

    def _list(self, line: int, depth: int) -> Node:
        found: list[Node] = []
        size = 1
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            found.append(self._node(event, depth + 1))
            size += found[-1].size
        return Node(line, tuple(found), size)

    def _mapping(self, line: int, depth: int) -> Node:
        found: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            if isinstance(key.value, tuple | dict):
                raise UnreadableError(key.line, "a key is a list or a mapping")
            name = key.value or ""
            value = self._node(next(self._events), depth + 1)
            if name == _MERGE and not getattr(event, "style", None):  # in quotes it is a key like any other
                for one in value.value if isinstance(value.value, tuple) else (value,):
                    merged = {**one.mapping, **merged}
                continue
            if name in found:
                self.repeated.append((key.line, name))
            found[name] = replace(value, line=key.line)
        whole = {**merged, **found}
        return Node(line, whole, 1 + sum(one.size for one in whole.values()))


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None
    return int(event.start_mark.line) + 1
