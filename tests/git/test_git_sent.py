"""Bytes that go to hosts are counted: in the receipts of a run, and in what is told while they go."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.events import BytesSent, Events
from mirrord.model.run import Outcome, Run
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.host import HostBook, HostPolicy
from tests.support.gitcontent import fill
from tests.support.gitworld import GitWorld, open_git_world, receipts
from tests.support.sshhost import SSHD, SshHost

SIZE = 3_000_000  # more than is sent with its length


def told(events: Events) -> dict[str, int]:
    """Return the bytes that are told from now on, by whom they went to."""
    sums: dict[str, int] = {}

    def hear(event: object) -> None:
        if isinstance(event, BytesSent):
            sums[event.target] = sums.get(event.target, 0) + event.fresh

    events.listen(hear)
    return sums


def sent(run: Run, target: str) -> int:
    return sum(receipt.sent for receipt in receipts(run, target).values())


def packs(repository: Path) -> int:
    """Return the bytes of the packs that a host has kept as they came."""
    return sum(file.stat().st_size for file in (repository / "objects" / "pack").glob("*.pack"))


async def test_packs_over_http(world: GitWorld) -> None:
    """Each target counts the very bytes of the pack that it got, once for all refs of it."""
    source, first, second = [await world.host(name) for name in ("source", "first", "second")]
    upstream = Upstream(source.create("app.git"))
    fill(upstream, 30, SIZE)
    for host in (first, second):
        host.create("app.git", receive__unpackLimit="1")
    mirror = world.mirror(source.url("app.git"), one=first.url("app.git"), two=second.url("app.git"), local="local")
    sums = told(world.services.events)
    run = await world.run(mirror)
    came = [exchange.sent for exchange in source.log if "POST" in exchange.method]
    assert run.read == packs(world.cache(mirror).folder)
    assert run.read < max(came) < run.read * 1.01  # the pack, with a few bytes around each 64 KiB of it
    sizes = {"one": packs(first.path("app.git")), "two": packs(second.path("app.git")), "local": 0}
    assert sizes["one"] >= SIZE
    assert {name: sent(run, name) for name in sizes} == sizes
    assert sum(receipt.sent > 0 for receipt in run.receipts) == 2
    assert sums == {"app/one": sizes["one"], "app/two": sizes["two"]}
    assert sent(await world.run(mirror), "one") == 0
    upstream.commit("main", {"b": b"b" * 100})
    again = await world.run(mirror)
    assert 100 < sent(again, "one") < 2000
    assert sums["app/one"] == sizes["one"] + sent(again, "one")
    upstream.delete("refs/tags/v1")
    assert sent(await world.run(mirror), "one") == 0, "a deletion has no content"


@pytest.mark.skipif(not SSHD, reason="needs sshd")
async def test_packs_over_ssh(tmp_path: Path) -> None:
    """Over ssh it is the same: the very bytes of the pack, told while they go."""
    async with SshHost(tmp_path / "ssh") as host:
        policy = HostPolicy(host.host, ssh_key=str(host.key), known_hosts=str(host.known_hosts))
        upstream, there = (Upstream(host.create(name)) for name in ("up.git", "app.git"))
        there.git("config", "receive.unpackLimit", "1")
        fill(upstream, 100, SIZE)
        async with open_git_world(tmp_path / "state", book=HostBook({host.host: policy})) as world:
            sums = told(world.services.events)
            run = await world.run(world.mirror(host.url("up.git"), one=host.url("app.git")))
    assert there.refs() == upstream.refs()
    assert {receipt.outcome for receipt in run.receipts} == {Outcome.DONE}
    assert sent(run, "one") == packs(there.path)
    assert sums == {"app/one": sent(run, "one")}
