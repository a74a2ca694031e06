"""What every `BlobStore` and all `Repositories` promise, as checks that a test module runs on each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from mirrord.blobs.repositories import ABSENT, ManifestRef, Repositories, RepositoryState, is_complete
from mirrord.blobs.store import BlobStore, read_stored
from mirrord.errors import ConflictError, DigestError, TooLargeError
from mirrord.files import LocalFile
from mirrord.model.digest import Digest

CONTENT = b"some content\n" * 1000
DIGEST = Digest.of(CONTENT)
ONE, TWO, BLOB = (Digest.of(text) for text in (b"one", b"two", b"blob"))
LINK = ManifestRef("application/json", 3, (BLOB,))
ABOUT = ManifestRef("application/json", 3, (), ONE)

Open = Callable[[], Repositories]
"""Opens the same repositories once more, as another process would."""


async def check_absent(store: BlobStore, _: Path) -> None:
    """What was never kept is not there."""
    assert await store.find(DIGEST) is None
    assert await store.missing([DIGEST]) == {DIGEST}


async def check_put(store: BlobStore, _: Path) -> None:
    """What was put is there, byte for byte, empty content and sha512 included."""
    for data in (CONTENT, b""):
        for algorithm in ("sha256", "sha512"):
            digest = Digest.of(data, algorithm)
            await store.put(digest, data)
            assert await _read(store, digest) == data
            assert await store.missing([digest]) == frozenset()


async def check_put_lies(store: BlobStore, _: Path) -> None:
    """Content that is not what its digest says is refused and not kept."""
    try:
        await store.put(DIGEST, CONTENT + b"!")
    except DigestError:
        assert await store.find(DIGEST) is None
    else:
        raise AssertionError("a lie was kept")


async def check_adopt(store: BlobStore, folder: Path) -> None:
    """An adopted file's content is there, and the file itself stays with its owner, who may remove it."""
    file = folder / "mine"
    file.write_bytes(CONTENT)
    await store.adopt(DIGEST, file)
    assert file.read_bytes() == CONTENT
    file.unlink()
    assert await _read(store, DIGEST) == CONTENT


async def check_twice(store: BlobStore, folder: Path) -> None:
    """Keeping the same content again, in whichever way, changes nothing."""
    file = folder / "mine"
    file.write_bytes(CONTENT)
    await store.put(DIGEST, CONTENT)
    await store.adopt(DIGEST, file)
    await store.put(DIGEST, CONTENT)
    assert await _read(store, DIGEST) == CONTENT


async def check_missing_file(store: BlobStore, folder: Path) -> None:
    """A file that cannot be read is an error, and nothing is kept."""
    try:
        await store.adopt(DIGEST, folder / "nowhere")
    except Exception:  # noqa: BLE001 - which error is the disk's business
        assert await store.find(DIGEST) is None
    else:
        raise AssertionError("nothing was kept as something")


async def check_parts(store: BlobStore, _: Path) -> None:
    """What is found can be read from any byte on, and is not read whole by who has no room for it."""
    await store.put(DIGEST, CONTENT)
    stored = await store.find(DIGEST)
    assert stored is not None
    for offset, count in ((0, 10), (7, len(CONTENT) - 7), (len(CONTENT) - 1, 1)):
        if isinstance(stored, LocalFile):
            part = await read_stored(LocalFile(stored.path, stored.offset + offset, count), count)
        else:
            part = b"".join([piece async for piece in stored.open(offset, count)])
        assert part == CONTENT[offset : offset + count]
    try:
        await read_stored(stored, len(CONTENT) - 1)
    except TooLargeError:
        return
    raise AssertionError("it was read whole")


async def check_remove(store: BlobStore, _: Path) -> None:
    """What was removed is not there any more, and can be removed, and kept, again."""
    await store.put(DIGEST, CONTENT)
    assert await store.find(DIGEST)
    for _again in range(2):
        await store.remove(DIGEST)
        assert await store.find(DIGEST) is None
    await store.put(DIGEST, CONTENT)
    assert await _read(store, DIGEST) == CONTENT


STORE_CHECKS: tuple[Callable[[BlobStore, Path], Awaitable[None]], ...] = (
    check_absent,
    check_put,
    check_put_lies,
    check_adopt,
    check_twice,
    check_missing_file,
    check_parts,
    check_remove,
)


async def check_no_repository(opened: Open) -> None:
    """A repository that nobody published to does not exist, and asking for it makes none."""
    repositories = opened()
    assert not await repositories.exists("app")
    assert await repositories.tag("app", "main") is None
    assert await repositories.manifest("app", ONE) is None
    assert not await repositories.links("app", ONE)
    assert await repositories.state("app") is None
    assert await repositories.publish("app", {}, {}) == ABSENT
    assert list(await repositories.names()) == []
    assert await repositories.linked() == frozenset()


async def check_publish(opened: Open) -> None:
    """Tags move, manifests stay, each can be asked for by itself, and another process reads the same."""
    repositories = opened()
    await repositories.publish("team/app", {ONE: LINK}, {"main": ONE, "main-1": ONE, "tags": ONE})
    await repositories.publish("team/app", {TWO: ABOUT}, {"main": TWO})
    for reader in (repositories, opened()):
        for name, digest in (("main", TWO), ("main-1", ONE), ("tags", ONE), ("other", None)):
            assert await reader.tag("team/app", name) == digest
        assert await reader.manifest("team/app", ONE) == LINK
        assert await reader.manifest("team/app", TWO) == ABOUT
        assert await reader.manifest("team/app", BLOB) is None
        assert await reader.state("team/app") == RepositoryState(
            {"main": TWO, "main-1": ONE, "tags": ONE}, {ONE: LINK, TWO: ABOUT}
        )
        assert list(await reader.names()) == ["team/app"]
        assert await reader.linked() == {ONE, TWO, BLOB}
        assert not await reader.exists("team")


async def check_links(opened: Open) -> None:
    """A repository links what it was given and nothing else, whoever else has it (CVE-2024-39897)."""
    repositories = opened()
    await repositories.publish("app", {ONE: LINK}, {"main": ONE})
    await repositories.publish("app/more", {TWO: ABOUT}, {"main": TWO})
    for reader in (repositories, opened()):
        assert [await reader.links("app", digest) for digest in (ONE, TWO, BLOB)] == [True, False, True]
        assert [await reader.links("app/more", digest) for digest in (ONE, TWO, BLOB)] == [False, True, False]


async def check_exactly(opened: Open) -> None:
    """What was published exactly is all there is, also when it is nothing."""
    repositories = opened()
    await repositories.publish("app", {ONE: LINK}, {"main": ONE, "old": ONE})
    await repositories.publish("app", {TWO: ABOUT}, {"main": TWO}, exactly=True)
    for reader in (repositories, opened()):
        assert await reader.state("app") == RepositoryState({"main": TWO}, {TWO: ABOUT})
        assert await reader.tag("app", "old") is None
        assert not await reader.links("app", BLOB)
    await repositories.publish("app", {}, {}, exactly=True)
    assert (await opened().state("app") or RepositoryState()) == RepositoryState()


async def check_revisions(opened: Open) -> None:
    """Each change has a revision, no change has none, and who expects another one changes nothing."""
    repositories = opened()
    first = await repositories.publish("app", {ONE: LINK}, {"main": ONE}, expect=ABSENT)
    second = await repositories.publish("app", {}, {"v2": ONE}, expect=first)
    assert len({ABSENT, first, second}) == 3
    assert await repositories.publish("app", {ONE: LINK}, {"v2": ONE}) == second
    for expected in (ABSENT, first, "nonsense"):
        try:
            await repositories.publish("app", {TWO: ABOUT}, {"main": TWO}, expect=expected)
        except ConflictError:
            continue
        raise AssertionError(f"{expected!r} was taken for {second!r}")
    for reader in (repositories, opened()):
        state = await reader.state("app")
        assert state is not None
        assert (state.revision, state.tags) == (second, {"main": ONE, "v2": ONE})


async def check_many_at_once(opened: Open) -> None:
    """Publishing into one repository from many at once loses nothing."""
    repositories = opened()
    await asyncio.gather(*(repositories.publish("app", {ONE: LINK}, {f"v{n}": ONE}) for n in range(20)))
    for reader in (repositories, opened()):
        state = await reader.state("app")
        assert state is not None
        assert state.tags == {f"v{n}": ONE for n in range(20)}


REPOSITORY_CHECKS: tuple[Callable[[Open], Awaitable[None]], ...] = (
    check_no_repository,
    check_publish,
    check_links,
    check_exactly,
    check_revisions,
    check_many_at_once,
)


async def check_complete(opened: Open, store: BlobStore) -> None:
    """A manifest is complete when the repository links it and the store has all that it reaches."""
    repositories = opened()
    await store.put(ONE, b"one")
    await repositories.publish("app", {ONE: LINK}, {"main": ONE})
    assert not await is_complete(repositories, store, "app", ONE)
    await store.put(BLOB, b"blob")
    assert await is_complete(repositories, store, "app", ONE)
    assert not await is_complete(repositories, store, "app", BLOB)
    assert not await is_complete(repositories, store, "other", ONE)


async def _read(store: BlobStore, digest: Digest) -> bytes:
    stored = await store.find(digest)
    assert stored is not None, f"{digest} was not kept"
    return await read_stored(stored, stored.size)
