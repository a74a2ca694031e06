"""Reads `WWW-Authenticate` (RFC 9110 section 11.6.1): several challenges in one header, or in several, or both."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

LONGEST: Final = 16 * 1024
MOST: Final = 16

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's word
_SCHEME = re.compile(rf"[ \t,]*+({_TOKEN})(?:[ \t]++|(?=,)|$)")
_PARAM = re.compile(rf'[ \t,]*+({_TOKEN})[ \t]*+=[ \t]*+(?:([^",=\s][^",\s]*+)|"((?:[^"\\]|\\.)*+)")[ \t]*+(?=,|$)')
_TOKEN68 = re.compile(r"[0-9A-Za-z._~+/-]++=*+[ \t]*+(?=,|$)")
_ESCAPE = re.compile(r"\\(.)")


class Challenge(NamedTuple):
    """One way to authenticate that a server offers.

    Attributes:
        scheme: lower-case (`bearer`, `basic`).
        params: lower-case names; of a repeated name the first value counts.
    """

    scheme: str
    params: Mapping[str, str]


def parse(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Return all challenges in order; what follows a syntax error, and a header beyond `LONGEST`, is dropped.

    Takes time linear in the length of the headers whatever they hold.
    """
    found: list[Challenge] = []
    for header in headers:
        if len(header) <= LONGEST:
            found.extend(_challenges(header))
    return tuple(found[:MOST])


def _challenges(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = 0
    while (scheme := _SCHEME.match(header, position)) and len(found) < MOST:
        params, position = _params(header, scheme.end())
        found.append(Challenge(scheme[1].lower(), params))
    return found


def _params(header: str, position: int) -> tuple[dict[str, str], int]:
    params: dict[str, str] = {}
    while match := _PARAM.match(header, position):
        name, bare, quoted = match.groups()
        params.setdefault(name.lower(), bare if quoted is None else _ESCAPE.sub(r"\1", quoted))
        position = match.end()
    if not params and (match := _TOKEN68.match(header, position)):
        position = match.end()
    return params, position
