"""The names of a front's cache: what is pinned by them, and that none outlives its content."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from mirrord import failpoints
from mirrord.blobs import content_cache
from mirrord.blobs.content_cache import ContentCache, open_cache
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.repositories import ManifestRef, RepositoryState
from mirrord.events import Events
from mirrord.model.digest import Digest

KIB = 1 << 10
APP, PAUSE = "docker.io/library/app", "registry.k8s.io/pause"


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[ContentCache]:
    (tmp_path / "spool").mkdir()
    pool = SpoolPool(tmp_path / "spool", 1 << 20, Events())
    async with open_cache(tmp_path / "cache", pool) as cache:
        yield cache


def data_of(text: str) -> bytes:
    return text.encode().ljust(KIB)


def digest_of(text: str) -> Digest:
    return Digest.of(data_of(text))


async def pull(cache: ContentCache, name: str, tag: str, image: str) -> Sequence[Digest]:
    """Keep an image of one manifest and one blob as a front does, the blob first, and return their digests."""
    manifest, blob = digest_of(f"manifest of {image}"), digest_of(f"blob of {image}")
    await cache.store.put(blob, data_of(f"blob of {image}"))
    await cache.store.put(manifest, data_of(f"manifest of {image}"))
    await cache.link(name, {manifest: ManifestRef("application/json", KIB, (blob,))}, {tag: manifest} if tag else {})
    return manifest, blob


def again(tmp_path: Path) -> DiskRepositories:
    """Return the names as another process reads them."""
    return DiskRepositories(tmp_path / "cache" / "repositories")


async def test_names_of_evicted_manifests_go(cache: ContentCache, tmp_path: Path) -> None:
    """A tag and a link go with the manifest; what is still there stays linked, and an empty repository goes as well."""
    old, _ = await pull(cache, APP, "1", "one")
    await pull(cache, PAUSE, "3.9", "pause")
    new, blob = await pull(cache, APP, "2", "two")
    await cache.limits(2 * KIB)
    await cache.store.evict()
    for name in (APP, PAUSE):
        await cache.tidy(name)
    for names in (cache.repositories, again(tmp_path)):
        assert list(await names.names()) == [APP]
        state = await names.state(APP)
        assert state == RepositoryState({"2": new}, {new: ManifestRef("application/json", KIB, (blob,))})
        assert not await names.links(APP, old)
        assert await names.state(PAUSE) is None
    await pull(cache, PAUSE, "3.9", "pause")
    assert list(await again(tmp_path).names()) == [APP, PAUSE]


async def test_what_nobody_evicted_is_not_written_again(cache: ContentCache, tmp_path: Path) -> None:
    """Tidying a repository that lacks nothing changes no file."""
    await pull(cache, APP, "1", "one")
    (log,) = (tmp_path / "cache" / "repositories").rglob("_links.jsonl")
    before = log.stat()
    await cache.tidy(APP)
    assert (log.stat().st_mtime_ns, log.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.mark.parametrize("others", [False, True], ids=["nothing else", "other links"])
async def test_a_publication_meanwhile(others: bool, cache: ContentCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is published while a repository is tidied is never lost: then the next pass tidies it."""
    gone, _ = await pull(cache, APP, "1", "one")
    if others:
        await pull(cache, APP, "0", "zero")
    await cache.store.remove(gone)
    read = cache.repositories.state

    async def state(name: str) -> RepositoryState | None:
        found = await read(name)
        await pull(cache, APP, "2", "two")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(cache.repositories, "state", state)
        await cache.tidy(APP)
    assert await cache.repositories.tag(APP, "2") == digest_of("manifest of two")
    await cache.tidy(APP)
    assert await cache.repositories.tag(APP, "1") is None
    assert await cache.repositories.tag(APP, "2") == digest_of("manifest of two")


@pytest.mark.parametrize("place", ["links.written", "links.renamed"])
async def test_a_disk_that_fails_meanwhile(place: str, cache: ContentCache, tmp_path: Path) -> None:
    """What fails half-way leaves the old names or the new ones, says so, and is done by the next turn."""
    gone, _ = await pull(cache, APP, "1", "one")
    kept, _ = await pull(cache, APP, "2", "two")
    await cache.store.remove(gone)
    cache._untidy = [APP]
    failpoints.arm(place, failpoints.fail)
    try:
        await cache.tend()
    finally:
        failpoints.disarm()
    assert "failpoint" in cache.standing().error
    state = await again(tmp_path).state(APP)
    assert state
    assert state.tags in ({"1": gone, "2": kept}, {"2": kept})
    await cache.tidy(APP)
    for names in (cache.repositories, again(tmp_path)):
        state = await names.state(APP)
        assert state
        assert state.tags == {"2": kept}


async def test_a_few_in_each_turn(cache: ContentCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn tidies a bounded number of repositories, the turns together all of them, and then none for an hour."""
    names = [f"docker.io/library/app{number:02}" for number in range(25)]
    for name in names:
        await pull(cache, name, "1", name)
    monkeypatch.setattr(content_cache, "AT_ONCE", 10)
    tidied: list[str] = []

    async def tidy(name: str) -> None:
        tidied.append(name)

    monkeypatch.setattr(cache, "tidy", tidy)
    cache._untidy, cache._tidied = [], float("-inf")
    counts = []
    for _ in range(5):
        await cache.tend()
        counts.append(len(tidied))
    assert counts == [10, 20, 25, 25, 25]
    assert tidied == names


async def test_pinned_repositories(cache: ContentCache) -> None:
    """What the tags of a pinned repository reach stays, also after a restart; what no tag reaches any more may go."""
    old = await pull(cache, PAUSE, "latest", "pause 3.8")
    await cache.limits(6 * KIB, pinned=PAUSE.__eq__)
    new = await pull(cache, PAUSE, "latest", "pause 3.9")
    for number in range(8):
        await pull(cache, APP, str(number), f"app {number}")
    assert all(digest in cache.store for digest in new)
    assert not any(digest in cache.store for digest in old)
    assert cache.standing().size == 6 * KIB
    await cache.limits(0, pinned=PAUSE.__eq__)
    await cache.store.evict()
    assert cache.standing().size == 2 * KIB
    await cache.limits(0)
    await cache.store.evict()
    assert cache.standing().size == 0


async def test_a_pinned_tag_that_moves(cache: ContentCache) -> None:
    """Content that stood in the way of eviction because it was pinned goes first when its tag has moved on."""
    old = await pull(cache, PAUSE, "latest", "pause 3.8")
    await cache.limits(4 * KIB, pinned=PAUSE.__eq__)
    for number in range(3):
        await pull(cache, APP, str(number), f"app {number}")
    assert cache.store.evictable == 2 * KIB
    last = await pull(cache, PAUSE, "latest", "pause 3.9")
    await pull(cache, APP, "3", "app 3")
    assert [digest in cache.store for digest in (*old, *last)] == [False, False, True, True]
    assert digest_of("manifest of app 3") in cache.store
    assert cache.standing().size == 4 * KIB


async def test_pinned_repositories_of_an_earlier_process(tmp_path: Path) -> None:
    """The next process reads from the names what is pinned, before it evicts anything."""
    (tmp_path / "spool").mkdir()
    pool = SpoolPool(tmp_path / "spool", 1 << 20, Events())
    async with open_cache(tmp_path / "cache", pool) as cache:
        pinned = await pull(cache, PAUSE, "3.9", "pause")
        await pull(cache, APP, "1", "one")
    async with open_cache(tmp_path / "cache", pool) as cache:
        await cache.tend()
        assert cache.standing().entries == 4
        await cache.limits(0, pinned=PAUSE.__eq__)
        await cache.store.evict()
        assert [digest in cache.store for digest in pinned] == [True, True]
        assert cache.standing().entries == 2
