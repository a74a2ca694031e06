"""What operators write in small notations: read as it is spelled, or refused with what to write."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrord.config.networks import parse_network
from mirrord.config.schedules import parse_cron
from mirrord.config.units import parse_duration, parse_rate, parse_size, spell_duration
from mirrord.config.units import parse_network as parse_addresses
from mirrord.errors import MirrordError
from mirrord.plan.semver import Constraint, Version
from mirrord.plan.tags import read_tag
from mirrord.report.words.calendar import Clockwork, read_cron
from mirrord.syncers.image.front.path import BadRequestError, RegistryPath
from mirrord.syncers.image.names.typed import parse_source
from tests.support.counting import steps

BOUNDED = settings(deadline=None, derandomize=True, max_examples=200)  # a loaded machine is no failure
SMALL = st.text(max_size=20) | st.from_regex(r"[0-9smhdkMGTiB/.:,*+ -]{0,30}", fullmatch=True)
FIELD = st.from_regex(r"(\*|[0-9]{1,2})([-,/][0-9a-z]{1,3}){0,3}", fullmatch=True) | st.sampled_from(["*", "mon", "٣"])
NUMBER = st.integers(0, 99).map(str) | st.sampled_from(["*", "*/5", "*/7", "*/24", "00", "٣"])
SIMPLE = st.tuples(
    NUMBER,
    NUMBER | st.sampled_from(["3,17", "23,3,3"]),
    st.just("*") | NUMBER,
    st.just("*"),
    st.sampled_from(["*", "*", "sun,mon", "fri", "odd", "1"]),
)
CRON = (
    st.lists(FIELD, min_size=4, max_size=6).map(" ".join) | SIMPLE.map(" ".join) | st.text(max_size=20)
)  # what is said in words is rare by chance


@BOUNDED
@given(SMALL | st.none() | st.booleans() | st.lists(st.integers(), max_size=2))
def test_any_unit_is_read_or_explained(value: object) -> None:
    """A duration, a size, a rate, a network: a value, or a ValueError of one short line."""
    for read in (parse_duration, parse_size, parse_rate, parse_network, parse_addresses):
        try:
            read(value)
        except ValueError as error:
            said = str(error)
            assert len(said) < 300
            assert "\n" not in said


@BOUNDED
@given(st.integers(1, 10**8))
def test_a_duration_reads_back(seconds: int) -> None:
    """What we write as a duration is read as the same number of seconds."""
    assert parse_duration(spell_duration(seconds)) == seconds


@BOUNDED
@given(CRON)
def test_any_cron_is_read_or_explained(text: str) -> None:
    """What is taken is taken again as it stands, and the page can say it in words, or leaves it as it is."""
    try:
        line = parse_cron(text)
    except ValueError:
        return
    assert parse_cron(line) == line
    read_cron(line)


@BOUNDED
@given(CRON)
def test_any_cron_can_be_looked_at(text: str) -> None:
    """The page reads what an old record holds, too; what it says in words means the same when it is written again."""
    if said := read_cron(text):
        assert read_cron(cron_of(said)) == said


def cron_of(said: Clockwork) -> str:
    """Write an expression that means it."""
    if not said.times:
        return f"*/{said.every // 60} * * * *" if said.every else f"{said.minute} * * * *"
    hours, minutes = zip(*(one.split(":") for one in said.times), strict=True)
    (minute,) = {*minutes}
    if said.every:
        assert hours == ("00",)
        return f"{minute} */{said.every // 3600} * * *"
    return f"{minute} {','.join(hours)} {said.day or '*'} * {','.join(said.weekdays) or '*'}"


@BOUNDED
@given(
    st.text(max_size=30)
    | st.from_regex(r"[a-zA-Z0-9./:@_%-]{0,50}", fullmatch=True)
    | st.from_regex(r"[a-z]{1,3}/(manifests|tags)/[a-z%]{0,2}(%7[0-9]){1,2}", fullmatch=True)
    | st.from_regex(r"[v>=~^]{0,2}[0-9.]{1,6}(-[a-z0-9.]{1,5})?", fullmatch=True)
)
def test_any_name_that_is_typed(text: str) -> None:
    """A source of `copy`, and what a client asks the front for: understood, or refused by an error of ours."""
    with suppress(MirrordError):
        parse_source(text)
    with suppress(BadRequestError):
        path = RegistryPath.parse(text)
        assert f"{path.name}/{path.verb}/{path.ref}" == unquote(text)
    with suppress(MirrordError):
        version = Version.parse(text)
        assert (str(version), Version.parse(text).order) == (text, version.order)
    with suppress(MirrordError):
        constraint = Constraint.parse(text)
        assert Constraint.parse(str(constraint)) == constraint


@BOUNDED
@given(
    st.text(max_size=30) | st.from_regex(r"[a-z]{0,5}[-.]?v?[0-9.]{0,8}[-a-z0-9._]{0,9}(-[0-9a-f]{7})?", fullmatch=True)
)
def test_any_tag_is_read(text: str) -> None:
    """A tag is kept as it is written, its numbers are in it, and it has a place among all others."""
    tag = read_tag(text)
    assert tag.text == text
    assert all(str(number) in text for number in tag.numbers)
    if tag.order[0] != (5,):
        assert (tag.order < read_tag("5").order) == (tag.numbers < (5,))


@pytest.mark.parametrize(
    ("read", "unit"),
    [
        (parse_duration, "1h"),
        (parse_size, "1"),
        (parse_cron, "1,"),
        (read_cron, "1,"),
        (Version.parse, "1."),
        (Constraint.parse, ">1 "),
        (read_tag, "1.a-"),
    ],
)
def test_work_grows_no_faster_than_what_is_read(read: object, unit: str) -> None:
    """Twice as much costs no more than twice the steps, also where it is refused."""
    assert callable(read)
    few, many = (steps(partial(read, unit * size)) for size in (1000, 2000))
    assert many <= 2 * few + 100
