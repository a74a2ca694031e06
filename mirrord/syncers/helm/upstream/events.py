"""From the bytes of an index to plain data: texts, lists and mappings, and nothing that could surprise.

YAML is built from libyaml's events, not by PyYAML's constructors: in a seventh of their time and memory, with every
scalar as the text that was written. What an index has no use for never becomes an object: an alias, a tag, the value
of a key that is written twice. A `Poison` lies in its place, so that one bad entry costs itself and not the index.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import yaml  # noqa: TID251 - the second door: configuration and indexes are read by different rules

from mirrord.errors import ContentError, TooLargeError

MAX_DEPTH = 64
MAX_VALUES = 4_000_000  # grafana's index has 0.2 million in 4 MB

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_FLAGS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_NUMBER = re.compile(
    r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?)"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_SHARED = 48  # characters: shorter texts come again and again
_BEGINNINGS = (b",", b"[", b"{", b"\n", b"- ")  # no value, in YAML or JSON, without one of these before it


class Odd(str):
    """A text that was written without quotes and that YAML, or helm, takes for a number or a flag: `1.10`, `yes`."""

    __slots__ = ()

    @property
    def flag(self) -> bool | None:
        """The flag that it is, or None when it is a number."""
        return _FLAGS.get(self)


@dataclass(frozen=True, slots=True)
class Poison:
    """Lies where something was written that is not taken.

    Attributes:
        what: one clause, with the line where there is one.
    """

    what: str


Plain = str | bool | None | Poison | list["Plain"] | dict[str, "Plain"]


@dataclass(frozen=True, slots=True)
class Document:
    """One document.

    Attributes:
        value: what it holds.
        more: whether more follows that helm, too, does not read.
    """

    value: Plain
    more: bool = False


def build(data: bytes) -> Document:
    """Turn JSON (when it begins with `{`) or YAML into plain data.

    Raises:
        ContentError: neither JSON nor YAML, or nested more than 64 levels deep.
        TooLargeError: more than 4 million values.
    """
    if sum(map(data.count, _BEGINNINGS)) > MAX_VALUES:
        raise TooLargeError(f"has more than {MAX_VALUES} values")
    data = data.removeprefix(codecs.BOM_UTF8)
    if not data.lstrip().startswith(b"{"):
        return _from_yaml(data)
    try:
        return _from_json(data)
    except json.JSONDecodeError as error:
        try:  # `{a: b}` is YAML, and helm reads it
            return _from_yaml(data)
        except ContentError:
            raise ContentError(f"is no JSON (line {error.lineno}: {error.msg})") from error


def _from_yaml(data: bytes) -> Document:
    loader = _Loader(data)
    try:
        return _Builder(loader.get_event).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ContentError(f"is no YAML (line {mark.line + 1 if mark else 0}: {error.problem})") from error
    except yaml.YAMLError as error:
        raise ContentError("is no YAML (it holds bytes that are no UTF-8, or control characters)") from error
    except UnicodeDecodeError as error:
        raise ContentError(f"is no YAML (byte {error.start} is no UTF-8)") from error
    finally:
        loader.dispose()


class _Texts(dict[str, str | None]):
    """Remembers what texts without quotes mean, so that each is looked at, and kept, once."""

    def __missing__(self, text: str) -> str | None:
        value: str | None = text
        if text in _NULLS:
            value = None
        elif text in _FLAGS or _NUMBER.fullmatch(text):
            value = Odd(text)
        if len(text) < _SHARED:
            self[text] = value
        return value


class _Builder:
    """Builds values from events; goes one level down by recursion, 64 times at most."""

    def __init__(self, following: Callable[[], yaml.Event]) -> None:
        self._following = following
        self._plain = _Texts()
        self._quoted: dict[str, str] = {}

    def document(self) -> Document:
        self._following()  # the stream starts
        if not isinstance(self._following(), yaml.DocumentStartEvent):
            return Document(None)
        value = self._value(self._following(), 0)
        self._following()  # the document ends
        try:
            return Document(value, more=not isinstance(self._following(), yaml.StreamEndEvent))
        except yaml.YAMLError:
            return Document(value, more=True)

    def _value(self, event: yaml.Event, depth: int) -> Plain:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.AliasEvent):
            return Poison(f"alias *{event.anchor} at line {_line(event)} is not supported")
        if depth >= MAX_DEPTH:
            raise ContentError(f"is nested more than {MAX_DEPTH} levels deep (line {_line(event)})")
        assert isinstance(event, yaml.CollectionStartEvent)  # libyaml's grammar leaves nothing else
        value = self._mapping(depth + 1) if isinstance(event, yaml.MappingStartEvent) else self._list(depth + 1)
        return _tagged(event) if event.tag else value

    def _scalar(self, event: yaml.ScalarEvent) -> Plain:
        if event.tag is not None:
            return _tagged(event)
        text = event.value
        if not event.style:
            return self._plain[text]
        return self._quoted.setdefault(text, text)

    def _mapping(self, depth: int) -> Plain:
        found: dict[str, Plain] = {}
        poison: Poison | None = None
        following, scalar = self._following, self._scalar
        while (event := following()).__class__ is not yaml.MappingEndEvent:
            if event.__class__ is not yaml.ScalarEvent or event.tag is not None or event.value == "<<":
                self._value(event, depth)
                poison = Poison(f"the key at line {_line(event)} is no plain text")
                self._value(following(), depth)
                continue
            key = event.value
            key = self._quoted.setdefault(key, key)
            here, event = event, following()
            value = scalar(event) if event.__class__ is yaml.ScalarEvent else self._value(event, depth)
            found[key] = Poison(f"{key[:40]} is written twice (line {_line(here)})") if key in found else value
        return poison or found

    def _list(self, depth: int) -> Plain:
        found: list[Plain] = []
        while (event := self._following()).__class__ is not yaml.SequenceEndEvent:
            found.append(self._value(event, depth))
        return found


def _tagged(event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> Poison:
    return Poison(f"tag {str(event.tag)[:40]} at line {_line(event)} is not supported")


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None
    return int(event.start_mark.line) + 1


def _from_json(data: bytes) -> Document:
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_pairs,
            parse_int=Odd,
            parse_float=Odd,
            parse_constant=_constant,
        )
    except UnicodeDecodeError as error:
        raise ContentError(f"is no JSON (byte {error.start} is no UTF-8)") from error
    except RecursionError as error:
        raise ContentError(f"is nested more than {MAX_DEPTH} levels deep") from error
    level: list[Plain] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
            if inner.__class__ is dict or inner.__class__ is list
        ]
    if level:
        raise ContentError(f"is nested more than {MAX_DEPTH} levels deep")
    return Document(value)


def _pairs(pairs: list[tuple[str, Plain]]) -> dict[str, Plain]:
    found = dict(pairs)
    if len(found) < len(pairs):
        times = Counter(key for key, _ in pairs)
        found |= {key: Poison(f"{key[:40]} is written twice") for key in found if times[key] > 1}
    return found


def _constant(name: str) -> Plain:
    return Poison(f"{name} is no JSON")
