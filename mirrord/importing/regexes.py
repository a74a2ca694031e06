"""Regular expressions of other tools as `/re/`, which matches a whole tag. The syntax is RE2 on both sides."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mirrord.errors import UsageError
from mirrord.patterns import compiled

LONGEST = 1000
_END = re.compile(r"(?<!\\)(?:\\\\)*\$\Z")
# What a glob can say: a name, an escaped character, any text, and a group of names.
_GLOB = re.compile(
    r"\.\*|\.\+|\.(?![*+?{])|(?:[a-z0-9_/-]|\\[./-])(?![*+?{])|\((?:\?:)?(?P<group>[a-z0-9_/|-]+)\)(?![*+?{])|\^|\$"
)
_GLOBS = {".*": "*", ".+": "?*", ".": "?"}
# What may hold a `|` that separates nothing: escapes, quoted text, classes. One without an end is all that is left.
_TOKEN = re.compile(
    r"\\Q(?:.*?\\E|.*)|\\[pP]\{[^}]*+(?:\}|\Z)|\\."
    r"|\[\^?\]?(?:\[:\^?\w++:\]|\\.|[^\]\\])*+(?:\]|\\?\Z)|.",
    re.DOTALL,
)


def searched(text: str) -> str:
    """Return the pattern for a regular expression that is searched anywhere in the tag.

    Raises:
        ValueError: mirrord cannot read it.
    """
    _check(text, text)
    begins, ends = text.startswith("^"), _END.search(text) is not None
    body = text[begins : len(text) - ends]
    if split(text) or "\\Q" in text or body[:1] in ("*", "+", "?", "{"):
        return _whole(f".*(?:{text}).*")
    return _whole(f"{'' if begins else '.*'}{body}{'' if ends else '.*'}")


def framed(text: str) -> str:
    """Return the pattern for `^` + text + `$`, put together without a group, and searched.

    `^` then belongs to the first alternative alone, and `$` to the last: `1|2` means what begins with 1, or ends with
    2. A `^` or `$` that the text has itself changes nothing.

    Raises:
        ValueError: mirrord cannot read it.
    """
    _check(text, f"^{text}$")
    first, *others = _alternatives(text)
    if not others:
        return _whole(first)
    *middle, last = others
    return _whole("|".join([f"{first}.*", *(f".*{part}.*" for part in middle), f".*{last}"]))


def _check(text: str, meant: str) -> None:
    if len(text) > LONGEST:
        raise ValueError(f"has a regular expression of more than {LONGEST} characters; split it")
    if text.rfind("\\Q") > text.rfind("\\E"):
        raise ValueError(f"{text[:60]!r} has a \\Q without \\E; write the text with escapes")
    _whole(meant)


def _whole(text: str) -> str:
    try:
        compiled(text)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return f"/{text}/"


def globs(text: str) -> tuple[str, ...]:
    """Return globs of repositories that mean what `framed` means, where `*` also matches `/`.

    Raises:
        ValueError: there are none.
    """
    _check(text, f"^{text}$")
    first, *others = _alternatives(text)
    if not others:
        return tuple(dict.fromkeys(_globs(first)))
    *middle, last = others
    found = [f"{glob}*" for glob in _globs(first)] + [f"*{glob}" for glob in _globs(last)]
    return tuple(dict.fromkeys([*found, *(f"*{glob}*" for part in middle for glob in _globs(part))]))


def _globs(text: str) -> list[str]:
    """Return the globs for a part without alternatives outside of groups; at most 64."""
    text = text.removeprefix("^").removesuffix("$")
    begun = [""]
    position = 0
    while position < len(text):
        found = _GLOB.match(text, position)
        if not found:
            raise ValueError(f"{text[:60]!r} has no equivalent among globs; list the repositories, with * for any text")
        ends = found["group"].split("|") if found["group"] else [_GLOBS.get(found[0], found[0].lstrip("\\"))]
        begun = [f"{begin}{end}" for begin in begun for end in ends]
        if len(begun) > 64:
            raise ValueError(f"{text[:60]!r} has too many alternatives; list the repositories, with * for any text")
        position = found.end()
    return begun


def split(text: str) -> bool:
    """Whether a text has alternatives outside groups, which `framed` reads in a way that few expect."""
    return len(list(_alternatives(text))) > 1


def _alternatives(text: str) -> Iterator[str]:
    """Yield the parts between every `|` outside of groups and classes."""
    depth, part = 0, ""
    for sign in _TOKEN.findall(text):
        if sign == "|" and not depth:
            yield part
            part = ""
            continue
        depth += (sign == "(") - (sign == ")")
        part += sign
    yield part
