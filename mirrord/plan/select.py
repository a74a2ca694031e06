"""Which of the offered names are selected: literals and globs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import translate
from functools import lru_cache

_GLOB = frozenset("*?[")
_REFERRER = "sha256-"  # referrers fallback and cosign tags: they belong to a subject and are not versions

_EXAMPLES = 3  # tags in a sentence about a glob that matches none


def is_glob(pattern: str) -> bool:
    """Whether `pattern` can match more than one name."""
    return bool(_GLOB & set(pattern))


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether `name` equals a literal or matches a glob (`*`, `?`, `[…]`; case counts) of `patterns`."""
    return any(name == pattern or _compiled(pattern).match(name) is not None for pattern in patterns)


@lru_cache(1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


def unmatched(offered: Sequence[str], patterns: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each glob that selects none of the offered tags."""
    for pattern in filter(is_glob, patterns):
        if not select(offered, (pattern,)):
            named = [tag for tag in offered if not tag.startswith(_REFERRER)][:_EXAMPLES]
            such = f", such as {', '.join(named)}" if named else ""
            yield f"no tag matches {pattern}; {len(offered)} tags seen{such}"


def select(offered: Iterable[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the offered names that match a glob, in their order, each once.

    Tags of signatures and attestations (`sha256-…`) are selected only by a pattern with that prefix:
    they belong to an image and are not versions of it (distribution-spec, Referrers Tag Schema).
    """
    globs = [pattern for pattern in patterns if is_glob(pattern)]
    for_referrers = [pattern for pattern in globs if pattern.startswith(_REFERRER)]
    return tuple(
        dict.fromkeys(name for name in offered if matches(name, for_referrers if name.startswith(_REFERRER) else globs))
    )
