"""JSON from other machines, accepted only if every reader takes it alike.

What two parsers may understand differently is refused (RFC 8259 §4, §8.1; CVE-2021-41190 is such a
case): duplicate keys, keys that differ from ours only by case (Go's reader takes them), a byte order mark, anything
but UTF-8, numbers that are none, and nesting that nobody needs.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NoReturn

from mirrord.errors import ContentError, TooLargeError

DEPTH = 64
MOST = 1_000_000  # values in one document: in memory, each takes some 100 bytes

# Brackets and commas, and all that comes before them. Possessive, and content with a missing end: a hostile body costs
# one pass, never two, and no copy of it.
_MARKS = re.compile(rb'(?:[^",\[\]{}]++|"(?:[^"\\]++|\\.)*+(?:"|\\?\Z))*+([,\[\]{}]*+)', re.DOTALL)


def read_object(body: bytes, what: str, most: int = MOST) -> Mapping[str, object]:
    """Read `body` as one JSON object of at most so many values; `what` names it in messages.

    Raises:
        ContentError: not a JSON object, or one that parsers read differently.
        TooLargeError: it has more values.
    """
    check_shape(body, what, most)

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise ContentError(f"{what}: refused: key {twice[:80]!a} twice in one object; readers take different ones")
        return found

    def no_number(name: str) -> NoReturn:
        raise ContentError(f"{what}: {name} is not JSON")

    try:
        value = json.loads(body.decode(), object_pairs_hook=unique, parse_constant=no_number)
    except UnicodeDecodeError as error:
        raise ContentError(f"{what}: not UTF-8 at byte {error.start}") from error
    except ValueError as error:
        raise ContentError(f"{what}: not JSON: {error}{_begins(body)}") from error
    if not isinstance(value, dict):
        raise ContentError(f"{what}: not a JSON object{_begins(body)}")
    return value


def check_spelling(value: Mapping[str, object], names: Iterable[str], what: str) -> None:
    """Refuse keys that are one of `names` but for case: Go's JSON reader would take them, ours would not."""
    expected = {name.casefold(): name for name in names}
    for key in value:
        name = expected.get(key.casefold(), key)
        if name != key:
            raise ContentError(
                f"{what}: refused: key {key!a} differs from {name!r} only by case; readers take different ones"
            )


def text(value: object, what: str) -> str:
    """Return `value` as text that can be written out again; a missing value is empty. Raises as `mapping`."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ContentError(f"{what}: not a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ContentError(f"{what}: half a surrogate pair") from error
    return value


def mapping(value: object, what: str) -> Mapping[str, object]:
    """Return `value` as an object; a missing value is empty. Raises ContentError about anything else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ContentError(f"{what}: not an object")
    return value


def sequence(value: object, what: str) -> list[object]:
    """Return `value` as a list; a missing value is empty (Go writes an empty list as null). Raises as `mapping`."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise ContentError(f"{what}: not a list")
    return value


def texts(value: object, what: str) -> Mapping[str, str]:
    """Return `value` as an object of strings, such as annotations; a missing value is empty. Raises as `mapping`."""
    return {text(key, what): text(item, f"{what}: {key[:80]!a}") for key, item in mapping(value, what).items()}


def check_shape(body: bytes, what: str, most: int = MOST) -> None:
    """Refuse JSON that is nested deeper than `DEPTH` or has too many values, before it is parsed.

    Raises:
        ContentError: it is nested too deeply.
        TooLargeError: it has more than `most` values.
    """
    depth = values = 0
    for found in _MARKS.finditer(body):
        for byte in found[1]:
            if byte in b",[{":
                values += 1
            if byte in b"[{":
                depth += 1
            elif byte in b"]}":
                depth -= 1
            if depth > DEPTH:
                raise ContentError(f"{what}: nested more than {DEPTH} deep")
        if values > most:
            raise TooLargeError(f"{what}: more than {most} values in it")


def _begins(body: bytes) -> str:
    """Describe the start of a body that should have been JSON: most often the page of a captive portal."""
    start = body.lstrip()[:16]
    if start.startswith(b"<"):
        return " (it looks like a web page; is this host a registry?)"
    return "" if body else " (it is empty)"
