"""Which of the offered names are selected: literals, globs and regular expressions."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Final

from mirrord.errors import UsageError
from mirrord.model.plan import TagVerdict
from mirrord.wire.oci.reference import ABOUT_TAGS

_GLOB = frozenset("*?[")
SIGNATURE: Final = "it is about another image, and copied with that one (signatures.copy)"

_EXAMPLES = 3  # tags in a sentence about a glob that matches none


def is_glob(pattern: str) -> bool:
    """Whether `pattern` can match more than one name."""
    return bool(_GLOB & set(pattern))


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether `name` equals a literal or matches a glob (`*`, `?`, `[…]`; case counts) of `patterns`."""
    return any(name == pattern or _compiled(pattern).match(name) is not None for pattern in patterns)


def meant(names: Sequence[str], every: Collection[str], wrong: str) -> Sequence[str]:
    """Return which of all names are meant, each once. Raises UsageError: a name or a glob means none; it is `wrong`."""
    found: dict[str, None] = {}
    for name in names:
        those = [one for one in every if matches(one, (name,))] if is_glob(name) else [name] if name in every else []
        if not those:
            raise UsageError(f"{name[:200]} {wrong}")
        found |= dict.fromkeys(those)
    return list(found)


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return whether a name equals a literal, or matches a glob or all of a `/regular expression/`.

    Raises:
        UsageError: the regular expression is invalid.
    """
    from mirrord.patterns import as_expression, compiled  # noqa: PLC0415 - a copy starts without it

    expression = as_expression(pattern)
    if expression is not None:
        return compiled(expression).fullmatch
    alone = (pattern,)
    return lambda name: matches(name, alone)


@lru_cache(1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


def unmatched(offered: Sequence[str], patterns: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each glob that selects none of the offered tags."""
    for pattern in filter(is_glob, patterns):
        if not select(offered, (pattern,)):
            named = [tag for tag in offered if not tag.startswith(ABOUT_TAGS)][:_EXAMPLES]
            such = f", such as {', '.join(named)}" if named else ""
            yield f"no tag matches {pattern}; {len(offered)} tags seen{such}"


def select(offered: Iterable[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the offered names that match a glob, in their order, each once.

    Tags of signatures and attestations (`sha256-…`, `sha512-…`) are selected only by a pattern with that prefix:
    they belong to an image and are not versions of it (distribution-spec, Referrers Tag Schema).
    """
    globs = [pattern for pattern in patterns if is_glob(pattern)]
    for_referrers = [pattern for pattern in globs if pattern.startswith(ABOUT_TAGS)]
    return tuple(
        dict.fromkeys(
            name for name in offered if matches(name, for_referrers if name.startswith(ABOUT_TAGS) else globs)
        )
    )


def listed_verdicts(tags: Iterable[str], patterns: Sequence[str]) -> Sequence[TagVerdict]:
    """Say of each tag whether a list of literals and globs selects it, the literals first."""
    literals = [pattern for pattern in patterns if not is_glob(pattern)]
    found = {tag: TagVerdict(tag, chosen=True, why="chosen: named in tags") for tag in literals}
    for tag in tags:
        if tag not in found:
            glob = next((pattern for pattern in patterns if select((tag,), (pattern,))), "")
            signature = tag.startswith(ABOUT_TAGS) and SIGNATURE
            why = f"chosen: matches {glob}" if glob else f"left out: {signature or 'no pattern of tags matches it'}"
            found[tag] = TagVerdict(tag, bool(glob), why)
    return list(found.values())
