"""When to try again, and how fast to go: fault F12, and the rules of lanes."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.errors import (
    BrokenError,
    ContentError,
    DeniedError,
    MissingError,
    ServerError,
    StalledError,
    ThrottledError,
    UnreachableError,
    UntrustedError,
)  # fmt: skip
from mirrord.wire.http.limiter import HostLimiter
from mirrord.wire.http.message import HttpRequest, Limits, refusal
from mirrord.wire.http.pace import Bucket, MinThroughput, Repeat, RequestClass, admits, decide, retry_after

NOW = 1_800_000_000.0
LIMITS = Limits(attempts=4, patience=60.0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0), ("0", 0.0), ("1.5", 1.5), ("-5", 0.0), (str(int(NOW) + 30), 30.0), (str(int(NOW) - 30), 0.0),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0), ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0), ("", None), (None, None),
        ("soon", None), ("nan", None), ("inf", None), ("Fri, 99 Jan 2027 08:00:30 GMT", None),
        ("Fri, 15 Jan 99999999999999999999 08:00:30 GMT", None), ("Fri, 15 Jan 2027 08:00:30 +99999999999999", None),
        ("9" * 5000, None), ("²", None),
    ],
)  # fmt: skip
def test_retry_after_in_every_spelling(value: Any, seconds: Any) -> None:
    """Seconds, an HTTP date, Docker Hub's Unix time; nonsense says nothing (F12)."""
    assert retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "error",
    [
        DeniedError("x", 401), MissingError("x", 404), ContentError("x"), UntrustedError("x", "realm"),
        ThrottledError("x", 3700.0), ThrottledError("x", 61.0), ServerError("x", 61.0),
    ],
)  # fmt: skip
def test_what_is_given_up_at_once(error: Any) -> None:
    """Refusals do not heal, and a wait longer than our patience goes to the caller."""
    assert decide(1, error, LIMITS, jitter=lambda: 0.5) is None


def test_retry_after_is_kept_to_exactly() -> None:
    """No jitter on what a host asks for."""
    assert decide(1, ThrottledError("x", 7.0), LIMITS, jitter=lambda: 0.0) == 7.0
    assert decide(1, ServerError("x", 7.0), LIMITS, waited=55.0, jitter=lambda: 0.0) is None


@given(st.integers(1, 3), st.floats(0, 0.999), st.sampled_from([BrokenError, ServerError, UnreachableError]))
def test_waits_are_jittered_and_bounded(attempt: Any, random: Any, kind: Any) -> None:
    """Full jitter: anything from zero to a ceiling that doubles."""
    delay = decide(attempt, kind("x"), Limits(patience=1e9), jitter=lambda: random)
    assert delay is not None
    assert 0 <= delay <= 0.5 * 2**attempt


def test_attempts_run_out() -> None:
    """The fourth failure is the last."""
    assert decide(3, BrokenError("x"), LIMITS, jitter=lambda: 0.1) is not None
    assert decide(4, BrokenError("x"), LIMITS, jitter=lambda: 0.1) is None


def test_half_sent_bodies_are_not_repeated_in_place() -> None:
    """Only a host that wants us later, or was never reached, gets the same upload again."""
    for error, again in [(BrokenError("x"), False), (ServerError("x"), False), (StalledError("x"), False),
                         (ThrottledError("x"), True), (UnreachableError("x"), True)]:  # fmt: skip
        assert (decide(1, error, LIMITS, repeat=Repeat.UNSENT, jitter=lambda: 0.1) is not None) is again


def test_pulse_measures_whole_windows() -> None:
    """A slow second is forgiven, a slow window is not (F14)."""
    pulse = MinThroughput(floor=1000.0, window=60.0)
    assert pulse.beat(59.0, 1)
    assert not pulse.beat(2.0, 1)
    assert pulse.beat(59.0, 100_000)
    assert pulse.beat(1.5, 1)


def test_bucket_keeps_the_rate() -> None:
    """The first second is free, then each byte costs its time; idling saves at most one second."""
    bucket = Bucket(100.0)
    assert bucket.take(50, 0.0) == 0.5
    assert bucket.take(50, 0.5) == 0.5
    assert bucket.take(0, 1000.0) == 0.0
    assert bucket.take(100, 1000.0) == 0.0
    assert bucket.take(100, 1000.0) == 1.0


@pytest.mark.parametrize("limit", [1, 2, 3, 8])
def test_nobody_starves(limit: Any) -> None:
    """With any load made of uploads alone a download may start; with bulk alone a small request may (limit > 1)."""
    load = {RequestClass.SMALL: 0, RequestClass.DOWN: 0, RequestClass.UP: 0}

    while admits(RequestClass.UP, load, limit):
        load[RequestClass.UP] += 1
    assert admits(RequestClass.DOWN, load, limit)
    while admits(RequestClass.DOWN, load, limit):
        load[RequestClass.DOWN] += 1
    assert sum(load.values()) <= limit + 1
    if limit > 2:
        assert admits(RequestClass.SMALL, load, limit)
    while admits(RequestClass.SMALL, load, limit):
        load[RequestClass.SMALL] += 1
    assert sum(load.values()) <= limit + 1


async def test_lanes_hand_places_on() -> None:
    """Who waits gets in as soon as somebody leaves, also when a waiter gave up in between."""
    lanes, order = HostLimiter(1), []
    gate = asyncio.Event()

    async def hold(name: Any) -> None:
        async with lanes.slot(RequestClass.SMALL):
            order.append(name)
            await gate.wait()

    tasks = [asyncio.create_task(hold(name)) for name in "abcd"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == ["a"]
    tasks[1].cancel()
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["a", "c", "d"]


async def test_a_place_given_to_a_cancelled_waiter_is_not_lost() -> None:
    """Admission and cancellation in the same turn of the loop."""
    lanes = HostLimiter(1)
    async with lanes.slot(RequestClass.SMALL):
        waiter = asyncio.create_task(_enter(lanes))
        await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    async with asyncio.timeout(5), lanes.slot(RequestClass.SMALL):
        pass


async def _enter(lanes: Any) -> None:
    async with lanes.slot(RequestClass.SMALL):
        await asyncio.sleep(0)


@given(st.lists(st.sampled_from(list(RequestClass)), max_size=30), st.integers(1, 9))
def test_the_limit_holds_for_any_order(lanes: Any, limit: Any) -> None:
    """Never more than one beyond the limit, and that one a download."""
    load = dict.fromkeys(RequestClass, 0)
    for lane in itertools.chain(lanes, lanes):
        if admits(lane, load, limit):
            load[lane] += 1
        assert sum(load.values()) <= limit + (load[RequestClass.DOWN] > 0)


@pytest.mark.parametrize(("after", "words"), [(None, "later"), (12.0, "in 12 s"), (3600.0, "in 1 h")])
def test_a_limited_rate_is_said_in_words(after: float | None, words: str) -> None:
    """Of a 429 the message says what it means and when to ask again."""
    request = HttpRequest("GET", "http://h.example/v2/a/tags/list", "h.example")
    error = refusal(request, 429, {}, b"", url=request.url, after=after)
    told = f"status 429 (the host limits the rate; ask again {words})"
    assert str(error) == f"h.example: GET /v2/a/tags/list: {told}"
