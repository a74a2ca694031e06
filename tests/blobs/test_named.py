"""Files by name in the local store: brought one by one, shown together, and not brought twice."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from mirrord.blobs.disk import DiskStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.named import FEW, NamedFiles
from mirrord.blobs.repositories import ManifestRef
from mirrord.errors import ConflictError, StorageError
from mirrord.model.digest import Digest
from tests.support.localstore import place_in

DATA = b"some bytes"
DIGEST = Digest.of(DATA)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path


def files(state: Path) -> NamedFiles:
    """Open the same files once more, as the next process does."""
    return NamedFiles(DiskStore(state / "blobs"), DiskRepositories(state / "names"), "app")


async def test_shown_together(state: Path) -> None:
    """Nothing is shown before all is; then exactly that is, with the type that it was kept with."""
    named = files(state)
    await named.put("a", DATA, "text/a")
    await named.put("b", b"", "text/b")
    assert not await named.exists()
    await named.show({"a": DIGEST, "b": Digest.of(b"")})
    for one in (named, files(state)):
        assert await one.shown() == {"a": DIGEST, "b": Digest.of(b"")}
        assert await one.read("a") == DATA
        assert (found := await one.find("a")) is not None
        assert (found.digest, found.media_type) == (DIGEST, "text/a")
        assert await one.find("c") is None
    await named.put("c", b"c", "text/c")
    await named.show({"c": Digest.of(b"c")})
    assert await files(state).shown() == {"c": Digest.of(b"c")}


async def test_what_was_brought_is_found_again(state: Path) -> None:
    """What a run brought and did not show waits for the next one, but for a few files; nobody is served from there."""
    named = files(state)
    for number in range(FEW + 1):
        file = state / str(number)
        file.write_bytes(b"%d" % number)
        await named.adopt(file.name, Digest.of(b"%d" % number), file, ManifestRef("x/y", 2))
    again = files(state)
    assert len(await again.waiting()) == FEW
    assert await again.shown() == {}
    await named.save()
    again = files(state)
    assert len(await again.waiting()) == FEW + 1
    (brought, shown, waiting) = await again.there()
    assert (brought, shown, len(waiting)) == ({}, {}, FEW + 1)
    await again.show(waiting)
    assert (len(await again.shown()), await again.waiting()) == (FEW + 1, {})


async def test_what_is_lost(state: Path) -> None:
    """What is named and gone from the disk is known to be lost, and not offered to be shown again."""
    named = files(state)
    await named.put("a", DATA, "text/a")
    await named.show({"a": DIGEST})
    place = place_in(state / "blobs", DIGEST)
    assert place is not None
    place.unlink()
    again = files(state)
    assert await again.lost(await again.shown()) == {"a"}
    assert await again.there() == [{}, {}, {}]
    assert await again.read("a") is None


@pytest.mark.parametrize("full", [False, True])
async def test_close(full: bool, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not published is named for the next run, and needed no more, even if it cannot be named."""
    repositories = DiskRepositories(state / "names")
    named = NamedFiles(DiskStore(state / "blobs"), repositories, "app")
    await named.put("a", DATA, "text/a")
    assert not repositories.leases.free([DIGEST])

    async def no_space(*_: Any, **__: Any) -> str:
        raise StorageError("no space left")

    if full:
        monkeypatch.setattr(repositories, "publish", no_space)
    with pytest.raises(StorageError) if full else nullcontext():
        await named.close()
    assert repositories.leases.free([DIGEST]) == {DIGEST}
    assert await named.waiting() == ({} if full else {"a": DIGEST})


async def test_two_at_once(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who shows files while somebody else does fails, instead of taking the other's away."""
    repositories = DiskRepositories(state / "names")
    named = NamedFiles(DiskStore(state / "blobs"), repositories, "app")
    await named.put("a", DATA, "text/a")
    publish = repositories.publish

    async def late(*args: Any, **options: Any) -> str:
        monkeypatch.undo()
        await repositories.publish("app", {DIGEST: ManifestRef("x/y", 1)}, {"theirs": DIGEST})
        return await publish(*args, **options)

    monkeypatch.setattr(repositories, "publish", late)
    with pytest.raises(ConflictError):
        await named.show({"a": DIGEST})
    assert await named.shown() == {"theirs": DIGEST}
