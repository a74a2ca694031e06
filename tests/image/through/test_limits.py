"""What each client may pull: who is refused, for how long, and what is never refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.syncers.image.spec.front import AmountKeys, LimitKeys
from mirrord.syncers.image.through.clients import ClientKey, client_of
from mirrord.syncers.image.through.limits import LINGER, Admission, PullLimits

ONE = client_of("192.0.2.1")
TWO = client_of("192.0.2.2")
NGINX = "docker.io/library/nginx"
MIB, GIB = 2**20, 2**30


def sha(number: int) -> str:
    return f"sha256:{number:064x}"


def pulled(
    limits: PullLimits, now: float, repository: str = NGINX, tag: str = "1", client: ClientKey = ONE
) -> Admission:
    """Ask for a manifest by tag, and get an index of two children."""
    admission = limits.admit_manifest(client, repository, tag, now)
    if admission.granted:
        limits.grant(
            client, repository, sha(hash((repository, tag)) % 2**64), [sha(1), sha(2)], admission=admission, now=now
        )
    return admission


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64"), ("", "unknown"),
        ("nonsense", "unknown"), ("192.0.2.1, 10.0.0.1", "unknown"), ("1" * 5000, "unknown"),
    ],
)  # fmt: skip
def test_who_is_one_client(address: str, name: str) -> None:
    """An IPv4 address in any spelling, 64 bits of IPv6, and all that cannot be read together."""
    assert client_of(address).name == name


def test_a_token_is_a_client_wherever_it_is_used() -> None:
    """A read token is its own client, and its network does not matter."""
    assert client_of("192.0.2.1", "ci").name == client_of("2001:db8::1", "ci").name == "token ci"
    assert client_of("192.0.2.1", "192.0.2.1").name != ONE.name


def test_the_pull_beyond_the_minute_is_refused_with_a_time_that_is_true() -> None:
    """20 a minute: the 21st is told when the first is a minute old, and is granted then."""
    limits = PullLimits(LimitKeys(pulls_a_minute=20))
    assert all(pulled(limits, number * 0.1, tag=str(number)).granted for number in range(20))

    refused = pulled(limits, 12.4, tag="20")

    assert refused.limit == "pulls_a_minute"
    assert refused.retry_after == 48
    assert refused.reason == f"20 pulls a minute are allowed for each client; {ONE.name} may ask again in 48 s"
    assert not pulled(limits, 59.0, tag="20").granted
    assert pulled(limits, 12.4 + 48, tag="20").granted
    assert pulled(limits, 12.4, tag="20", client=TWO).granted


def test_repeating_a_refused_request_changes_nothing() -> None:
    """A client that asks a thousand times is told the same moment, and gets it then."""
    limits = PullLimits(LimitKeys(pulls_a_minute=1))
    assert pulled(limits, 0.0).granted
    for number in range(1000):
        now = 1.0 + number * 0.05
        refused = pulled(limits, now, tag="2")
        assert 60.0 <= now + refused.retry_after < 61.0
    assert pulled(limits, 60.0, tag="2").granted


def test_what_docker_asks_for_is_one_pull() -> None:
    """HEAD and GET by tag, GET by digest, a child, config and layers in ranges: one pull."""
    limits = PullLimits(LimitKeys(pulls=1, pulls_a_minute=1, bytes=AmountKeys(amount=MIB, each=7200)))
    assert pulled(limits, 0.0).granted
    limits.sent(ONE, GIB, 0.5)

    assert pulled(limits, 1.0).granted
    index = sha(hash((NGINX, "1")) % 2**64)
    assert limits.admit_manifest(ONE, NGINX, index, 2.0).granted
    child = limits.admit_manifest(ONE, NGINX, sha(2), 3.0)
    limits.grant(ONE, NGINX, sha(2), [], admission=child, now=3.0)
    assert all(limits.admit_blob(ONE, NGINX, sha(number % 12), 4.0).granted for number in range(100))
    assert not pulled(limits, 5.0, tag="2").granted


def test_fifty_nodes_behind_one_address_that_pull_one_image_are_one_pull() -> None:
    """A NAT shares the limits, and what is the same counts once."""
    limits = PullLimits(LimitKeys(pulls=1, pulls_a_minute=1))
    for number in range(50):
        assert pulled(limits, number * 1.0).granted
        assert limits.admit_blob(ONE, NGINX, sha(9), number + 0.5).granted
        limits.began(ONE, NGINX, number + 0.5)
    assert pulled(limits, 60.0).granted


@pytest.mark.parametrize("late", [3599.0, 3600.0])
def test_children_and_blobs_are_free_for_an_hour(late: float) -> None:
    """Whatever the client has used up since; after the hour they are asked for like any pull."""
    limits = PullLimits(LimitKeys(pulls_a_minute=1))
    assert pulled(limits, 0.0).granted
    assert pulled(limits, late - 0.5, repository="docker.io/library/other").granted

    assert limits.admit_manifest(ONE, NGINX, sha(1), late).granted is (late < 3600)
    assert limits.admit_blob(ONE, NGINX, sha(9), late).granted is (late < 3600)
    assert not limits.admit_blob(TWO, NGINX, sha(9), late + 1.0).reason


def test_the_hour_does_not_begin_again() -> None:
    """Asking for what is free, over and over, does not make it free for longer."""
    limits = PullLimits(LimitKeys(pulls_a_minute=1))
    assert pulled(limits, 0.0).granted
    for now in (1800.0, 3500.0):
        again = limits.admit_manifest(ONE, NGINX, sha(1), now)
        limits.grant(ONE, NGINX, sha(1), [sha(3)], admission=again, now=now)
    assert pulled(limits, 3590.0, repository="docker.io/library/other").granted

    for free in (sha(1), sha(3)):
        assert not limits.admit_manifest(ONE, NGINX, free, 3601.0).granted
    assert not limits.admit_blob(ONE, NGINX, sha(9), 3601.0).granted


def test_a_slow_pull_gets_its_last_blobs_after_the_hour() -> None:
    """While content goes to the client without a pause its pull goes on, for up to six hours."""
    limits = PullLimits(LimitKeys(pulls_a_minute=1))
    assert pulled(limits, 0.0).granted
    limits.began(ONE, NGINX, 1.0)
    assert pulled(limits, 7199.0, repository="docker.io/library/other").granted
    limits.ended(ONE, NGINX, 7200.0)
    assert limits.admit_blob(ONE, NGINX, sha(9), 7204.0).granted
    limits.began(ONE, NGINX, 7204.0)
    assert pulled(limits, 6 * 3600.0, repository="docker.io/library/other").granted
    assert not limits.admit_blob(ONE, NGINX, sha(9), 6 * 3600.0 + 1).granted


def test_a_blob_without_a_manifest_counts_like_one() -> None:
    """A client that has the manifest from elsewhere gets the blobs as one pull, or is refused as one."""
    limits = PullLimits(LimitKeys(pulls_a_minute=1))
    assert all(limits.admit_blob(ONE, NGINX, sha(number), number * 100.0).granted for number in range(36))
    assert limits.admit_blob(ONE, "docker.io/library/other", sha(1), 3550.0).granted
    assert limits.admit_blob(ONE, "docker.io/library/third", sha(1), 3551.0).limit == "pulls_a_minute"


def test_pulls_at_once_are_repositories_until_five_seconds_after_their_last_blob() -> None:
    """Ten ranges are one pull; the time to come back is that of the one that ends first."""
    limits = PullLimits(LimitKeys(pulls=2))
    for name in ("a", "b"):
        assert pulled(limits, 0.0, repository=f"docker.io/x/{name}").granted
        for _ in range(10):
            limits.began(ONE, f"docker.io/x/{name}", 1.0)
    assert pulled(limits, 2.0, repository="docker.io/x/a", tag="another").granted

    unknown = pulled(limits, 50.0, repository="docker.io/x/c")
    assert (unknown.limit, unknown.retry_after) == ("pulls", 5)
    assert unknown.reason == f"2 pulls at once are allowed for each client; {ONE.name} may ask again in 5 s"
    for number in range(10):
        limits.ended(ONE, "docker.io/x/b", 60.0 + number)
    assert pulled(limits, 70.5, repository="docker.io/x/c").retry_after == 4
    assert pulled(limits, 69.0 + LINGER, repository="docker.io/x/c").granted


def test_bytes_are_those_sent_within_the_window() -> None:
    """1 GiB each 2 h: more is sent for what was granted; the next manifest waits until less than that remains."""
    limits = PullLimits(LimitKeys(bytes=AmountKeys(amount=GIB, each=7200)))
    assert pulled(limits, 0.0).granted
    for number in range(10):
        limits.sent(ONE, GIB // 4, number * 600.0)
        assert limits.admit_blob(ONE, NGINX, sha(9), min(number * 600.0, 3599.0)).granted

    refused = pulled(limits, 5400.0, tag="2")

    assert refused.limit == "bytes"
    assert refused.reason == f"1GiB in 2h are allowed for each client; {ONE.name} may ask again in 5400 s"
    assert pulled(limits, 5400.0, tag="2", client=TWO).granted
    assert not pulled(limits, 10799.0, tag="2").granted
    assert pulled(limits, 10800.0, tag="2").granted


def test_many_small_pieces_take_no_memory_and_none_is_lost() -> None:
    """A window holds at most some sixty sums; together they are what was sent."""
    limits = PullLimits(LimitKeys(bytes=AmountKeys(amount=10 * MIB, each=3600)))
    for number in range(100_000):
        limits.sent(ONE, 105, number * 0.035)
    record = limits._table.find(ONE)
    assert record is not None
    assert len(record.sent) <= 62
    assert sum(count for _, _, count in record.sent) == 10_500_000
    assert pulled(limits, 3500.0).limit == "bytes"
    assert pulled(limits, 3500.0).retry_after == 160
    assert pulled(limits, 3660.0).granted


def test_exempt_networks_have_no_limits() -> None:
    """Neither the address nor a token used from there; others stay limited."""
    keys = LimitKeys(pulls=1, pulls_a_minute=1, exempt=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")))
    limits = PullLimits(keys)
    for address, token in (("10.1.2.3", None), ("::ffff:10.1.2.3", None), ("2001:db8::5", None), ("10.1.2.3", "ci")):
        client = client_of(address, token)
        assert all(pulled(limits, 0.0, f"docker.io/x/{n}", client=client).granted for n in range(50))
    assert pulled(limits, 0.0, "docker.io/x/1").granted
    assert not pulled(limits, 0.0, "docker.io/x/2").granted
    assert pulled(limits, 0.0, "docker.io/x/2", client=client_of("")).granted


def test_other_limits_hold_at_once_and_forget_nothing() -> None:
    """A lower limit counts what was; a grant stays one."""
    limits = PullLimits(LimitKeys(pulls_a_minute=20))
    assert all(pulled(limits, float(number), tag=str(number)).granted for number in range(10))

    limits.keys = LimitKeys(pulls_a_minute=3)

    assert pulled(limits, 10.0, tag="new").retry_after == 57
    assert limits.admit_manifest(ONE, NGINX, sha(1), 10.0).granted
    limits.keys = LimitKeys()
    assert pulled(limits, 10.0, tag="new").granted


def test_without_limits_nothing_is_remembered() -> None:
    """An open front keeps nothing about its clients."""
    limits = PullLimits(LimitKeys())
    assert pulled(limits, 0.0).granted
    limits.began(ONE, NGINX, 0.0)
    limits.sent(ONE, 5, 0.0)
    limits.ended(ONE, NGINX, 0.0)
    assert len(limits._table) == 0


steps = st.lists(
    st.tuples(
        st.sampled_from(["manifest", "began", "ended", "sent"]),
        st.integers(0, 5),  # which repository or tag
        st.floats(0, 20, allow_nan=False),  # seconds since the step before
        st.integers(1, 400),  # MiB
    ),
    max_size=80,
)


@given(steps, st.integers(1, 3), st.integers(1, 5), st.integers(1, 2000), st.floats(60, 600))
def test_every_refusal_is_right_and_its_time_is_true(
    taken: list[tuple[str, int, float, int]], pulls: int, minute: int, amount: int, each: float
) -> None:
    """Against a plain model: no more than allowed is granted, and after `Retry-After` the same request is."""
    limits = PullLimits(LimitKeys(pulls=pulls, pulls_a_minute=minute, bytes=AmountKeys(amount=amount * MIB, each=each)))
    now, granted = 1000.0, list[float]()
    open_ = Counter[str]()
    for what, which, later, count in taken:
        now += later
        repository = f"docker.io/x/{which}"
        if what == "sent":
            limits.sent(ONE, count * MIB, now)
        elif what == "began":
            limits.began(ONE, repository, now)
            open_[repository] += 1
        elif what == "ended":
            if open_[repository]:
                open_[repository] -= 1
                limits.ended(ONE, repository, now)
        else:
            record = limits._table.find(ONE)
            free = record is not None and record.rights.get(hash((repository, "tag")), 0.0) > now
            admission = limits.admit_manifest(ONE, repository, "tag", now)
            if admission.granted and not free:
                granted = [at for at in granted if at + 60 > now + 1e-6]
                granted.append(now)
                assert len(granted) <= minute
            if admission.granted:
                continue
            assert admission.retry_after >= 1
            assert isinstance(admission.retry_after, int)
            if admission.limit != "pulls" or not any(open_.values()):
                assert _later(limits, repository, now + admission.retry_after, bool(+open_))


def _later(limits: PullLimits, repository: str, now: float, sending: bool) -> bool:
    """Whether the request is granted then, asked of a copy, so that the scenario goes on as it was."""
    record = limits._table.find(ONE)
    copy = PullLimits(limits.keys)
    if record is not None:
        twin = replace(
            record, pulls=[*record.pulls], rights={**record.rights}, sending={**record.sending},
            lingering={**record.lingering}, sent=[*record.sent], weight=0,
        )  # fmt: skip
        copy._table.keep(twin, now, 1e9)
    admission = copy.admit_manifest(ONE, repository, "tag", now)
    return admission.granted or (admission.limit == "pulls" and sending)
