"""Which tags are chosen, and the reason for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mirrord.errors import UsageError
from mirrord.model.choice import Choice
from mirrord.model.plan import TagVerdict
from mirrord.plan.choice import Choosing, Dates
from mirrord.plan.select import listed_verdicts
from mirrord.plan.tags import read_tag

NOW = datetime(2026, 11, 27, tzinfo=UTC)
DAY = 86400.0
LISTED = (
    "latest 1 1.24.9 1.25 1.25.0 1.25.1 v1.25.2 1.25.3 1.25.2-alpine 1.25.3-alpine 1.26.0-rc1 1.26.0-rc.2 1.26.0"
    " 1.26.0-alpine nightly main-abc1234 sha256-abc.sig 2.0.0-beta1"
)
TAGS = tuple(LISTED.split())


def days(**ages: float) -> dict[str, datetime | None]:
    """Return dates of tags `v1`, `v2`… by their age in days."""
    return {tag: NOW - timedelta(days=age) for tag, age in ages.items()}


def choose(tags: Sequence[str], choice: Choice, dates: Dates, now: datetime) -> Sequence[TagVerdict]:
    return Choosing(tags, choice).verdicts(dates, now)


def chosen(choice: Choice, tags: Sequence[str] = TAGS, dates: Mapping[str, datetime | None] | None = None) -> str:
    return " ".join(one.tag for one in choose(tags, choice, dates or {}, NOW) if one.chosen)


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        (Choice(newest=1), "1.26.0 1.26.0-alpine"),
        (Choice(newest=2, of="minor"), "1.24.9 v1.25.2 1.25.3 1.25.2-alpine 1.25.3-alpine 1.26.0 1.26.0-alpine"),
        (Choice(newest=1, of="major"), "1.26.0 1.26.0-alpine"),
        (Choice(newest=1, prereleases=True), "1.26.0-alpine 2.0.0-beta1"),
        (Choice(versions=">=1.25 <1.26"), "1.25 1.25.0 1.25.1 v1.25.2 1.25.3 1.25.2-alpine 1.25.3-alpine"),
        (Choice(versions="1.24.9 || ~1.26"), "1.24.9 1.26.0 1.26.0-alpine"),
        (
            Choice(versions=">=1.26.0-rc2"),
            "1.26.0-rc.2 1.26.0 1.26.0-alpine 2.0.0-beta1",
        ),  # it names one
        (Choice(versions=">=1.26", prereleases=True), "1.26.0 1.26.0-alpine 2.0.0-beta1"),
        (Choice(match=("1.26*",)), "1.26.0 1.26.0-alpine"),
        (Choice(match=("1.26*", "*-rc*")), "1.26.0-rc1 1.26.0-rc.2 1.26.0 1.26.0-alpine"),
        (Choice(match=(r"/.*-rc\.?[0-9]/",)), "1.26.0-rc1 1.26.0-rc.2"),
        (Choice(match=("/1.24.9|nightly/",)), "1.24.9 nightly"),  # it has the word
        (Choice(match=("nightly", "latest")), "latest nightly"),
        (Choice(match=("*", "latest"), newest=1, of="major"), "latest 1.26.0 1.26.0-alpine"),
        (Choice(match=("/5/",)), ""),  # the whole tag
        (Choice(match=("v*", "latest"), exclude=("l*",)), "v1.25.2"),
        (Choice(match=("/[0-9.]+-alpine/",), newest=1), "1.26.0-alpine"),
        (Choice(match=("sha256-*",)), "sha256-abc.sig"),
        (Choice(match=("main-*",), prereleases=True), "main-abc1234"),
        (Choice(exclude=("/.*-.*/", "1*", "v*")), "latest"),
    ],
    ids=str,
)
def test_choice(choice: Choice, found: str) -> None:
    """Each rule and their combinations: variants apart, pre-releases only where they are named or wanted."""
    assert chosen(choice) == found


@pytest.mark.parametrize(
    ("tag", "choice", "why"),
    [
        ("1.25.1", Choice(newest=2, of="minor"), "left out: older than the newest 2 of 1.25"),
        ("1.25.2-alpine", Choice(newest=1), "left out: older than the newest of (alpine)"),
        ("1.25.3-alpine", Choice(newest=1, of="minor"), "chosen: the newest of 1.25 (alpine)"),
        ("1.26.0-rc1", Choice(newest=1), "left out: a pre-release (rc); `prereleases: true` takes it"),
        ("main-abc1234", Choice(), "left out: the hash of a commit is in it; `prereleases: true` takes it"),
        ("main-abc1234", Choice(newest=1), "left out: it is a commit and has no version"),
        ("1.24.9", Choice(versions=">=1.25"), "left out: outside >=1.25"),
        ("1.26.0", Choice(match=("1*",), versions=">=1"), "chosen: matches 1*, inside >=1"),
        ("latest", Choice(versions=">=1.25"), "left out: it is no version, and versions needs one"),
        ("latest", Choice(newest=3, of="major"), "left out: it is no version, and of: major needs one"),
        ("1", Choice(newest=3, of="minor"), "left out: it has no minor number, and of: minor needs one"),
        ("latest", Choice(match=("1*",)), "left out: no pattern of match matches it"),
        ("latest", Choice(exclude=("l*",)), "left out: l* of exclude matches it"),
        ("latest", Choice(match=("latest",)), "chosen: named in match"),
        ("latest", Choice(), "chosen: nothing leaves it out"),
        ("sha256-abc.sig", Choice(), "left out: it is about another image, and copied with that one (signatures.copy)"),
    ],
    ids=str,
)
def test_each_reason(tag: str, choice: Choice, why: str) -> None:
    """A verdict says in plain words which rule decided."""
    assert {one.tag: one.why for one in choose(TAGS, choice, {}, NOW)}[tag] == why


@pytest.mark.parametrize("pattern", ["sha256-*", "/sha256-[0-9a-f]{64}.*/"])
@pytest.mark.parametrize(
    "choice", [Choice(), Choice(newest=1), Choice(versions=">=1"), Choice(max_age=DAY), Choice(newest=1, by="date")]
)
def test_signatures_that_are_asked_for_are_taken_by_any_choice(choice: Choice, pattern: str) -> None:
    """The digest in the tag of a signature is no hash of a commit, and it needs neither a version nor a date."""
    signature = f"sha256-{'0a' * 32}.sig"
    asked = replace(choice, match=("v*", pattern))
    choosing = Choosing(("v1", signature), asked)
    assert signature not in choosing.undated({}, NOW)
    assert choosing.verdicts(days(**{"v1": 0.5, signature: 500}), NOW)[1].why == f"chosen: matches {pattern}"
    assert chosen(replace(asked, exclude=("*.sig",)), ("v1", signature), days(v1=0.5)) == "v1"


def test_reasons_of_dates() -> None:
    """An age is given as the date, of the image or of its push, and the limit; an unknown date is named."""
    choice = Choice(min_age=DAY, max_age=400 * DAY)
    verdicts = choose(("v1", "v2", "v3", "v4"), choice, {**days(v1=500, v2=0.5, v3=2), "v4": None}, NOW)
    assert [one.why for one in verdicts] == [
        "left out: dated 2025-07-15T00:00Z, older than 400d",
        "left out: dated 2026-11-26T12:00Z, younger than 1d",
        "chosen: nothing leaves it out",
        "chosen: its date is unknown",
    ]


def test_a_date_that_was_not_needed_is_not_called_unknown() -> None:
    """The only tag of its group is the newest whatever its date, which nobody asked for."""
    (verdict,) = Choosing(("v1",), Choice(newest=1, by="date")).verdicts({}, NOW)
    assert verdict.why == "chosen: the newest by date"


@pytest.mark.parametrize(
    ("dates", "found"),
    [
        (days(v1=1, v2=3, v3=2), "v1 v3"),  # v1 was built again
        ({**days(v1=9, v3=5), "v2": None}, "v2 v3"),  # counts as old as v3, and is below it
        ({**days(v1=9, v2=5), "v3": None}, "v2 v3"),  # nothing is higher: new
        ({"v1": None, "v2": None, "v3": None}, "v2 v3"),  # reproducible builds: by version
        ({**days(v2=1, v3=2), "v1": None}, "v1 v2"),
    ],
)
def test_the_newest_by_date(dates: Mapping[str, datetime | None], found: str) -> None:
    """An unknown date is not the oldest: it counts as that of the next higher version, and without one as new."""
    assert chosen(Choice(newest=2, by="date"), ["v1", "v2", "v3"], dates) == found


def test_the_newest_commits_by_date() -> None:
    """What has no version can be compared by date, commits of each branch apart."""
    tags = ["main-abc1234", "main-abc1235", "dev-abc1236", "latest", "edge"]
    dates = dict(zip(tags, days(a=1, b=2, c=9, d=3, e=4).values(), strict=True))
    choice = Choice(newest=1, by="date", prereleases=True)
    assert chosen(choice, tags, dates) == "main-abc1234 dev-abc1236 latest"


def test_dates_are_needed_for_few_tags() -> None:
    """Names are narrowed first; then only dates that can change the outcome are asked for, from the newest on."""
    tags = [f"v1.{minor}.{patch}" for minor in range(10) for patch in range(10)] + ["latest", "v1.0.0-rc1"]
    assert Choosing(tags, Choice(newest=2, of="minor")).undated({}, NOW) == ()
    assert Choosing(tags, Choice(newest=10, of="minor", by="date")).undated({}, NOW) == []  # all are taken anyway
    assert len(Choosing(tags, Choice(match=("v1.3.*",), newest=2, by="date")).undated({}, NOW)) == 10
    ripe = Choosing(tags, Choice(newest=2, of="major", min_age=DAY))
    assert sorted(ripe.undated({}, NOW)) == ["v1.9.8", "v1.9.9"]
    known = days(**{"v1.9.9": 0.5, "v1.9.8": 2})
    assert sorted(ripe.undated(known, NOW)) == ["v1.9.7"]  # one was too young
    assert ripe.undated(known | days(**{"v1.9.7": 3}), NOW) == []
    assert len(ripe.undated(known, NOW, depth=4)) == 7


def test_what_is_remarked() -> None:
    """Patterns without a tag, unknown dates and a choice of nothing are remarked."""
    choosing = Choosing(["v1", "v2"], Choice(match=("x*", "/y/", "v9", "v*"), exclude=("v*",), newest=1, by="date"))
    dates: dict[str, datetime | None] = {"v1": None}
    assert list(choosing.remarks(choosing.verdicts(dates, NOW), dates)) == [
        "no tag matches x*; 2 tags seen, such as v1, v2",
        "no tag matches /y/; 2 tags seen",
        "no tag matches v9; 2 tags seen",
        "no tag is chosen; 2 tags seen, and `mirrord plan --explain` says why",
        "1 tag has no date, such as v1: such a tag counts as new, and as older than a higher version",
    ]


def test_patterns_without_a_tag_are_remarked_once() -> None:
    """Where none of the patterns matches a tag, no second remark says that no tag is chosen."""
    choosing = Choosing(["v1"], Choice(match=("/y/",)))
    assert list(choosing.remarks(choosing.verdicts({}, NOW), {})) == ["no tag matches /y/; 1 tags seen"]


@pytest.mark.parametrize("choice", [Choice(match=("/[/",)), Choice(versions="x1"), Choice(exclude=(r"/(?=a)/",))])
def test_a_wrong_choice_is_refused(choice: Choice) -> None:
    """A choice that was made without a configuration is checked, too."""
    with pytest.raises(UsageError, match="not a r"):
        choose(TAGS, choice, {}, NOW)


def test_lists_are_explained() -> None:
    """A list says of each tag which entry selects it, as `select` does."""
    verdicts = listed_verdicts(["v1", "v2", "w1", "sha256-a.sig"], ["w1", "v*", "*1", "gone"])
    assert [(one.tag, one.chosen, one.why) for one in verdicts] == [
        ("w1", True, "chosen: named in tags"),
        ("gone", True, "chosen: named in tags"),
        ("v1", True, "chosen: matches v*"),
        ("v2", True, "chosen: matches v*"),
        ("sha256-a.sig", False, "left out: it is about another image, and copied with that one (signatures.copy)"),
    ]


PARTS = "v1 v2 1.2 1.2.3 1.25.0 2024.01 - . _ alpine bookworm rc1 beta nightly abc1234 g1234567 latest main 10 r5"
NAMES = some.lists(some.sampled_from(PARTS.split()), min_size=1, max_size=5).map("".join)
AGES = some.dictionaries(NAMES, some.none() | some.integers(0, 500), max_size=20)
CHOICES = some.builds(
    Choice,
    match=some.lists(some.sampled_from(["v*", "*", "1*", "/.*alpine/", "*rc*", "latest"]), max_size=2).map(tuple),
    versions=some.sampled_from(["", ">=1.2 <2", "~1.2", ">=1.2-0"]),
    newest=some.none() | some.integers(1, 3),
    of=some.sampled_from(["", "minor", "major"]),
    by=some.sampled_from(["version", "date"]),
    prereleases=some.booleans(),
    exclude=some.lists(some.sampled_from(["*-rc*", "/v2.*/"]), max_size=1).map(tuple),
    min_age=some.sampled_from([0.0, DAY]),
    max_age=some.sampled_from([None, 100 * DAY]),
)


@given(AGES, CHOICES, some.randoms())
def test_what_holds_for_every_choice(ages: Mapping[str, int | None], choice: Choice, random: Any) -> None:
    """Choosing twice is choosing once, order does not matter, each tag has a reason, and N is the most of a group."""
    tags = list(ages)
    dates = {tag: None if age is None else NOW - timedelta(days=age) for tag, age in ages.items()}
    verdicts = choose(tags, choice, dates, NOW)
    assert [one.tag for one in verdicts] == tags
    assert all(one.why.startswith("chosen: " if one.chosen else "left out: ") for one in verdicts)
    kept = [one.tag for one in verdicts if one.chosen]
    random.shuffle(tags)
    assert set(choose(tags, choice, dates, NOW)) == set(verdicts)
    if choice.by == "version" or None not in dates.values():
        assert [one.tag for one in choose(kept, choice, dates, NOW) if one.chosen] == kept
    if choice.newest is not None and choice.by == "version":
        depth = {"": 0, "major": 1, "minor": 2}[choice.of]
        counted = [read_tag(tag) for tag in kept if tag not in choice.match]
        groups = Counter((tag.variant, tag.numbers[:depth]) for tag in counted)
        assert all(count <= choice.newest for count in groups.values())


@given(AGES, CHOICES)
def test_dates_that_are_not_asked_for_do_not_matter(ages: Mapping[str, int | None], choice: Choice) -> None:
    """The outcome with the dates that were needed is the outcome with all dates."""
    dates = {tag: None if age is None else NOW - timedelta(days=age) for tag, age in ages.items()}
    choosing, depth = Choosing(dates, choice), 1
    known: dict[str, datetime | None] = {}
    while choosing.undated(known, NOW):
        wanted = choosing.undated(known, NOW, depth)
        assert not known.keys() & set(wanted)
        known |= {tag: dates[tag] for tag in wanted}
        depth *= 2
    outcomes = [[one.chosen for one in choosing.verdicts(each, NOW)] for each in (known, dates)]
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("of", ["minor", "major", ""])
def test_many_tags(of: Literal["minor", "major", ""]) -> None:
    """10 000 tags of 100 minor versions: the numbers are right whatever the groups."""
    tags = [f"v{number // 5000}.{number // 100 % 50}.{number % 100}-alpine" for number in range(10_000)]
    choice = Choice(match=("v*", "/v[0-9.]+-alpine/"), newest=3, of=of, exclude=("*rc*",))
    assert sum(one.chosen for one in choose(tags, choice, {}, NOW)) == {"minor": 300, "major": 6, "": 3}[of]
    assert sum(one.chosen for one in choose(tags, replace(choice, newest=None), {}, NOW)) == 10_000
