"""From the bytes of an index to plain data: texts, lists and mappings, and nothing that could surprise.

YAML is built from libyaml's events, not by PyYAML's constructors: in a seventh of their time and memory, with every
scalar as the text that was written. What an index has no use for never becomes an object: a tag, the value of a key
that is written twice. A `Poison` lies in its place, so that one bad entry costs itself and not the index. An alias is
what it stands for, shared and not copied, and counts as if it had been written out.
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
from mirrord.syncers.helm.upstream.plain import FLAGS, MAX_DEPTH, MAX_VALUES, Aliases, Plain, PlainScalar, Poison, merge

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_NUMBER = re.compile(
    r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?)"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_TEXT = "tag:yaml.org,2002:str"
_SHARED = 48  # characters: shorter texts come again and again
_BEGINNINGS = (b",", b"[", b"{", b"\n", b"- ")  # no value, in YAML or JSON, without one of these before it


@dataclass(frozen=True, slots=True)
class IndexDocument:
    """One document."""

    value: Plain  # what it holds
    more: bool = False  # whether more follows that helm, too, does not read


def build(data: bytes, *, strict: bool = True) -> IndexDocument:
    """Turn JSON (when it begins with `{`) or YAML into plain data.

    Args:
        data: the bytes.
        strict: a key that is written twice has no value, as in an index; else the last value counts, as helm reads a
            Chart.yaml.

    Raises:
        ContentError: neither JSON nor YAML, or nested more than 64 levels deep.
        TooLargeError: more than 4 million values, or aliases that stand for that many, or for too much text.
    """
    if sum(map(data.count, _BEGINNINGS)) > MAX_VALUES:
        raise TooLargeError(f"has more than {MAX_VALUES} values")
    data = data.removeprefix(codecs.BOM_UTF8)
    if not data.lstrip().startswith(b"{"):
        return _from_yaml(data, strict=strict)
    try:
        return _from_json(data, strict=strict)
    except json.JSONDecodeError as error:
        try:  # `{a: b}` is YAML, and helm reads it
            return _from_yaml(data, strict=strict)
        except ContentError:
            raise ContentError(f"is no JSON (line {error.lineno}: {error.msg})") from error


def _from_yaml(data: bytes, *, strict: bool) -> IndexDocument:
    loader = _Loader(data)
    try:
        return _Builder(loader.get_event, strict=strict).document()
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
        elif text in FLAGS or _NUMBER.fullmatch(text):
            value = PlainScalar(text)
        if len(text) < _SHARED:
            self[text] = value
        return value


class _Builder:
    """Builds values from events; goes one level down by recursion, 64 times at most."""

    def __init__(self, following: Callable[[], yaml.Event], *, strict: bool) -> None:
        self._following = following
        self._strict = strict
        self._aliases = Aliases()
        self._plain = _Texts()
        self._quoted: dict[str, str] = {}

    def document(self) -> IndexDocument:
        self._following()  # the stream starts
        if not isinstance(self._following(), yaml.DocumentStartEvent):
            return IndexDocument(None)
        value = self._value(self._following(), 0)
        self._following()  # the document ends
        try:
            return IndexDocument(value, more=not isinstance(self._following(), yaml.StreamEndEvent))
        except yaml.YAMLError:
            return IndexDocument(value, more=True)

    def _value(self, event: yaml.Event, depth: int) -> Plain:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.AliasEvent):
            return self._aliases.value(str(event.anchor), depth, _line(event))
        if depth >= MAX_DEPTH:
            raise ContentError(f"is nested more than {MAX_DEPTH} levels deep (line {_line(event)})")
        assert isinstance(event, yaml.CollectionStartEvent)  # libyaml's grammar leaves nothing else
        value = self._mapping(depth + 1) if isinstance(event, yaml.MappingStartEvent) else self._list(depth + 1)
        value = _tagged(event) if event.tag else value
        if event.anchor is not None:
            self._aliases.keep(event.anchor, value)
        return value

    def _scalar(self, event: yaml.ScalarEvent) -> Plain:
        text: str = event.value
        value: Plain
        if event.tag is not None and event.tag != _TEXT:
            value = _tagged(event)
        elif event.style or event.tag:
            value = self._quoted.setdefault(text, text)
        else:
            value = self._plain[text]
        if event.anchor is not None:
            self._aliases.keep(event.anchor, value)
        return value

    def _mapping(self, depth: int) -> Plain:
        found: dict[str, Plain] = {}
        merged: dict[str, Plain] = {}
        poison: Poison | None = None
        following, scalar = self._following, self._scalar
        while (event := following()).__class__ is not yaml.MappingEndEvent:
            if event.__class__ is yaml.ScalarEvent and event.value == "<<" and not event.style:
                poison = merge(merged, self._value(following(), depth), _line(event)) or poison
                continue
            if event.__class__ is not yaml.ScalarEvent or event.tag is not None:
                self._value(event, depth)
                poison = Poison(f"the key at line {_line(event)} is no plain text")
                self._value(following(), depth)
                continue
            key = event.value
            key = self._quoted.setdefault(key, key)
            if event.anchor is not None:
                self._aliases.keep(event.anchor, key)
            here, event = event, following()
            value = scalar(event) if event.__class__ is yaml.ScalarEvent else self._value(event, depth)
            if key in found and self._strict:
                value = Poison(f"{key[:40]} is written twice (line {_line(here)})")
            found[key] = value
        return poison or ({**merged, **found} if merged else found)

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


def _from_json(data: bytes, *, strict: bool) -> IndexDocument:
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_pairs if strict else dict,
            parse_int=PlainScalar,
            parse_float=PlainScalar,
            parse_constant=lambda name: Poison(f"{name} is no JSON"),
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
    return IndexDocument(value)


def _pairs(pairs: list[tuple[str, Plain]]) -> dict[str, Plain]:
    found = dict(pairs)
    if len(found) < len(pairs):
        times = Counter(key for key, _ in pairs)
        found |= {key: Poison(f"{key[:40]} is written twice") for key in found if times[key] > 1}
    return found
