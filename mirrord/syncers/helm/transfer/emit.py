"""Writes an index: the same charts always become the same bytes, and every helm reads them as they were meant.

YAML has the layout that helm writes: keys sorted, two spaces, lists not indented. A text has quotes unless it can be
nothing but a text. JSON is for helm 3.13 and later, which reads it nine times as fast (helm/helm#12245).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter

from mirrord.plan.semver import Version
from mirrord.syncers.helm.names import CHARTS, ChartVersion, instant
from mirrord.syncers.helm.plan.survey import published

_WORDS = frozenset(
    form
    for word in ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
    for form in (word, word.capitalize(), word.upper())
)
_PLAIN = re.compile(
    r"[A-Za-z/](?:[A-Za-z0-9_./@+()~=&%$;,'<>?!*|-]|:(?=[A-Za-z0-9/])| (?=[A-Za-z0-9(/]))*"
    r"|[0-9]+\.[0-9]+\.[0-9]+(?:[-+][A-Za-z0-9.+-]*)?"  # a version; two points make it no number
    r"|(?=[0-9a-f]*[a-df])[0-9a-f]{64}"  # a digest that is not all digits, nor digits and an `e`
)
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")  # no characters, or line breaks, of YAML
_NOT_LITERAL = re.compile("^\\s|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]|\n[ \t]+(?:\n|$)|\n\n$")
_LINE = re.compile(r"\n(?=[^\n])")


def emit_yaml(
    charts: Iterable[ChartVersion],
    base: str = CHARTS,
    *,
    public_keys: Iterable[str] = (),
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Return an index in canonical YAML.

    Args:
        charts: what it lists; each version once, with the digest of its archive.
        base: what the archives' urls begin with; relative to the index, or absolute.
        public_keys: names of the repository's keys.
        annotations: the index's own.
    """
    yaml = _Yaml()
    before, listed, after = _frame(charts, public_keys, annotations or {})
    parts = [yaml.block(before), b"entries:\n" if listed else b"entries: {}\n"]
    parts += [yaml.block({name: [published(one, base) for one in versions]}, "  ") for name, versions in listed]
    return b"".join((*parts, yaml.block(after)))


def emit_json(
    charts: Iterable[ChartVersion],
    base: str = CHARTS,
    *,
    public_keys: Iterable[str] = (),
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Return an index in JSON without spaces; arguments as for `emit_yaml`."""
    before, listed, after = _frame(charts, public_keys, annotations or {})
    entries = b",".join(_dump({name: [published(one, base) for one in them]})[1:-1] for name, them in listed)
    end = b"}," + _dump(after)[1:] if after else b"}}"
    return b"".join((_dump(before)[:-1], b',"entries":{', entries, end, b"\n"))


def _dump(value: object) -> bytes:
    return _escaped(json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))).encode()


def _escaped(text: str) -> str:
    """Escape, inside quotes, what JSON allows and YAML does not: helm before 3.13 reads JSON as YAML."""
    if text.isascii() and "\x7f" not in text:
        return text
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_Frame = tuple[Mapping[str, object], list[tuple[str, list[ChartVersion]]], Mapping[str, object]]


def _frame(charts: Iterable[ChartVersion], public_keys: Iterable[str], annotations: Mapping[str, str]) -> _Frame:
    """Return an index in the order of its keys: what comes before its entries, these by chart, and what comes after."""
    charts = tuple(charts)
    ordered = sorted(((key, chart) for chart in charts for key in chart.listed), key=itemgetter(0))
    dates = [(when, chart.created) for chart in charts if chart.created and (when := instant(chart.created))]
    before = {"annotations": dict(annotations), "apiVersion": "v1"}
    after = {"generated": max(dates)[1] if dates else None, "publicKeys": list(public_keys)}

    def age(chart: ChartVersion) -> tuple[object, ...]:
        return Version.parse(chart.version).order, chart.created or "", chart.digest or ""

    return (
        {key: value for key, value in before.items() if value},
        [
            (key, sorted((version for _, version in versions), key=age, reverse=True))
            for key, versions in groupby(ordered, key=itemgetter(0))
        ],
        {key: value for key, value in after.items() if value},
    )


class _Scalars(dict[str, str]):
    """Texts as they are written on one line; each is looked at once."""

    def __missing__(self, text: str) -> str:
        plain = _PLAIN.fullmatch(text) is not None and text not in _WORDS
        self[text] = written = text if plain else _escaped(json.dumps(text, ensure_ascii=False))
        return written


class _Yaml:
    """Writes block style; remembers how texts are written."""

    def __init__(self) -> None:
        self._scalars = _Scalars()
        self._literals: dict[tuple[str, str], str] = {}

    def block(self, value: Mapping[str, object], pad: str = "") -> bytes:
        """Return a part as bytes: in the text of the whole, one emoji would cost four bytes a character."""
        return "".join(self._mapping(value, pad)).encode()

    def _mapping(self, value: Mapping[str, object], pad: str) -> list[str]:
        """Return the pieces of a mapping, each of them one line or more."""
        pieces: list[str] = []
        scalars = self._scalars
        for key in sorted(value):
            inner = value[key]
            name = scalars[key]
            if inner.__class__ is str and "\n" not in inner:
                pieces.append(f"{pad}{name}: {scalars[inner]}\n")
            elif isinstance(inner, dict) and inner:
                pieces.append(f"{pad}{name}:\n")
                pieces += self._mapping(inner, pad + "  ")
            elif isinstance(inner, list) and inner:
                pieces.append(f"{pad}{name}:\n")
                pieces += self._list(inner, pad)
            else:
                pieces.append(f"{pad}{name}: {self._leaf(inner, pad)}\n")
        return pieces

    def _list(self, value: list[object], pad: str) -> list[str]:
        pieces: list[str] = []
        below = pad + "  "
        for inner in value:
            if isinstance(inner, dict | list) and inner:
                block = self._mapping(inner, below) if isinstance(inner, dict) else self._list(inner, below)
                block[0] = f"{pad}- {block[0][len(below) :]}"
                pieces += block
            else:
                pieces.append(f"{pad}- {self._leaf(inner, pad)}\n")
        return pieces

    def _leaf(self, value: object, pad: str) -> str:
        if isinstance(value, str):
            return self._literal(value, pad) if "\n" in value else self._scalars[value]
        if isinstance(value, dict | list):
            return "{}" if isinstance(value, dict) else "[]"
        return "true" if value else "false"

    def _literal(self, text: str, pad: str) -> str:
        """Return a text of several lines as a block, or in quotes where a block could be misread."""
        written = self._literals.get((text, pad))
        if written is None:
            written = self._scalars[text]
            if not _NOT_LITERAL.search(text):
                mark = "|" if text.endswith("\n") else "|-"
                written = f"{mark}\n{pad}  " + _LINE.sub(f"\n{pad}  ", text.removesuffix("\n"))
            self._literals[text, pad] = written
        return written
