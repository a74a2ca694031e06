"""Whose turn it is to bring a blob: decided from paces and moments, without a clock."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from mirrord.blobs.source import BlobSource
from mirrord.blobs.source_queue import Patience, QueuedSource, SourceQueue
from mirrord.errors import MissingError
from mirrord.model.digest import Digest

MIB = 1 << 20
PATIENCE = Patience(window=5.0, first=30.0, soon=30.0, again=60.0)


@contextlib.asynccontextmanager
async def nothing(_: int) -> AsyncIterator[tuple[None, AsyncIterator[bytes]]]:
    raise MissingError("nobody asks these sources")
    yield


def wanted(source: str) -> BlobSource:
    return BlobSource(Digest.of(b""), 100 * MIB, nothing, name=source)


def line(*names: str) -> tuple[SourceQueue, list[QueuedSource]]:
    made = SourceQueue()
    return made, [made.join(wanted(name)) for name in names]


@pytest.mark.parametrize(
    ("pace", "rest", "slow"),
    [
        pytest.param(2048, 100 * MIB, True, id="2 kB/s"),
        pytest.param(0, 1, True, id="nothing"),
        pytest.param(2048, 30 * 2048, False, id="through in 30 s"),
        pytest.param(2048, 30 * 2048 + 1, True, id="through in more"),
        pytest.param(4 * MIB, 100 * MIB, False, id="4 MiB/s"),
    ],
)
def test_slow_is_what_will_not_be_through_soon(pace: int, rest: int, slow: bool) -> None:
    """The next source is asked when the present one would need more than half a minute for the rest."""
    made, (one, two) = line("one", "two")
    one.pace = pace
    assert made.better(one, rest, 0.0, PATIENCE) is (two if slow else None)


def test_a_source_that_brings_nothing_is_given_up() -> None:
    """After five reads, or after four minutes in all: a host that sends its headers byte by byte took 23 (A10)."""
    (quick, slow, steady) = line("quick", "slow", "steady")[1]
    assert [quick.broke(100, 1.0, PATIENCE) for _ in range(5)] == [False, False, False, False, True]
    assert [slow.broke(0, 139.0, PATIENCE) for _ in range(2)] == [False, True]
    assert not any(steady.broke(MIB, 280.0, PATIENCE) for _ in range(20))
    assert not steady.broke(MIB - 1, 239.0, PATIENCE)
    assert steady.broke(0, 1.0, PATIENCE)


def test_alone_nobody_is_too_slow() -> None:
    """The readers of one mirror are one source; where no other one waits it is left to go on, however slow."""
    made, sources = line("one", "one", "one")
    assert len(set(map(id, sources))) == 1
    assert made.better(sources[0], 100 * MIB, 0.0, PATIENCE) is None


def test_of_slow_sources_the_best_one_goes_on() -> None:
    """Each is tried once; then only twice the pace is a reason to change, and after a while, ever longer, a new try."""
    made, (one, two, three) = line("one", "two", "three")
    rest, now, turns = 1000 * MIB, 0.0, []
    paces = {"one": 100_000, "two": 250_000, "three": 260_000}
    current = one
    while now < 1000.0:
        now += PATIENCE.window
        current.pace = paces[current.requests[0].name]
        other = made.better(current, rest, now, PATIENCE)
        if other is not None:
            made.swap(current, other, now, PATIENCE)
            current = other
            assert made.next() is other
            turns.append((now, other.requests[0].name))
    assert turns[:2] == [(5.0, "two"), (10.0, "three")]
    assert {source for _, source in turns} == {"one", "two", "three"}
    assert len(turns) < 20
    assert (one.trials, two.trials) <= (5, 5)
    assert three.trials > 0


def test_what_would_have_to_begin_anew_is_tried_once() -> None:
    """Where bytes may not be mixed a slow source is not tried again after a while."""
    made, (one, two) = line("one", "two")
    made.swap(one, two, 0.0, PATIENCE)
    assert made.better(two, MIB, 3600.0, PATIENCE, once=True) is None
    assert made.better(two, MIB, 3600.0, PATIENCE) is one
    one.pace = 1.0
    assert made.better(two, MIB, 3600.0, PATIENCE, once=True) is one


def test_who_failed_is_out_and_may_come_again() -> None:
    """Readers of a source that failed keep its error; one that comes later gives the source another chance."""
    made, (one, two) = line("one", "two")
    made.fail(one, MissingError("one: 404"))
    assert list(made) == [two]
    again = made.join(wanted("one"))
    assert again is not one
    assert again.error is None
    assert list(made) == [two, again]


def test_a_source_without_readers_is_asked_no_more() -> None:
    """Its connections may be closed by now."""
    made, (one, two) = line("one", "two")
    more = made.join(wanted("one"))
    assert more is one
    made.leave(one, one.requests[0])
    assert made.next() is one
    made.leave(one, one.requests[0])
    assert made.next() is two
