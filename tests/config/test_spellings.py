"""What operators write in small notations: read as it is spelled, or refused with what to write."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

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
from mirrord.report.words.calendar import read_cron
from mirrord.syncers.image.front.path import BadRequestError, RegistryPath
from mirrord.syncers.image.names.typed import parse_source
from tests.support.counting import steps

BOUNDED = settings(deadline=None, derandomize=True, max_examples=200)  # a loaded machine is no failure
SMALL = st.text(max_size=20) | st.from_regex(r"[0-9smhdkMGTiB/.:,*+ -]{0,30}", fullmatch=True)
FIELD = st.from_regex(r"(\*|[0-9]{1,2})([-,/][0-9a-z]{1,3}){0,3}", fullmatch=True) | st.sampled_from(["*", "mon", "٣"])
CRON = st.lists(FIELD, min_size=4, max_size=6).map(" ".join) | st.text(max_size=20)


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
    """The page reads what an old record holds, too."""
    read_cron(text)


@BOUNDED
@given(st.text(max_size=30) | st.from_regex(r"[a-zA-Z0-9./:@_%-]{0,50}", fullmatch=True))
def test_any_name_that_is_typed(text: str) -> None:
    """A source of `copy`, and what a client asks the front for: understood, or refused by an error of ours."""
    for read in (parse_source, RegistryPath.parse, Version.parse, Constraint.parse):
        with suppress(MirrordError, ValueError, BadRequestError):
            read(text)
    assert read_tag(text) == read_tag(text)


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
