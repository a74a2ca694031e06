"""What every `BlobStore` promises, as checks that a test module runs on each of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from mirrord.blobs.store import BlobStore
from mirrord.errors import DigestError
from mirrord.model.digest import Digest

CONTENT = b"some content\n" * 1000
DIGEST = Digest.of(CONTENT)


async def check_absent(store: BlobStore, _: Path) -> None:
    """What was never kept is not there."""
    assert store.path(DIGEST) is None


async def check_put(store: BlobStore, _: Path) -> None:
    """What was put is there, byte for byte, empty content and sha512 included."""
    for data in (CONTENT, b""):
        for algorithm in ("sha256", "sha512"):
            digest = Digest.of(data, algorithm)
            await store.put(digest, data)
            assert _read(store, digest) == data


async def check_put_lies(store: BlobStore, _: Path) -> None:
    """Content that is not what its digest says is refused and not kept."""
    try:
        await store.put(DIGEST, CONTENT + b"!")
    except DigestError:
        assert store.path(DIGEST) is None
    else:
        raise AssertionError("a lie was kept")


async def check_adopt(store: BlobStore, folder: Path) -> None:
    """An adopted file's content is there, and the file itself stays with its owner, who may remove it."""
    file = folder / "mine"
    file.write_bytes(CONTENT)
    await store.adopt(DIGEST, file)
    assert file.read_bytes() == CONTENT
    file.unlink()
    assert _read(store, DIGEST) == CONTENT


async def check_twice(store: BlobStore, folder: Path) -> None:
    """Keeping the same content again, in whichever way, changes nothing."""
    file = folder / "mine"
    file.write_bytes(CONTENT)
    await store.put(DIGEST, CONTENT)
    await store.adopt(DIGEST, file)
    await store.put(DIGEST, CONTENT)
    assert _read(store, DIGEST) == CONTENT


async def check_missing_file(store: BlobStore, folder: Path) -> None:
    """A file that cannot be read is an error, and nothing is kept."""
    try:
        await store.adopt(DIGEST, folder / "nowhere")
    except Exception:  # noqa: BLE001 - which error is the disk's business
        assert store.path(DIGEST) is None
    else:
        raise AssertionError("nothing was kept as something")


STORE_CHECKS: tuple[Callable[[BlobStore, Path], Awaitable[None]], ...] = (
    check_absent,
    check_put,
    check_put_lies,
    check_adopt,
    check_twice,
    check_missing_file,
)


def _read(store: BlobStore, digest: Digest) -> bytes:
    path = store.path(digest)
    assert path is not None, f"{digest} was not kept"
    return path.read_bytes()
