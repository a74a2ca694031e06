"""What a host allows, as its answers say it: quotas, pauses and reserves, without clock and I/O (faults F12, F30)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.wire.http.budget import (
    LONGEST_BELIEF,
    LONGEST_PAUSE,
    Budget,
    Quota,
    counts,
    is_quota,
    limited,
    pause_of,
    quota_of,
)
from mirrord.wire.http.message import HttpRequest
from mirrord.wire.http.pace import Concurrency
from mirrord.wire.http.shares import MOST, HostShares
from mirrord.wire.oci.profiles import PROFILES

NOW = 1_800_000_000.0
WINDOW = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600"}


@pytest.mark.parametrize(
    ("headers", "quota"),
    [
        (WINDOW, Quota(76, 100, 21600.0)),
        ({"ratelimit-remaining": "76", "ratelimit-limit": "100, 100;w=60"}, Quota(76, 100)),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-limit": "60", "x-ratelimit-reset": "1800000030"},
         Quota(0, 60, None, 30.0)),
        ({"ratelimit-remaining": "5", "ratelimit-reset": "12"}, Quota(5, 0, None, 12.0)),
        ({"ratelimit-remaining": "75", "ratelimit-limit": "²"}, Quota(75)),
        ({"ratelimit-limit": "100;w=21600"}, None),
        *(({"ratelimit-remaining": text}, None) for text in ("", "x", "²", "-1", "1.5", "76x", "9" * 5000)),
        ({}, None),
    ],
)  # fmt: skip
def test_quotas_in_every_spelling(headers: Any, quota: Any) -> None:
    """Docker Hub's window, GitHub's and GitLab's Unix time, the draft's seconds; nonsense says nothing."""
    assert quota_of(headers, NOW) == quota


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "600"}, 600.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:10:00 GMT"}, 600.0),
        ({"retry-after": "1800000600"}, 600.0),
        ({"x-retry-after": "1800000600"}, 600.0),
        ({"retry-after": "soon", "x-retry-after": "5"}, 5.0),
        ({"retry-after": "1000000000"}, LONGEST_PAUSE), ({"retry-after": "0"}, None),
        ({"retry-after": "0", "ratelimit-reset": "60"}, 60.0), ({"retry-after": "-7", "x-retry-after": "5"}, 5.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000060"}, 60.0),
        ({"ratelimit-reset": "60"}, 60.0),
        ({"x-ratelimit-remaining": "12", "x-ratelimit-reset": "1800000060"}, None),  # GitHub's secondary limits
        (WINDOW, None), ({}, None), ({"retry-after": "²"}, None),
    ],
)  # fmt: skip
def test_the_time_to_come_back_in_every_header(headers: Any, seconds: Any) -> None:
    """`Retry-After` in all its forms, Docker Hub's `X-Retry-After`, and when a used-up quota is renewed."""
    assert pause_of(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (429, {}, True), (403, {}, False), (403, {"x-ratelimit-remaining": "0"}, True),
        (403, {"x-ratelimit-remaining": "7", "retry-after": "9"}, True), (403, {"retry-after": "9"}, False),
        (403, {"x-ratelimit-remaining": "7"}, False), (503, {"retry-after": "9"}, False),
    ],
)  # fmt: skip
def test_github_limits_by_403(status: Any, headers: Any, expected: Any) -> None:
    """A 403 with nothing left, or with a time to come back, is no refusal."""
    assert limited(status, headers) is expected


def test_docker_hub_charges_manifests_alone() -> None:
    """HEAD and blobs are free there; elsewhere everything may be charged."""
    url = "https://registry-1.docker.io/v2/library/alpine/manifests/3"
    hub = PROFILES["hub"]
    assert counts(HttpRequest("GET", url, "docker.io"), hub)
    assert not counts(HttpRequest("HEAD", url, "docker.io"), hub)
    assert not counts(HttpRequest("GET", url.replace("manifests/3", "blobs/sha256:0"), "docker.io"), hub)
    assert counts(HttpRequest("HEAD", "https://ghcr.io/v2/a/manifests/3", "ghcr.io"), PROFILES["ghcr"])


def test_docker_hub_has_two_429() -> None:
    """The quota concerns what is charged, the limit against abuse everything (docker/hub-feedback#1907); both hold."""
    hub = PROFILES["hub"]
    quota = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}'
    assert is_quota(hub, {}, quota)
    assert not is_quota(hub, {}, b"Too Many Requests (HAP429)")
    budget = Budget()
    budget.refused(60.0, 0.0, partly=True)
    assert budget.wait(1.0, charged=True, reserved=False)
    assert not budget.wait(1.0, charged=False, reserved=False)
    budget.refused(30.0, 1.0)
    assert budget.wait(2.0, charged=False, reserved=False) == (29.0, "asked us to wait")
    assert not budget.wait(31.0, charged=False, reserved=False)
    assert budget.wait(31.0, charged=True, reserved=False) == (29.0, "asked us to wait")


def test_schedules_leave_a_reserve_to_people() -> None:
    """A fifth, at least ten; people may use all of it, and what HEADs of Docker Hub say counts at once."""
    budget = Budget()
    budget.note(Quota(21, 100, 21600.0), 0.0)
    assert not budget.wait(1.0, charged=True, reserved=True)
    budget.spend()
    wait = budget.wait(1.0, charged=True, reserved=True)
    assert wait
    assert wait.seconds == LONGEST_BELIEF - 1.0
    assert "kept for people: scheduled runs leave 20 of 100" in wait.reason
    assert not budget.wait(1.0, charged=False, reserved=True)
    for _ in range(20):
        assert not budget.wait(1.0, charged=True, reserved=False)
        budget.spend()
    assert not budget.wait(1.0, charged=True, reserved=False)  # the window slides: the host knows better
    budget.note(Quota(99, 100, 21600.0), 2.0)
    assert not budget.wait(2.0, charged=True, reserved=True)


def test_a_small_quota_is_no_reserve_alone() -> None:
    """Of ten requests an hour five are left, or nothing would ever be mirrored."""
    budget = Budget()
    budget.note(Quota(10, 10, 3600.0), 0.0)
    assert budget.reserve == 5
    assert not budget.wait(0.0, charged=True, reserved=True)


def test_a_named_end_holds_for_all() -> None:
    """When the host says when it renews an empty quota, nobody asks before; afterwards everybody may."""
    budget = Budget()
    budget.note(Quota(0, 60, None, 120.0), 0.0)
    assert budget.wait(119.0, charged=True, reserved=False) == (1.0, "allows 0 more requests")
    assert not budget.wait(120.0, charged=True, reserved=True)


def test_a_number_without_a_time_holds_nobody() -> None:
    """What is left says nothing about when there will be more."""
    budget = Budget()
    budget.note(Quota(0, 100), 0.0)
    assert not budget.wait(0.0, charged=True, reserved=True)


def test_without_headers_nothing_is_reserved() -> None:
    """No quota is unlimited."""
    assert not Budget().wait(0.0, charged=True, reserved=True)


@given(st.floats(0, 1e12), st.floats(0, 1e12))
def test_no_pause_is_for_ever(asked: float, now: float) -> None:
    """Whatever a host asks for, it is asked again after a day."""
    budget = Budget()
    budget.refused(asked, now)
    budget.note(Quota(0, 100, None, asked), now)
    assert not budget.wait(now + LONGEST_PAUSE + 1.0, charged=True, reserved=True)


_HEADER = st.text(max_size=60) | st.from_regex(
    r"\s*[0-9]{1,20}\s*;?\s*(w\s*=\s*[0-9]{0,12})?,?[0-9]{0,4}", fullmatch=True
)
_NAMES = ("retry-after", "x-retry-after", *(f"{x}ratelimit-{name}" for x in ("", "x-")
          for name in ("limit", "remaining", "reset")))  # fmt: skip


@given(st.dictionaries(st.sampled_from(_NAMES), _HEADER))
def test_whatever_headers_say(headers: dict[str, str]) -> None:
    """Numbers are finite and not negative, and a budget can take them."""
    quota, seconds = quota_of(headers, NOW), pause_of(headers, NOW)
    budget = Budget()
    if quota is not None:
        assert quota.remaining >= 0 <= quota.limit
        budget.note(quota, 0.0)
        budget.spend()
    if seconds is not None:
        assert 0 <= seconds < float("inf")
        budget.refused(seconds, 0.0)
    wait = budget.wait(0.0, charged=True, reserved=True)
    assert wait is None or 0 < wait.seconds <= LONGEST_PAUSE


def test_one_overload_halves_once() -> None:
    """Eight requests that fail together are one overload; those that began later count anew, down to one at a time."""
    pace = Concurrency(8)
    for _ in range(8):
        pace.overloaded(0)
    assert (pace.limit, pace.epoch) == (4, 1)
    for epoch in range(1, 10):
        pace.overloaded(epoch)
    assert pace.limit == 1


def test_it_grows_by_one_for_each_window_of_successes() -> None:
    """As many answers as may be under way earn one more, up to what is configured; older answers earn nothing."""
    pace = Concurrency(3)
    pace.overloaded(0)
    assert pace.limit == 1
    assert not pace.went_well(0)
    assert pace.went_well(1)
    assert [pace.went_well(1) for _ in range(2)] == [False, True]
    assert pace.limit == 3
    assert not pace.went_well(1)


@given(st.integers(1, 256), st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=300))
def test_it_stays_between_one_and_the_ceiling(ceiling: int, ends: list[tuple[bool, int]]) -> None:
    """Whatever order answers come in."""
    pace = Concurrency(ceiling)
    for good, age in ends:
        (pace.went_well if good else pace.overloaded)(max(0, pace.epoch - age))
        assert 1 <= pace.limit <= ceiling


def test_so_many_accounts_of_a_host_are_known_at_most() -> None:
    """Credentials that are renewed are accounts that nobody uses again; a pause that still holds outlives them."""
    shares = HostShares()
    shares.budget("h", "paused").refused(600.0, NOW)
    for number in range(3 * MOST):
        shares.budget("h", number).refused(60.0, NOW)
    assert len(shares.budgets("h")) == MOST
    assert {"paused", 3 * MOST - 1} <= {*shares.budgets("h")}
