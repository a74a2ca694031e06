"""Regular expressions of other tools as `/re/`, which matches a whole name. The syntax is RE2 on both sides."""

from __future__ import annotations

import re

from mirrord.errors import UsageError
from mirrord.patterns import alternatives, compiled

LONGEST = 1000
_END = re.compile(r"(?<!\\)(?:\\\\)*\$\Z")


def searched(text: str) -> str:
    """Return the pattern for a regular expression that is searched anywhere in the name.

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
    first, *others = alternatives(text)
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


def split(text: str) -> bool:
    """Whether a text has alternatives outside groups, which `framed` reads in a way that few expect."""
    return len(list(alternatives(text))) > 1
