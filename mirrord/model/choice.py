"""Rules for the tags of a repository; `mirrord.plan.choice` carries them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Choice:
    """Which tags are wanted: those that meet every rule that is set.

    A literal in `match`, and a signature that it asks for, is wanted whatever the other rules are, except `exclude`.

    Attributes:
        match: literals, globs and `/regular expressions/` of the whole tag, one of which must match.
        versions: a range as helm reads it, or "".
        newest: only this many tags of each group, or None for all. Variants (`-alpine`) are different groups.
        of: makes a group of each `minor` or `major` version, or "" for none.
        groups: only the newest so many of these groups, of each variant, or None for all; for list files.
        by: what is newest: the highest `version`, or the last `date`.
        prereleases: whether pre-releases and commits are wanted that neither `match` nor `versions` names.
        exclude: like `match`, but none may match.
        min_age: seconds since its date, that of its push or of its image, at least.
        max_age: seconds since its date, at most, or None.
        settled: seconds after its push when a tag is final: what all targets had then is not asked for; for list files.
    """

    match: tuple[str, ...] = ()
    versions: str = ""
    newest: int | None = None
    of: Literal["", "minor", "major"] = ""
    by: Literal["version", "date"] = "version"
    prereleases: bool = False
    exclude: tuple[str, ...] = ()
    min_age: float = 0.0
    max_age: float | None = None
    groups: int | None = None
    settled: float | None = None
