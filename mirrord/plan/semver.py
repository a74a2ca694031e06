"""Semantic versions and ranges of them, read as helm reads them (Masterminds/semver), ordered as semver.org says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mirrord.errors import ContentError, UsageError

LONGEST_VERSION = 256  # characters, as in helm
LONGEST_RANGE = 512
MOST_GROUPS = 32

Precedence = tuple[int, int, int, int, tuple[tuple[int, int, str], ...]]

_IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_EXTRA = rf"(?:-({_IDENTIFIERS}))?(?:\+({_IDENTIFIERS}))?"
_LOOSE = re.compile(rf"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?{_EXTRA}")
_HYPHEN = re.compile(r"(?<!\S)(\S++)\s++-\s++(\S++)")
_TERM = re.compile(
    r"(=|!=|>|<|>=|=>|<=|=<|~|~>|\^)?\s*"
    rf"v?([0-9]+|[xX*])(?:\.([0-9]+|[xX*]))?(?:\.([0-9]+|[xX*]))?{_EXTRA}(?=[\s,]|$)"
)
_BETWEEN = re.compile(r"\s*,\s*|\s+")
_SPELLINGS = {"": "=", "=>": ">=", "=<": "<=", "~>": "~"}
_TOO_BIG = 2**64


@dataclass(frozen=True, slots=True)
class Version:
    """A semantic version that keeps its spelling.

    Versions are equal if their spelling is; `precedence` compares as semver does.
    """

    text: str  # as written
    # sorts by semver 2.0.0 §11; equal for versions that differ only in build metadata or spelling
    precedence: Precedence = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Version:
        """Parse as helm does: a `v` prefix, missing parts and leading zeros are accepted.

        Raises:
            ContentError: it is not a version.
        """
        found = _LOOSE.fullmatch(text) if len(text) <= LONGEST_VERSION else None
        if found is None:
            raise ContentError(f"not a semantic version: {text[:80]!r} (want 1.2.3, 1.2.3-rc.1 or 1.2.3+build)")
        major, minor, patch, pre, _build = found.groups()
        numbers = int(major), int(minor or 0), int(patch or 0)
        if max(numbers) >= _TOO_BIG:
            raise ContentError(f"not a semantic version: {text[:80]!r} (a number in it is too big)")
        if not pre:
            return cls(text, (*numbers, 1, ()))
        return cls(text, (*numbers, 0, tuple(_identifier(part, text) for part in pre.split("."))))

    @property
    def prerelease(self) -> bool:
        """Whether it comes before its release: `1.2.3-rc.1`."""
        return not self.precedence[3]

    @property
    def order(self) -> tuple[Precedence, str]:
        """A total order: by precedence, then by text."""
        return self.precedence, self.text

    def __str__(self) -> str:
        """Return the version as written."""
        return self.text


def _identifier(part: str, text: str) -> tuple[int, int, str]:
    """Rank one identifier of a pre-release: numbers by value and below words (semver 2.0.0 §11.4)."""
    if not part.isdigit():
        return 1, 0, part
    if part[0] == "0" and len(part) > 1:
        raise ContentError(f"not a semantic version: {text[:80]!r} (a number after `-` begins with 0)")
    return (0, int(part), "") if int(part) < _TOO_BIG else (1, 0, part)


def valid_version(text: str) -> bool:
    """Whether helm takes `text` as a chart's version."""
    try:
        Version.parse(text)
    except ContentError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Term:
    """One comparison: `>=1.2`."""

    sign: str  # one of `=`, `!=`, `>`, `<`, `>=`, `<=`, `~`, `^`
    bound: Version  # the version to compare with; missing parts count as 0
    fixed: int  # how many of the three numbers were given: 1 for `1.x`, 0 for `*`

    def allows(self, version: Version) -> bool:
        have, want, fixed = version.precedence, self.bound.precedence, self.fixed
        same = have[:fixed] == want[:fixed]
        all_of_it = fixed == 3 and want[:3] == (0, 0, 0)  # helm reads `~0.0.0` as `>=0.0.0`
        # `^` holds the numbers up to the first that is not 0.
        held = min(next((count for count, number in enumerate(want[:3], 1) if number), 3), fixed)
        answers = {
            "=": have == want if fixed == 3 else same and have >= want,
            "!=": have != want if fixed == 3 else not same,
            ">": have > want if fixed == 3 else have[:fixed] > want[:fixed],
            "<": have < want,
            ">=": have >= want,
            "<=": have <= want if fixed == 3 else have[:fixed] <= want[:fixed],
            "~": have >= want and (all_of_it or have[: min(fixed, 2)] == want[: min(fixed, 2)]),
            "^": have >= want and have[:held] == want[:held],
        }
        return answers[self.sign]

    def pins(self, version: Version) -> bool:
        return self.sign == "=" and self.fixed == 3 and self.allows(version)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A range of versions: `>=1.2 <2 || ^3.1`, `~1.2`, `1.x`, `1.2 - 1.4`, `!=1.3.1`.

    Pre-releases are outside every range, unless a group (separated by `||`) names one: `>=1.2-0`.
    `*` matches every version also behind a sign: `^*` and `<=*` allow all, `>*` and `!=*` none (helm differs there).
    """

    text: str  # as written
    _groups: tuple[tuple[_Term, ...], ...] = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Parse a range as helm's `--version` does.

        Raises:
            UsageError: it is not a range.
        """
        groups = text.split("||")
        if len(text) > LONGEST_RANGE or len(groups) > MOST_GROUPS:
            raise UsageError(f"a range of versions has at most {LONGEST_RANGE} characters and {MOST_GROUPS} groups")
        return cls(text, tuple(_group(_HYPHEN.sub(r">=\1 <=\2", group).strip(), text) for group in groups))

    def allows(self, version: Version, *, prereleases: bool = False) -> bool:
        """Whether `version` is in the range; with `prereleases`, pre-releases need not be named by it."""
        return any(
            all(term.allows(version) for term in group)
            for group in self._groups
            if prereleases or not version.prerelease or any(term.bound.prerelease for term in group)
        )

    def pins(self, version: Version) -> bool:
        """Whether the range names this very version, as `1.2.3` does, alone or beside others (`1.2.3 || ^2`)."""
        return any(len(group) == 1 and group[0].pins(version) for group in self._groups)

    def __str__(self) -> str:
        """Return the range as written."""
        return self.text


def _group(text: str, whole: str) -> tuple[_Term, ...]:
    terms: list[_Term] = []
    position = 0
    while found := _TERM.match(text, position):
        sign, *numbers, pre, _build = found.groups(default="")
        fixed = next((count for count, number in enumerate(numbers) if not number.isdigit()), 3)
        core = ".".join([*numbers[:fixed], "0", "0", "0"][:3])
        try:
            bound = Version.parse(f"{core}-{pre}" if pre else core)
        except ContentError as error:
            raise UsageError(f"not a range of versions: {whole[:80]!r}; {error}") from error
        terms.append(_Term(_SPELLINGS.get(sign, sign), bound, fixed))
        if found.end() == len(text):
            return tuple(terms)
        between = _BETWEEN.match(text, found.end())
        position = between.end() if between else found.end()
    hint = "write it as in `>=1.2 <2 || ^3.1`, `~1.2`, `1.x` or `1.2 - 1.4`"
    raise UsageError(f"not a range of versions: {whole[:80]!r}; {hint}")
