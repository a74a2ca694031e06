"""Ranges of versions of other tools, in the words of helm that mirrord reads."""

from __future__ import annotations

import re

from mirrord.plan.semver import Constraint

# Go's Masterminds/semver reads these as versions without a pre-release.
PLAIN_VERSION = "/v?[0-9]+(?:\\.[0-9]+){0,2}/"
ANY_VERSION = "/v?[0-9]+(?:\\.[0-9]+){0,2}(?:-[0-9A-Za-z.-]+)?/"
# regsync reads these as versions: any number of numbers, and any suffix; and these not.
LOOSE_VERSION = "/v?[0-9]+(?:\\.[0-9]+)*(?:-.*)?/"
NOT_LOOSE = "/v|(?:v[^0-9]|[^v0-9]).*|v?(?:[0-9]+\\.)+(?:[^0-9].*)?|v?(?:[0-9]+\\.)*[0-9]+[^0-9.-].*/"
SUFFIXES = (
    "the other tool takes every suffix, also -alpine, for a pre-release below its version; mirrord takes it for that"
    " version, which differs at the ends of the range"
)
_TERM = re.compile(r"(>=|<=|>|<|=|\^|~|)v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(-[0-9A-Za-z.-]+)?")
_PRERELEASE = re.compile(r"\d-[0-9A-Za-z]")


def loose(text: str) -> str:
    """Return a range of regsync: missing numbers are 0, and signs have no meaning beyond these numbers.

    Raises:
        ValueError: it has more than three numbers, or is no such range.
    """
    terms = text.split()
    if not terms:
        raise ValueError("is an empty range")
    return " ".join(map(_term, terms))


def _term(text: str) -> str:
    found = _TERM.fullmatch(text)
    if not found:
        raise ValueError(f"{text[:60]!r} is not a range that mirrord reads; write it as in `>=1.2.0 <2.0.0`")
    major, minor, patch = (int(found[group] or 0) for group in (2, 3, 4))
    low = f"{major}.{minor}.{patch}{found[5] or ''}"
    if found[1] == "~":
        return f">={low} <{major}.{minor + 1}.0"
    if found[1] == "^":
        above = f"{major + 1}.0.0" if major else f"0.{minor + 1}.0" if minor else f"0.0.{patch + 1}"
        return f">={low} <{above}"
    return f"{found[1] or '='}{low}"


def checked(text: str) -> str:
    """Return a range that mirrord reads as the other tool does.

    Raises:
        UsageError: it is none.
    """
    return Constraint.parse(text.strip()).text


def names_prerelease(text: str) -> bool:
    """Whether a range names a pre-release, and so lets pre-releases in: `>=1.2-0`."""
    return _PRERELEASE.search(text) is not None
