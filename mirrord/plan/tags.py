"""What a tag says: its version, its variant, and whether it is a pre-release. Pure.

Registries take any text as a tag, so this reads what people write: `v1.25.3`, `1.25`, `2024.01`, `1.2.3.4`,
`1.2.3-alpine3.19`, `controller-v1.5.1`, `3.14.0rc2`, `v3.26.1-g1234567`, `2024-01-31`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mirrord.plan.semver import Version

EARLY: Final = frozenset(
    ("alpha", "beta", "rc", "pre", "preview", "nightly", "dev", "snapshot", "canary", "unstable", "pr")
)
"""Words that make a tag a pre-release."""
COMMIT: Final = "commit"  # in the place of such a word: the tag has the hash of a commit
LONGEST: Final = 128  # characters (distribution-spec, "Pulling manifests")

_MACHINES = r"amd64|arm64v8|arm64|arm32v[567]|armv[67]|i386|x86_64|s390x|ppc64le"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])(?:T[0-9]{2}-[0-9]{2}-[0-9]{2}Z)?"
# Not possessive: Python 3.11.2, that of Debian 12, then takes the `v` of `v1.25` into the group before it.
_TAG = re.compile(
    rf"((?:(?:{_MACHINES}|[A-Za-z]+)[-_.])*(?:[A-UW-Za-uw-z][A-Za-z]*)?)[vV]?({_DATE}|[0-9]+(?:\.[0-9]+)*)(.*)",
    re.DOTALL,
)
_PART = re.compile(r"([A-Za-z]*)[.]?([0-9][0-9.]*)?(.*)", re.DOTALL)
_REVISION = re.compile(r"(?:r|rev|p|post|patch|build|eksbuild|gke|k3s|rke2r|rancher)\.?([0-9]+)", re.IGNORECASE)
# A number alone is a date or a build, unless it is as long as a whole hash.
_HASH = re.compile(r"g[0-9a-f]{7,}|(?=[0-9]*[a-f])[0-9a-f]{7,}|[0-9]{40}|[0-9]{64}")
_SEPARATORS = re.compile(r"([-_.])")
_DASHES = re.compile(r"[-_]")
_WORDS = re.compile(r"[A-Za-z]+")
_NUMBERS = re.compile(r"[0-9]+")

Order = tuple[tuple[int, ...], int, tuple[tuple[int, int, str], ...], tuple[int, ...], str]


@dataclass(frozen=True, slots=True)
class TagVersion:
    """A tag and what it says."""

    text: str  # as written
    # its numbers, exactly: (1, 25, 3); empty if it is no version
    numbers: tuple[int, ...] = ()
    # what is before and after the version, without revisions and hashes: `alpine3.19`; variants are not compared
    variant: str = ""
    early: str = ""  # the word that makes it a pre-release, or `COMMIT`; "" for a release
    identifiers: tuple[tuple[int, int, str], ...] = ()  # of the pre-release, as semver ranks them; `rc1` equals `rc.1`
    revision: tuple[int, ...] = ()  # of the same version: `-r5`, `_4`, `-20240101`

    @property
    def order(self) -> Order:
        """A total order of the versions of one variant; `1.2` and `1.2.0` differ in their text alone."""
        count = len(self.numbers)
        while count and not self.numbers[count - 1]:
            count -= 1
        return self.numbers[:count], not self.identifiers, self.identifiers, self.revision, self.text

    @property
    def version(self) -> Version:
        """The version for a range: its first three numbers, missing ones as 0."""
        major, minor, patch = (*self.numbers, 0, 0, 0)[:3]
        return Version(self.text, (major, minor, patch, 0 if self.identifiers else 1, self.identifiers))


def read_tag(tag: str) -> TagVersion:
    """Read a tag; one without a number has no version, and then its variant is what is left without hashes."""
    if len(tag) > LONGEST:
        return TagVersion(tag)
    text = _without_hashes(tag)
    early = COMMIT if text != tag else ""
    found = _TAG.fullmatch(text)
    if found is None:
        word = next((word for word in _WORDS.findall(text) if word.lower() in EARLY), "")
        return TagVersion(tag, variant=text if early else "", early=word.lower() or early)
    before, numbers, rest = found.groups()
    identifiers, revision, variant = _suffix(rest)
    words = [word.lower() for word in _WORDS.findall(before)]
    named = [word for word in words if word in EARLY] + [word for rank, _, word in identifiers if rank]
    return TagVersion(
        tag,
        _numbers(numbers),
        " ".join(filter(None, (before.strip("-_."), "-".join(variant)))),
        named[0] if named else early,
        identifiers,
        revision,
    )


def _without_hashes(tag: str) -> str:
    """Return a tag without the hashes of commits in it, and without the separators before these."""
    pieces = _SEPARATORS.split(tag)
    kept = [
        ("" if at == 0 else pieces[at - 1]) + pieces[at]
        for at in range(0, len(pieces), 2)
        if _HASH.fullmatch(pieces[at]) is None
    ]
    return "".join(kept) if len(kept) <= len(pieces) // 2 else tag


def _suffix(rest: str) -> tuple[tuple[tuple[int, int, str], ...], tuple[int, ...], list[str]]:
    """Sort what follows the numbers into identifiers of a pre-release, revisions, and parts of a variant."""
    identifiers: list[tuple[int, int, str]] = []
    revision: list[int] = []
    variant: list[str] = []
    follows = False  # whether the part before was one of a pre-release: `rc-1`
    for at, part in enumerate(part for part in _DASHES.split(rest.lstrip("-_.")) if part):
        letters, digits, tail = _PART.findall(part)[0]
        word = letters.lower()
        python = at == 0 and rest[:1].isalpha() and word in ("a", "b") and digits and not tail  # 3.14.0a1
        if word in EARLY or python:
            identifiers += [(1, 0, word), *((0, number, "") for number in _numbers(digits))]
            variant += [tail] if tail else []
        elif not letters and not tail and follows:
            identifiers += [(0, number, "") for number in _numbers(digits)]
        elif not letters and not tail and not variant:
            revision += _numbers(digits)
        elif counted := _REVISION.fullmatch(part):
            revision.append(int(counted[1]))
        else:
            variant.append(part)
        follows = word in EARLY
    return tuple(identifiers), tuple(revision), variant


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, _NUMBERS.findall(text)))
