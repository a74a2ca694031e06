"""Many clients: the memory for their limits is bounded, and none pushes out those of another network."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.syncers.image.spec.front import AmountKeys, LimitKeys
from mirrord.syncers.image.through.clients import MOST_RIGHTS, MOST_UNITS, ClientKey, ClientTable, client_of
from mirrord.syncers.image.through.limits import PullLimits

KEYS = LimitKeys(pulls=10, pulls_a_minute=20, bytes=AmountKeys(amount=2**30, each=7200))
NGINX = "docker.io/library/nginx"
VICTIM = client_of("198.51.100.7")


def sha(number: int) -> str:
    return f"sha256:{number:064x}"


def pull(limits: PullLimits, client: ClientKey, now: float, tag: str = "1") -> None:
    """Pull an image of an index with two children, in two blobs."""
    admission = limits.admit_manifest(client, NGINX, tag, now)
    assert admission.granted
    limits.grant(client, NGINX, sha(int(tag)), [sha(1001), sha(1002)], admission=admission, now=now)
    for number in range(2):
        assert limits.admit_blob(client, NGINX, sha(2000 + number), now).granted
        limits.began(client, NGINX, now)
        limits.sent(client, 65536, now)
        limits.ended(client, NGINX, now)


def remembered(limits: PullLimits, client: ClientKey, now: float) -> bool:
    """Whether a client may still have the children of what it pulled as tag 1, free of charge."""
    record = limits._table.find(client)
    return record is not None and record.rights.get(hash((NGINX, sha(1001))), 0.0) > now


def everywhere(count: int) -> Iterator[ClientKey]:
    """Addresses of as many networks as there are."""
    return (client_of(str(IPv4Address(number * 2654435761 % 2**32))) for number in range(count))


def of_one_network(count: int) -> Iterator[ClientKey]:
    """Networks of 64 bits, which one customer of a provider has by the million."""
    return (client_of(str(IPv6Address((0x20010DB8 << 96) + (number << 64)))) for number in range(count))


@pytest.mark.parametrize("attack", [everywhere, of_one_network])
def test_a_unit_takes_so_many_bytes_that_the_table_stays_below_64_mib(attack: object) -> None:
    """However many clients come, the table weighs no more than it may, and its weight is honest."""
    assert callable(attack)
    most = 8_000
    limits = PullLimits(KEYS, ClientTable(most))
    gc.collect()
    tracemalloc.start()
    try:
        for number, client in enumerate(attack(4_000)):
            pull(limits, client, number * 60 / 4_000)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert limits._table.weight <= most
    assert taken / most * MOST_UNITS <= 64 * 2**20


def test_a_million_addresses_of_one_network_push_out_only_one_another() -> None:
    """Their network is the most crowded one, so that its own clients are forgotten."""
    limits = PullLimits(KEYS, ClientTable(2_000))
    pull(limits, VICTIM, 0.0)
    for number, client in enumerate(of_one_network(5_000)):
        pull(limits, client, number * 0.01)
    assert remembered(limits, VICTIM, 50.0)


def test_one_client_that_pulls_everything_pushes_out_only_itself() -> None:
    """What one client may hold is bounded, also when no limit of pulls slows it down."""
    limits = PullLimits(LimitKeys(pulls=10), ClientTable(MOST_UNITS))
    greedy, grants = client_of("203.0.113.9"), 30_000
    pull(limits, VICTIM, 0.0)
    for number in range(grants):
        pull(limits, greedy, 1.0 + number * 0.01, str(number))
    record = limits._table.find(greedy)
    assert record is not None
    assert len(record.rights) <= MOST_RIGHTS + 4
    assert remembered(limits, greedy, 1.0 + grants * 0.01)
    assert remembered(limits, VICTIM, 1.0 + grants * 0.01)


def test_an_index_of_very_many_manifests_grants_a_bounded_number() -> None:
    """A stranger's index does not fill the memory."""
    limits = PullLimits(KEYS)
    admission = limits.admit_manifest(VICTIM, NGINX, "1", 0.0)
    limits.grant(VICTIM, NGINX, sha(1), (sha(number) for number in range(2, 30_000)), admission=admission, now=0.0)
    record = limits._table.find(VICTIM)
    assert record is not None
    assert len(record.rights) <= 520


def test_clients_that_are_gone_are_forgotten() -> None:
    """Nothing is kept of who came an hour, or a window of bytes, ago."""
    limits = PullLimits(KEYS)
    for client in everywhere(1000):
        pull(limits, client, 0.0)
    for number in range(1000):
        pull(limits, VICTIM, 7200.0 + number * 3.1, "1")
    assert len(limits._table) == 1


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40)), max_size=200), st.integers(1, 400))
def test_the_weight_of_the_table_is_that_of_its_clients(taken: list[tuple[int, int]], most: int) -> None:
    """Whatever comes and goes, nothing is lost from the books, and the limit holds."""
    limits, now = PullLimits(LimitKeys(pulls=10), ClientTable(most)), 0.0
    for which, tag in taken:
        now += 1.0
        pull(limits, client_of(f"10.{which % 7}.0.{which}"), now, str(tag))
        table = limits._table
        assert table.weight == sum(client.weigh() for client in table._clients.values())
        assert table.weight == sum(network.weight for network in table._networks.values())
        assert {name for crowd in table._crowds for name in crowd} == set(table._networks)
        assert table.weight <= most or len(table) == 1
