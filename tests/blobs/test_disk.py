"""The store on disk: content is whole or absent, whatever the disk does."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrord import failpoints
from mirrord.blobs.disk import DiskStore
from mirrord.errors import StorageError
from mirrord.model.digest import Digest
from tests.support.localstore import place_in

DATA = b"content" * 1000
DIGEST = Digest.of(DATA)


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "blobs")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "file"
    made.write_bytes(DATA)
    return made


def content(tmp_path: Path) -> list[str]:
    return sorted(
        str(file.relative_to(tmp_path / "blobs")) for file in (tmp_path / "blobs").rglob("*") if file.is_file()
    )


async def test_place(store: DiskStore, tmp_path: Path) -> None:
    """Content lies under its algorithm and its first digits; sha512 beside sha256."""
    await store.put(DIGEST, DATA)
    other = Digest.of(DATA, "sha512")
    await store.put(other, DATA)
    assert content(tmp_path) == [f"{one.algorithm}/{one.hex[:2]}/{one.hex}" for one in (DIGEST, other)]


async def test_adopting_costs_no_second_copy(store: DiskStore, file: Path) -> None:
    """On one file system a spool's file is linked, not copied."""
    await store.adopt(DIGEST, file)
    path = place_in(store, DIGEST)
    assert path is not None
    assert path.samefile(file)


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP])
async def test_where_links_do_not_work(
    store: DiskStore, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Where hard links do not work the content is copied, atomically."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, "no links")

    monkeypatch.setattr(os, "link", refuse)
    await store.adopt(DIGEST, file)
    path = place_in(store, DIGEST)
    assert path is not None
    assert path.read_bytes() == DATA
    assert len(content(tmp_path)) == 1


async def test_a_disk_that_says_no(
    store: DiskStore, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is a StorageError that names the store, and nothing half kept."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(os, "fsync", full)
    for attempt in (store.adopt(DIGEST, file), store.put(DIGEST, DATA)):
        with pytest.raises(StorageError, match=r"blobs.*No space left"):
            await attempt
        assert place_in(store, DIGEST) is None
    assert content(tmp_path) == []


@pytest.mark.parametrize("how", ["adopt", "put"])
async def test_failing_after_the_name_is_set(store: DiskStore, file: Path, tmp_path: Path, how: str) -> None:
    """A failure between naming and syncing is told; what is there is whole, and keeping it again works."""
    failpoints.arm("store.linked", failpoints.fail)
    with pytest.raises(StorageError):
        await (store.adopt(DIGEST, file) if how == "adopt" else store.put(DIGEST, DATA))
    path = place_in(store, DIGEST)
    assert path is None or path.read_bytes() == DATA
    failpoints.disarm()
    await (store.adopt(DIGEST, file) if how == "adopt" else store.put(DIGEST, DATA))
    assert len(content(tmp_path)) == 1


async def test_sweep(store: DiskStore, tmp_path: Path) -> None:
    """What nobody links goes, and so does what a crash left half written; linked content stays."""
    kept, loose = Digest.of(b"kept"), Digest.of(b"loose")
    await store.put(kept, b"kept")
    await store.put(loose, b"loose")
    half = tmp_path / "blobs" / "sha256" / kept.hex[:2] / f".{kept.hex}.0123abcd.tmp"
    half.write_bytes(b"ke")
    store.sweep({str(kept)})
    assert place_in(store, kept) is not None
    assert place_in(store, loose) is None
    assert not half.exists()


def test_sweeping_nothing(tmp_path: Path) -> None:
    """A store that was never used can be swept, which makes no folder."""
    DiskStore(tmp_path / "never").sweep(set())
    assert not (tmp_path / "never").exists()


async def test_what_went_before_one_that_stays_is_gone(store: DiskStore) -> None:
    """Where one file cannot be removed, those that went before it are not said to be there."""
    for data in (DATA, b"other"):
        await store.put(Digest.of(data), data)
        assert await store.find(Digest.of(data)) is not None
    stuck = Digest.of(b"stuck")
    store.place(stuck).mkdir(parents=True)
    with pytest.raises(StorageError):
        await store.remove_all([DIGEST, stuck, Digest.of(b"other")])
    assert await store.find(DIGEST) is None
    assert await store.find(Digest.of(b"other")) is not None
