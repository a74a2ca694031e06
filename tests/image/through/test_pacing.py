"""How fast content is sent, and how it is shared; on a loop whose clock jumps to whatever is next."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from ipaddress import ip_network
from typing import Any

import pytest

from mirrord.syncer.serving import Meter
from mirrord.syncers.image.spec.front import AmountKeys, BandwidthKeys, LimitKeys
from mirrord.syncers.image.through.clients import client_of
from mirrord.syncers.image.through.limits import PullLimits
from mirrord.syncers.image.through.pacing import Pacer
from tests.support.jumping import JumpingLoop

NGINX = "docker.io/library/nginx"
KIB, MIB = 2**10, 2**20
PIECE = 64 * KIB


class World:
    """Clients that read through one pacer."""

    def __init__(self, keys: LimitKeys) -> None:
        self.loop = JumpingLoop()
        self.limits = PullLimits(keys)
        self.pacer = Pacer(self.limits, self.loop.time)
        self.got = Counter[str]()  # bytes by client
        self.firsts: list[float] = []  # how long each first piece waited
        self.tasks: list[asyncio.Task[None]] = []

    def meter(self, address: str = "192.0.2.1", digest: str = "blob") -> Meter:
        return self.pacer.meter(client_of(address), NGINX, digest, lambda _: None)

    async def read(self, address: str, size: int, *, digest: str = "blob", slow: float = 0.0) -> None:
        """Read `size` bytes in one answer; `slow` is what each piece takes on its way."""
        meter, began = self.meter(address, digest), self.loop.time()
        assert meter.paced
        for left in range(size, 0, -PIECE):
            await meter.pace(min(left, PIECE))
            if left == size:
                self.firsts.append(self.loop.time() - began)
            if slow:
                await asyncio.sleep(slow)
            self.got[address] += min(left, PIECE)
            meter.sent(min(left, PIECE))
        meter.ended()

    def begin(self, reading: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(self.loop.create_task(reading))

    def after(self, seconds: float) -> Counter[str]:
        """Let so much time pass, and return what was got since the last time."""
        before = Counter(self.got)
        self.loop.run_until_complete(asyncio.sleep(seconds))
        return self.got - before

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            self.loop.run_until_complete(asyncio.wait(self.tasks))
        self.loop.close()


@pytest.fixture
def world() -> Any:
    made = list[World]()

    def make(**keys: Any) -> World:
        made.append(World(LimitKeys(**keys)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("connections", [1, 10])
def test_ranges_of_one_blob_share_its_rate(world: Any, connections: int) -> None:
    """2 MiB/s for a client and a blob, in however many ranges at once."""
    here = world(bandwidth=BandwidthKeys(blob=2 * MIB))
    for _ in range(connections):
        here.begin(here.read("192.0.2.1", 100 * MIB))
    got = here.after(20.0)["192.0.2.1"]
    assert 40 * MIB <= got <= 40 * MIB + connections * PIECE
    assert set(here.firsts) == {0.0}


def test_another_blob_and_another_client_have_their_own_rate(world: Any) -> None:
    """Three layers of one client and the same layer of another: each 1 MiB/s."""
    here = world(bandwidth=BandwidthKeys(blob=MIB))
    for digest in ("a", "b", "c"):
        here.begin(here.read("192.0.2.1", 100 * MIB, digest=digest))
    here.begin(here.read("192.0.2.2", 100 * MIB, digest="a"))
    got = here.after(10.0)
    assert 30 * MIB <= got["192.0.2.1"] <= 30 * MIB + 3 * PIECE
    assert 10 * MIB <= got["192.0.2.2"] <= 10 * MIB + PIECE


def test_small_ranges_one_after_the_other_do_not_get_round_the_rate(world: Any) -> None:
    """Each has a first piece that goes at once, but they are charged, and after five seconds' worth they wait."""
    here = world(bandwidth=BandwidthKeys(blob=MIB))

    async def drip() -> None:
        while True:
            await here.read("192.0.2.1", PIECE)
            await asyncio.sleep(0)

    here.begin(drip())
    assert here.after(100.0)["192.0.2.1"] <= 105 * MIB + 2 * PIECE
    assert here.firsts[:80] == [0.0] * 80


def test_after_a_pause_no_more_than_a_moment_is_made_up_for(world: Any) -> None:
    """A minute without a byte is no credit for a minute."""
    here = world(bandwidth=BandwidthKeys(blob=MIB))

    async def pausing() -> None:
        await here.read("192.0.2.1", MIB)
        await asyncio.sleep(60.0)
        await here.read("192.0.2.1", 100 * MIB)

    here.begin(pausing())
    here.after(61.0)
    assert here.after(10.0)["192.0.2.1"] <= 10 * MIB + 5 * PIECE


def test_all_together_keep_the_rate_and_each_client_gets_the_same(world: Any) -> None:
    """8 MiB/s for a client with twenty connections and three with one: a quarter each."""
    here = world(bandwidth=BandwidthKeys(all=8 * MIB))
    for number in range(20):
        here.begin(here.read("192.0.2.1", 100 * MIB, digest=f"{number}"))
    for client in ("192.0.2.2", "192.0.2.3", "192.0.2.4"):
        here.begin(here.read(client, 100 * MIB))
    here.after(1.0)
    got = here.after(10.0)
    assert sum(got.values()) == pytest.approx(80 * MIB, abs=4 * PIECE)
    for client in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"):
        assert got[client] == pytest.approx(20 * MIB, abs=4 * PIECE)


def test_a_slow_reader_holds_nothing_that_others_could_use(world: Any) -> None:
    """It takes its 64 KiB/s; all the rest goes to the one that can."""
    here = world(bandwidth=BandwidthKeys(all=8 * MIB))
    here.begin(here.read("192.0.2.1", 100 * MIB, slow=1.0))
    here.begin(here.read("192.0.2.2", 1000 * MIB))
    here.after(1.0)
    got = here.after(10.0)
    assert got["192.0.2.1"] == pytest.approx(10 * PIECE, abs=PIECE)
    assert sum(got.values()) == pytest.approx(80 * MIB, abs=4 * PIECE)


def test_a_newcomer_gets_its_first_piece_at_once_and_then_its_share(world: Any) -> None:
    """However many wait already: a client that gets no byte for long gives up."""
    here = world(bandwidth=BandwidthKeys(all=8 * MIB))
    for number in range(50):
        here.begin(here.read("192.0.2.1", 100 * MIB, digest=f"{number}"))
    here.after(5.0)
    here.firsts.clear()
    here.begin(here.read("192.0.2.2", 100 * MIB))
    got = here.after(10.0)
    assert here.firsts == [0.0]
    assert got["192.0.2.2"] == pytest.approx(40 * MIB, abs=4 * PIECE)


def test_first_pieces_without_end_starve_nobody(world: Any) -> None:
    """A client that asks for one small range after the other gets its share, not the link."""
    here = world(bandwidth=BandwidthKeys(all=8 * MIB))

    async def drip() -> None:
        while True:
            await here.read("192.0.2.1", PIECE)
            await asyncio.sleep(0)

    for _ in range(10):
        here.begin(drip())
    here.begin(here.read("192.0.2.2", 1000 * MIB))
    here.after(2.0)
    got = here.after(10.0)
    assert got["192.0.2.2"] == pytest.approx(40 * MIB, abs=10 * PIECE)
    assert sum(got.values()) == pytest.approx(80 * MIB, abs=10 * PIECE)


def test_clients_that_leave_take_nothing(world: Any) -> None:
    """Fifty that were waiting for their piece and are gone: the other has the link."""
    here = world(bandwidth=BandwidthKeys(all=8 * MIB))
    for number in range(50):
        here.begin(here.read(f"192.0.2.{number}", 100 * MIB))
    here.begin(here.read("198.51.100.1", 1000 * MIB))
    here.after(5.0)
    for task in here.tasks[:50]:
        task.cancel()
    here.after(1.0)
    assert here.after(10.0)["198.51.100.1"] == pytest.approx(80 * MIB, abs=4 * PIECE)


def test_both_rates_hold(world: Any) -> None:
    """A blob is not sent faster than its rate where the link would allow more, nor the link faster than its own."""
    here = world(bandwidth=BandwidthKeys(blob=MIB, all=8 * MIB))
    here.begin(here.read("192.0.2.1", 100 * MIB))
    here.after(1.0)
    assert here.after(10.0)["192.0.2.1"] == pytest.approx(10 * MIB, abs=2 * PIECE)
    for number in range(20):
        here.begin(here.read("192.0.2.2", 100 * MIB, digest=f"{number}"))
    here.after(6.0)
    assert sum(here.after(10.0).values()) == pytest.approx(80 * MIB, abs=25 * PIECE)


def test_other_rates_hold_from_the_next_piece_on(world: Any) -> None:
    """A reload reaches answers under way; without a rate everything that waits goes."""
    here = world(bandwidth=BandwidthKeys(blob=MIB, all=2 * MIB))
    for number in range(3):
        here.begin(here.read("192.0.2.1", 50 * MIB, digest=f"{number}"))
    here.after(4.0)
    here.limits.keys = LimitKeys(bandwidth=BandwidthKeys(all=4 * MIB))
    here.after(1.0)
    assert here.after(10.0)["192.0.2.1"] == pytest.approx(40 * MIB, abs=4 * PIECE)
    here.limits.keys = LimitKeys()
    here.after(1.0)
    assert here.got["192.0.2.1"] == 150 * MIB


def test_who_is_not_limited_is_not_paced(world: Any) -> None:
    """Without a rate, and for exempt clients, files go by sendfile."""
    assert not world().meter().paced
    here = world(bandwidth=BandwidthKeys(blob=MIB), exempt=(ip_network("10.0.0.0/8"),))
    assert here.meter("192.0.2.1").paced
    assert not here.meter("10.0.0.1").paced


def test_a_meter_counts_what_was_sent(world: Any) -> None:
    """Not what was announced: a client that leaves after sixteen pieces has had sixteen."""
    here = world(bytes=AmountKeys(amount=16 * PIECE, each=60))
    noted, client = list[int](), client_of("192.0.2.1")
    meter = here.pacer.meter(client, NGINX, "blob", noted.append)
    for number in range(16):
        assert here.limits.admit_manifest(client, NGINX, str(number), 0.0).granted
        meter.sent(PIECE)
    meter.ended()
    assert noted == [PIECE] * 16
    assert here.limits.admit_manifest(client, NGINX, "16", 59.0).retry_after == 1
    assert here.limits.admit_manifest(client, NGINX, "16", 60.0).granted


def test_a_pull_runs_until_the_last_of_its_answers_has_ended(world: Any) -> None:
    """Whether they are paced or not."""
    here, client = world(pulls=1), client_of("192.0.2.1")
    one, two = here.meter(), here.meter(digest="other")
    here.after(60.0)
    one.ended()
    here.after(60.0)
    assert here.limits.admit_manifest(client, "docker.io/x/y", "1", 120.0).limit == "pulls"
    two.ended()
    assert here.limits.admit_manifest(client, "docker.io/x/y", "1", 124.9).limit == "pulls"
    assert here.limits.admit_manifest(client, "docker.io/x/y", "1", 125.0).granted


def test_what_was_read_long_ago_takes_no_memory(world: Any) -> None:
    """Paces of blobs and places of clients are forgotten when nothing is owed for them."""
    here = world(bandwidth=BandwidthKeys(blob=MIB, all=100 * MIB))

    async def visits() -> None:
        for number in range(20_000):
            await here.read(f"10.{number >> 8}.{number & 255}.1", PIECE)
            await asyncio.sleep(0.001)

    here.begin(visits())
    here.after(60.0)
    assert sum(here.got.values()) == 20_000 * PIECE
    assert len(here.pacer._paid) < 4096
    assert len(here.pacer._queue._ends) < 4096
