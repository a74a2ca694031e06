"""Which tags of a repository are mirrored, and why: patterns, ranges, ages, and the newest of each group. Pure.

Dates count in ages and in `by: date`. A tag of unknown date is never left out for its age. By date it ranks just below
the next higher version of known date, and without one as new: images without a date (reproducible builds) are not old.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Final

from mirrord.model.choice import Choice
from mirrord.model.plan import TagVerdict
from mirrord.patterns import as_expression
from mirrord.plan.select import SIGNATURE, is_glob, matcher, unmatched
from mirrord.plan.semver import Constraint
from mirrord.plan.tags import COMMIT, TagVersion, read_tag
from mirrord.wire.oci.reference import ABOUT_TAGS

Dates = Mapping[str, datetime | None]
"""Tag → when it was pushed, or its image made; None if that is unknown. Of absent tags it was not asked for yet."""

_DEPTHS: Final = {"": 0, "major": 1, "minor": 2}
_GLUED: Final = re.compile(r"(-[A-Za-z]+)(?=[0-9])")
_ESCAPED: Final = re.compile(r"\\.", re.DOTALL)
_WORDS: Final = re.compile("[A-Za-z]+")
_BY_VERSION: Final = attrgetter("tag.order")  # of a candidate
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def parse_range(text: str) -> Constraint:
    """Parse a range of versions for tags, where `-rc1` equals `-rc.1`.

    Raises:
        UsageError: it is not a range.
    """
    return Constraint.parse(_GLUED.sub(r"\1.", text))


_Group = tuple[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A tag that its name does not leave out."""

    tag: TagVersion
    group: _Group
    why: str  # why it is in so far, or ""


class Choosing:
    """A choice from given tags. Names decide first, so that few dates have to be found."""

    def __init__(self, tags: Iterable[str], choice: Choice) -> None:
        """Decide by names.

        Raises:
            UsageError: a pattern or the range of `choice` is invalid.
        """
        self._choice = choice
        self._match, self._exclude = _matchers(choice.match), _matchers(choice.exclude)
        self._range = parse_range(choice.versions) if choice.versions else None
        self._out: dict[str, str] = {}
        self._in: dict[str, _Candidate] = {}
        self._named = frozenset(choice.match)
        self._whole: dict[str, str] = {}  # tags that no other rule is about, and why they are in
        self._tags = list(dict.fromkeys(tags))
        for tag in self._tags:
            self._decide(tag)

    def undated(self, dates: Dates, now: datetime, depth: int = 1) -> Sequence[str]:
        """Return the tags whose dates are needed next; none when `verdicts` can decide.

        Args:
            dates: what is known or was asked for already.
            now: time of the decision.
            depth: how many times `newest` to look ahead, which saves rounds.
        """
        choice = self._choice
        aged = bool(choice.min_age) or choice.max_age is not None
        if not aged and (choice.newest is None or choice.by == "version"):
            return ()
        candidates = [one for one in self._in.values() if not self._age(one.tag.text, dates, now)]
        if choice.newest is not None:
            groups = list(_grouped(candidates).values())
            if choice.by == "version":
                groups = [sorted(group, key=_BY_VERSION)[-choice.newest * depth :] for group in groups]
            elif not aged:
                groups = [group for group in groups if len(group) > choice.newest]
            candidates = [one for group in groups for one in group]
        return [one.tag.text for one in candidates if one.tag.text not in dates]

    def verdicts(self, dates: Dates, now: datetime) -> Sequence[TagVerdict]:
        """Return the decision about each tag."""
        choice = self._choice
        out = dict(self._out)
        left = []
        for tag, one in self._in.items():
            if why := self._age(tag, dates, now):
                out[tag] = why
            else:
                left.append(one)
        if choice.groups is not None:
            last = _last_groups(left, choice.groups)
            old = f"not of the newest {choice.groups} {choice.of} versions"
            out |= dict.fromkeys((one.tag.text for one in left if one.group not in last), old)
            left = [one for one in left if one.group in last]
        of: dict[str, str] = {}
        if choice.newest is not None:
            for key, group in _grouped(left).items():
                ranked = _by_date(group, dates, now) if choice.by == "date" else sorted(group, key=_BY_VERSION)
                count = f" {choice.newest}" if choice.newest > 1 else ""
                label = f"the newest{count}{_named(key)}{' by date' if choice.by == 'date' else ''}"
                out |= dict.fromkeys((one.tag.text for one in ranked[: -choice.newest]), f"older than {label}")
                chosen = f"one of {label}" if count else label
                of |= dict.fromkeys((one.tag.text for one in ranked[-choice.newest :]), chosen)
        dated = choice.min_age or choice.max_age is not None or choice.by == "date"

        def verdict(tag: str) -> TagVerdict:
            if tag in out:
                return TagVerdict(tag, chosen=False, why=f"left out: {out[tag]}")
            if tag in self._whole:
                return TagVerdict(tag, chosen=True, why=f"chosen: {self._whole[tag]}")
            unknown = "its date is unknown" if dated and dates.get(tag, now) is None else ""
            reasons = ", ".join(filter(None, (self._in[tag].why, of.get(tag, ""), unknown)))
            return TagVerdict(tag, chosen=True, why=f"chosen: {reasons or 'nothing leaves it out'}")

        return [verdict(tag) for tag in self._tags]

    def remarks(self, verdicts: Iterable[TagVerdict], dates: Dates) -> Iterator[str]:
        """Yield a sentence for each pattern of `match` that matches no tag, and for unknown dates that counted."""
        globs = tuple(pattern for pattern in self._choice.match if is_glob(pattern) and as_expression(pattern) is None)
        idle = [*unmatched(self._tags, globs)]
        for pattern, match in self._match:
            if pattern not in globs and not any(map(match, self._tags)):
                idle.append(f"no tag matches {pattern}; {len(self._tags)} tags seen")
        yield from idle
        explained = idle and len(idle) == len(self._match)  # no tag is chosen, as none of the patterns matches
        if self._tags and not explained and not any(one.chosen for one in verdicts):
            yield f"no tag is chosen; {len(self._tags)} tags seen, and `mirrord plan --explain` says why"
        if unknown := [tag for tag, date in dates.items() if date is None]:
            these = f"{len(unknown)} tag{'s have' if len(unknown) > 1 else ' has'} no date, such as {unknown[0]}"
            yield f"{these}: such a tag counts as new, and as older than a higher version"

    def _decide(self, text: str) -> None:
        """Decide about a tag by its name."""
        choice = self._choice
        matching = [pattern for pattern, match in self._match if match(text)]
        signs = text.startswith(ABOUT_TAGS)
        if signs:
            matching = [pattern for pattern in matching if pattern.lstrip("/^").startswith(ABOUT_TAGS)]
        if signs and not matching:
            self._out[text] = SIGNATURE
        elif choice.match and not matching:
            self._out[text] = "no pattern of match matches it"
        elif excluding := next((pattern for pattern, match in self._exclude if match(text)), ""):
            self._out[text] = f"{excluding} of exclude matches it"
        elif signs or text in self._named:
            self._whole[text] = f"matches {matching[0]}" if signs else "named in match"
        else:
            tag = read_tag(text)
            if why := self._against(tag, matching):
                self._out[text] = why
            else:
                inside = f"inside {choice.versions}" if choice.versions else ""
                whole = f"matches {matching[0]}" if matching else ""
                why = ", ".join(filter(None, (whole, inside)))
                self._in[text] = _Candidate(tag, (tag.variant, tag.numbers[: _DEPTHS[choice.of]]), why)

    def _against(self, tag: TagVersion, matching: Sequence[str]) -> str:
        """Return why the version of a tag leaves it out, or ""."""
        choice = self._choice
        if not tag.numbers and (choice.versions or choice.of or (choice.newest and choice.by == "version")):
            if tag.early == COMMIT:
                return "it is a commit and has no version"
            needed = "versions" if choice.versions else f"of: {choice.of}" if choice.of else "newest"
            return f"it is no version, and {needed} needs one"
        if choice.of and len(tag.numbers) < _DEPTHS[choice.of]:
            return f"it has no {choice.of} number, and of: {choice.of} needs one"
        asked = choice.prereleases or not tag.early or _names(matching, tag)
        if self._range is not None and tag.numbers:
            if not self._range.allows(tag.version, prereleases=True):
                return f"outside {choice.versions}"
            asked = asked or (tag.version.prerelease and self._range.allows(tag.version))
        if asked:
            return ""
        what = "the hash of a commit is in it" if tag.early == COMMIT else f"a pre-release ({tag.early})"
        return f"{what}; `prereleases: true` takes it"

    def _age(self, tag: str, dates: Dates, now: datetime) -> str:
        """Return why its age leaves a tag out, or ""."""
        date = dates.get(tag)
        if date is None:
            return ""
        age = (now - date).total_seconds()
        dated = f"dated {date.isoformat(timespec='minutes').replace('+00:00', 'Z')}"
        if self._choice.min_age and age < self._choice.min_age:
            return f"{dated}, younger than {_spelled(self._choice.min_age)}"
        if self._choice.max_age is not None and age > self._choice.max_age:
            return f"{dated}, older than {_spelled(self._choice.max_age)}"
        return ""


def _matchers(patterns: Iterable[str]) -> Sequence[tuple[str, Callable[[str], bool]]]:
    return [(pattern, matcher(pattern)) for pattern in patterns]


def _names(patterns: Iterable[str], tag: TagVersion) -> bool:
    """Whether one of the patterns names the word of a pre-release (`*-rc*`)."""
    for pattern in patterns:
        text = pattern if as_expression(pattern) is None else _ESCAPED.sub(" ", pattern)
        if tag.early in {word.lower() for word in _WORDS.findall(text)}:
            return True
    return False


def _grouped(candidates: Iterable[_Candidate]) -> Mapping[_Group, list[_Candidate]]:
    groups: dict[_Group, list[_Candidate]] = defaultdict(list)
    for one in candidates:
        groups[one.group].append(one)
    return groups


def _last_groups(candidates: Iterable[_Candidate], count: int) -> frozenset[_Group]:
    """Return the highest `count` groups of each variant."""
    variants: dict[str, set[_Group]] = defaultdict(set)
    for one in candidates:
        variants[one.group[0]].add(one.group)
    return frozenset(group for groups in variants.values() for group in sorted(groups)[-count:])


def _named(group: _Group) -> str:
    variant, numbers = group
    version = ".".join(map(str, numbers))
    return f" of {' '.join(filter(None, (version, f'({variant})' if variant else '')))}" if version or variant else ""


def _by_date(group: Sequence[_Candidate], dates: Dates, now: datetime) -> list[_Candidate]:
    """Sort by date; an unknown one counts as that of the next higher version, and without one as now."""
    bound, ranked = now, []
    for one in sorted(group, key=lambda one: one.tag.order, reverse=True):
        date = dates.get(one.tag.text)
        bound = bound if date is None else date
        ranked.append((bound, one.tag.order, one))
    return [one for _, _, one in sorted(ranked, key=lambda each: each[:2])]


def _spelled(seconds: float) -> str:
    return next(f"{seconds / unit:g}{name}" for unit, name in _UNITS if seconds >= unit or unit == 1)
