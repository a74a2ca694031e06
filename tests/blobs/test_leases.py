"""Content that somebody brings or relies on is not removed under them; all other content that nobody links is."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrord.blobs.collector import Collector
from mirrord.blobs.disk import DiskStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.leases import Leases
from mirrord.blobs.reachable import unneeded
from mirrord.blobs.repositories import ManifestRef
from mirrord.blobs.uses import DiskUses
from mirrord.model.digest import Digest
from tests.support.localstore import place_in

BODIES = {Digest.of(b"%d" % number): b"%d" % number for number in range(6)}
ONE, TWO, *_ = BODIES


def link(*refs: Digest, subject: str | None = "") -> ManifestRef:
    return ManifestRef("application/json", 1, refs, subject)


async def test_a_removal_takes_only_what_nobody_holds() -> None:
    """What somebody has a lease on stays; a lease of the caller's own does not count; afterwards it may go."""
    leases = Leases()
    mine, theirs = leases.lease(), leases.lease()
    await mine.hold([ONE])
    await theirs.hold([TWO])
    with leases.removing(BODIES, mine) as free:
        assert free == BODIES.keys() - {TWO}
    theirs.release()
    with leases.removing([TWO]) as free:
        assert free == {TWO}


async def test_a_forgotten_lease_ends() -> None:
    """A lease that nobody has any more, released or not, holds nothing."""
    leases = Leases()
    lease = leases.lease()
    await lease.hold([ONE])
    del lease
    with leases.removing([ONE]) as free:
        assert free == {ONE}


async def test_who_comes_during_a_removal_waits_for_its_end() -> None:
    """Nobody gets a lease on what is being removed before it is gone, so that nobody finds it; others do not wait."""
    leases, order = Leases(), list[str]()
    lease = leases.lease()

    async def come() -> None:
        await lease.hold([ONE])
        order.append("held")

    with leases.removing([ONE]):
        task = asyncio.create_task(come())
        await leases.lease().hold([TWO])
        await asyncio.sleep(0)
        order.append("gone")
    await task
    assert order == ["gone", "held"]


async def test_what_was_needed_during_a_collection_stays() -> None:
    """A lease that ended during a collection, and what was published then, count for it, and not for the next one."""
    leases = Leases()
    async with leases.collecting():
        with leases.lease() as lease:
            await lease.hold([ONE])
        leases.need([TWO])
        with leases.removing([ONE, TWO]) as free:
            assert not free
    async with leases.collecting():
        with leases.removing([ONE, TWO]) as free:
            assert free == {ONE, TWO}


async def test_writers_against_removals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of publishes race with removals of the same content: nobody ever links what is not there."""
    store, repositories = DiskStore(tmp_path / "blobs"), DiskRepositories(tmp_path / "repositories")
    chance, there = random.Random(7), 0
    bodies = {Digest.of(b"body %d" % number): b"body %d" % number for number in range(40)}
    removed, unlink = list[Digest](), store.remove

    async def counted(digest: Digest) -> None:
        removed.extend({digest} - await store.missing([digest]))
        await unlink(digest)

    monkeypatch.setattr(store, "remove", counted)

    async def write(number: int) -> None:
        nonlocal there
        name = f"app{number}"
        for _ in range(60):
            with repositories.lease() as lease:
                some = chance.sample(sorted(bodies), 2)
                await lease.hold(some)
                missing = await store.missing(some)
                there += len(some) - len(missing)
                for digest in missing:
                    await store.put(digest, bodies[digest])
                await repositories.publish(name, {digest: link() for digest in some}, {"v": some[0]})
            state = await repositories.state(name)
            assert state is not None
            assert not await store.missing(state.manifests)
            await repositories.drop(name, state.tags, state.manifests)

    async def remove() -> None:
        while True:
            await repositories.remove_unlinked(store, set(bodies), repositories.lease())

    removing = asyncio.create_task(remove())
    await asyncio.gather(*map(write, range(3)))
    removing.cancel()
    await asyncio.gather(removing, return_exceptions=True)
    assert len(removed) > 30  # otherwise this says nothing
    assert there > 30


async def test_linked_content_is_not_removed(tmp_path: Path) -> None:
    """What any repository links stays, whoever wants it removed; the rest of it goes."""
    store, repositories = DiskStore(tmp_path / "blobs"), DiskRepositories(tmp_path / "repositories")
    for digest, body in BODIES.items():
        await store.put(digest, body)
    await repositories.publish("team/other", {ONE: link(TWO)}, {})
    await repositories.remove_unlinked(store, set(BODIES), repositories.lease())
    assert {digest for digest in BODIES if place_in(store, digest)} == {ONE, TWO}


async def test_a_removal_that_is_cancelled_ends_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants content that is being removed waits for the thread that does it, also when its caller was cancelled."""
    store, repositories = DiskStore(tmp_path / "blobs"), DiskRepositories(tmp_path / "repositories")
    await store.put(ONE, BODIES[ONE])
    began, may, unlink = threading.Event(), threading.Event(), Path.unlink

    def slow(path: Path, missing_ok: bool = False) -> None:
        began.set()
        may.wait()
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", slow)
    collector = Collector(store, repositories, DiskUses(store.place))
    async with collector.collection() as collection:
        removing = asyncio.create_task(collection.remove([ONE]))
        await asyncio.to_thread(began.wait)
        removing.cancel()
        await asyncio.gather(removing, return_exceptions=True)
    holding = asyncio.create_task(repositories.lease().hold([ONE]))
    await asyncio.sleep(0)
    waits = not holding.done()
    may.set()
    await holding
    assert waits
    assert await store.missing([ONE]) == {ONE}


async def test_a_signature_stays_with_its_image(tmp_path: Path) -> None:
    """While somebody needs an image, the tag that is about it stays, too; afterwards both go."""
    repositories = DiskRepositories(tmp_path / "repositories")
    tags = {"v1": ONE, f"sha256-{ONE.hex}.sig": TWO}
    await repositories.publish("app", {ONE: link(), TWO: link()}, tags)
    about = {f"sha256-{ONE.hex}.sig": ONE}
    with repositories.lease() as lease:
        await lease.hold([ONE])
        assert await repositories.drop("app", tags, about=about) == (frozenset(), frozenset())
    assert await repositories.drop("app", tags, about=about) == (frozenset(tags), frozenset([ONE, TWO]))


DIGESTS = sorted(BODIES)
GRAPHS = st.lists(
    st.tuples(st.sets(st.sampled_from(range(6))), st.sampled_from(["", None, *range(6)])), min_size=6, max_size=6
)


@given(
    GRAPHS, st.sets(st.sampled_from(range(6))), st.sets(st.sampled_from(range(6))), st.sets(st.sampled_from(range(6)))
)
@settings(max_examples=300, deadline=None)
def test_nothing_that_stays_lacks_anything(
    graph: list[tuple[set[int], str | int | None]], tagged: set[int], tops: set[int], held: set[int]
) -> None:
    """Whatever goes: all that a tag or a lease reaches stays whole, and so do signatures of what stays."""
    manifests = {
        DIGESTS[number]: link(
            *(DIGESTS[ref] for ref in sorted(refs) if ref > number),  # no manifest can contain itself
            subject=DIGESTS[subject] if isinstance(subject, int) and subject != number else None,
        )
        for number, (refs, subject) in enumerate(graph)
    }
    tags = {f"v{number}": DIGESTS[number] for number in tagged}
    needed = {DIGESTS[number] for number in held}
    going = unneeded(tags, manifests, {DIGESTS[number] for number in tops}, needed)
    stay = manifests.keys() - going
    assert stay >= {*tags.values(), *needed}
    for digest in stay:
        assert going.isdisjoint(manifests[digest].refs)
    for digest in going:
        assert manifests[digest].subject not in stay or digest in {DIGESTS[number] for number in tops}
