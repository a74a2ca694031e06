"""Names of content on a disk that fills up between reading and naming."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrord import failpoints
from mirrord.blobs import reserve
from mirrord.blobs.disk import DiskStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.repositories import ManifestRef
from mirrord.errors import StorageError
from mirrord.model.digest import Digest
from mirrord.model.run import Result
from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk
from tests.support.walking import walk_local

DATA = b"content"
DIGEST = Digest.of(DATA)


class Disk:
    """Is full until something is released, or for ever."""

    def __init__(self, code: int = errno.ENOSPC, *, helps: bool = True) -> None:
        self.full, self.eased, self._code, self._helps = True, 0, code, helps

    def ease(self) -> None:
        self.eased += 1
        self.full = not self._helps

    def write(self) -> None:
        if self.full:
            raise OSError(self._code, os.strerror(self._code))


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


async def bring(folder: Path, disk: Disk, how: str) -> None:
    """Bring content into `local` in one of the ways that need a little room."""
    store, links = DiskStore(folder / "blobs", disk.ease), DiskRepositories(folder / "links", ease=disk.ease)
    if how == "adopt":
        (folder / "spooled").write_bytes(DATA)
        await store.adopt(DIGEST, folder / "spooled")
    elif how == "put":
        await store.put(DIGEST, DATA)
    else:
        await links.publish("app", {DIGEST: ManifestRef("application/json", len(DATA))}, {"v1": DIGEST})


def found(folder: Path, how: str) -> bool:
    if how == "publish":
        return (folder / "links" / "app").is_dir() and any((folder / "links" / "app").iterdir())
    return DiskStore(folder / "blobs").place(DIGEST).is_file()


@pytest.fixture(params=["adopt", "put", "publish"])
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def on(monkeypatch: pytest.MonkeyPatch, disk: Disk) -> Disk:
    """Let links and flushes fail like the disk."""
    link, fsync = os.link, os.fsync

    def linked(*given: str, **named: bool) -> None:
        disk.write()
        link(*given, **named)  # type: ignore[arg-type]  # as it was called

    def flushed(handle: int) -> None:
        disk.write()
        fsync(handle)

    monkeypatch.setattr(os, "link", linked)
    monkeypatch.setattr(os, "fsync", flushed)
    return disk


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_it_is_named_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, code: int) -> None:
    """What is reserved is released, and the name written: what was read need not be read again."""
    disk = on(monkeypatch, Disk(code))
    await bring(tmp_path, disk, how)
    assert (disk.eased, found(tmp_path, how)) == (1, True)


@pytest.mark.parametrize(("code", "eased"), [(errno.ENOSPC, 1), (errno.EIO, 0)])
async def test_where_that_does_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, code: int, eased: int
) -> None:
    """It is said, and not tried for ever; a disk that is broken is not eased."""
    disk = on(monkeypatch, Disk(code, helps=False))
    with pytest.raises(StorageError):
        await bring(tmp_path, disk, how)
    assert (disk.eased, found(tmp_path, how)) == (eased, False)


@pytest.mark.parametrize("place", ["store.linked", "links.written"])
async def test_a_run_releases_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """The disk fills up before an image is named: the run succeeds, and has read each blob once."""
    desk, state = Desk(tmp_path), tmp_path / "state"
    image = build_image(["linux/amd64"], layers=2, layer_size=1000, seed="a")

    def full() -> None:
        if (state / reserve.FILE).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with Registry() as source:
        await push(image, source, "up/app", ["v1"])
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\n"
            f"mirrors: [{{name: app, kind: image, from: {{repository: '{source.host}/up/app:v1'}}, to: [local]}}]\n"
        )
        async with desk.opened() as runtime:
            monkeypatch.setattr(reserve, "room", lambda _: -1)
            failpoints.arm(place, full)
            run = await runtime.runner.sync("app")
            assert not (state / reserve.FILE).exists()
        assert run.result is Result.SUCCESS, run.receipts
        read = [hit.path for hit in source.log if hit.method == "GET" and "/blobs/" in hit.path]
        assert len(read) == len(set(read)) == len(image.blobs)
    assert walk_local(state, "app") == {"v1": str(image.digest)}
