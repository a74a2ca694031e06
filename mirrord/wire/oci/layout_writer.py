"""OCI image layouts, written: a folder that other tools may read at any moment (image-spec, image-layout.md)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, Self

from mirrord.errors import ContentError, DigestError, MissingError, UsageError
from mirrord.files import LocalFile, settle, storage_errors
from mirrord.model.digest import Digest
from mirrord.wire.oci.descriptor import Descriptor, index_of
from mirrord.wire.oci.layout import INDEX, MARK, REF_NAME, blob_name
from mirrord.wire.oci.layout_index import LayoutIndex, locked, manifest_of, reached, replace_top
from mirrord.wire.oci.manifest import LIMIT, Manifest
from mirrord.wire.oci.referrers import as_listed

MARK_BODY = b'{"imageLayoutVersion":"1.0.0"}'


class _BlobPart:
    """A blob while it is written: a locked file that no sweep removes while this process runs."""

    def __init__(self, place: Path, descriptor: Descriptor) -> None:
        """Begin to write what shall be at `place`."""
        self._want = descriptor
        self._place = place
        self._place.parent.mkdir(parents=True, exist_ok=True)
        self._hasher = descriptor.digest.hasher()
        self._done = 0
        while True:
            self._path = self._place.parent / f".{secrets.token_hex(8)}.part"
            self._file = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if os.fstat(self._file.fileno()).st_nlink:
                return
            self._file.close()  # the sweep of another process was quicker than our lock

    def __enter__(self) -> Self:
        """Return it; leaving the context removes what was not finished."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was not finished."""
        self._path.unlink(missing_ok=True)
        self._file.close()

    def write(self, chunk: bytes) -> None:
        """Write the next bytes; raises DigestError if they exceed the size of the blob."""
        self._done += len(chunk)
        if self._done > self._want.size:
            raise DigestError(f"{self._want.digest}: more than the {self._want.size} bytes of its descriptor")
        self._hasher.update(chunk)
        self._file.write(chunk)

    def finish(self) -> None:
        """Give the blob its name, durably; raises DigestError if the bytes have another digest."""
        if self._done != self._want.size or self._hasher.hexdigest() != self._want.digest.hex:
            raise DigestError(f"{self._want.digest}: the {self._done} bytes received have another digest")
        settle(self._file, self._path, self._place)


class LayoutWriter:
    """One layout folder as a target, as `Repository` is one.

    Every file appears whole and under its final name, durably. Several writers, of this process
    and of others, may write to one folder at once. What a replaced tag pointed to stays.
    """

    host = ""
    naming_writes = False
    keeps: Literal[False] = False

    def __init__(self, folder: Path) -> None:
        """Write to `folder`, which is made when the first content comes."""
        self.repository = str(folder)
        self._folder = folder
        self._prepared = False
        self._preparing = asyncio.Lock()
        self._read: LayoutIndex | None = None

    async def head_manifest(self, ref: str, deadline: float | None = None) -> Descriptor | None:  # noqa: ARG002 - asks nobody
        """Return what the index lists under a name or a digest, or None. Writes nothing.

        Raises:
            ContentError: the layout is damaged, or the folder is not a layout.
        """

        def look() -> Descriptor | None:
            if not (self._folder / INDEX).exists() and _holds(self._folder) <= {"blobs", MARK, INDEX}:
                return None  # not a layout yet: it is being made, or that was interrupted
            found = self._index().known.get(ref)
            return found if found and self._size(found.digest) == found.size else None

        return await asyncio.to_thread(look)

    async def has_manifest(self, digest: Digest) -> bool:
        """Whether a manifest is there, and so its content: none is taken whose content is not."""
        return await asyncio.to_thread(self._size, digest) is not None

    async def get_manifest(self, digest: str) -> Manifest:
        """Return a manifest; raises MissingError without one, ContentError if it is invalid."""
        wanted = Digest.parse(digest)
        return await asyncio.to_thread(lambda: Manifest.parse(self._file(wanted).load(LIMIT), "", wanted))

    async def has_blob(self, blob: Descriptor) -> bool:
        """Whether a blob is there with its size."""
        return await asyncio.to_thread(self._size, blob.digest) == blob.size

    async def get_blob(self, descriptor: Descriptor) -> bytes:
        """Return a small blob; its bytes are not hashed here. raises MissingError without it."""
        return await asyncio.to_thread(lambda: self._file(descriptor.digest).load(LIMIT))

    async def mount(self, digest: Digest, source: str) -> bool:  # noqa: ARG002 - as Repository.mount
        """Return False: a layout is one repository, and has no other to take a blob from."""
        return False

    async def put_blob(self, descriptor: Descriptor, opened: Callable[[], AsyncIterator[bytes]]) -> None:
        """Write a blob that is not there yet; reading stops at the first byte too many.

        Raises:
            DigestError: the bytes are not those of `descriptor`; nothing of them is kept.
            UsageError: the folder is not a layout.
            StorageError: the disk failed.
        """
        await self._prepare()
        if await self.has_blob(descriptor):
            return
        with storage_errors(self._folder), _BlobPart(self._folder / blob_name(descriptor.digest), descriptor) as part:
            async for chunk in opened():
                await asyncio.to_thread(part.write, chunk)
            await asyncio.to_thread(part.finish)

    async def put_manifest(self, manifest: Manifest) -> None:
        """Write a manifest whose content is there already.

        Raises:
            MissingError: something that it refers to is missing; write children first.
            UsageError: the folder is not a layout.
            StorageError: the disk failed.
        """
        await self._prepare()

        def put() -> None:
            for needed in (*manifest.blobs, *manifest.children):
                if self._size(needed.digest) != needed.size:
                    raise MissingError(f"{self._folder}: lacks {needed.digest}, which {manifest.digest} refers to")
            if self._size(manifest.digest) == len(manifest.body):
                return
            place = self._folder / blob_name(manifest.digest)
            with storage_errors(self._folder), _BlobPart(place, manifest.descriptor) as part:
                part.write(manifest.body)
                part.finish()

        await asyncio.to_thread(put)

    async def publish(self, manifest: Manifest, names: Sequence[str]) -> None:
        """Give one manifest its names; see `publish_all`."""
        await self.publish_all([(manifest, names)])

    async def publish_all(self, images: Sequence[tuple[Manifest, Sequence[str]]]) -> None:
        """Give manifests that are there their entries in `index.json`, in place of those of the same names, at once.

        Each name is one `org.opencontainers.image.ref.name`. An image with none is the one entry without a name; what
        is about another manifest has an entry of its own. A type tells the two apart: an image without a name has none.

        Raises:
            ContentError: the existing index is invalid.
            MissingError: some of it was taken down since it was written.
            StorageError: the disk failed.
        """
        await self._prepare()
        entries: dict[str | None, Descriptor | None] = {}
        for manifest, names in images:
            if manifest.subject and not names:
                entry = as_listed(manifest)
                entries[manifest.digest] = replace(entry, artifact_type=entry.artifact_type or entry.media_type)
            elif not names:
                entries[None] = replace(manifest.descriptor, artifact_type=None)
            for name in names:
                entries[name] = replace(manifest.descriptor, annotations={REF_NAME: name})
        await asyncio.to_thread(self._change, entries, [manifest.digest for manifest, _ in images])

    async def tags(self) -> Collection[str]:
        """Return all names that the index has; of no index none. Raises as `head_manifest`."""

        def look() -> Collection[str]:
            if not (self._folder / INDEX).exists():
                return ()
            return {name for one in self._index().listed if (name := one.annotations.get(REF_NAME))}

        return await asyncio.to_thread(look)

    async def remove(self, names: Sequence[str]) -> None:
        """Take names out of `index.json`; the content stays. Raises as `publish`."""
        if (self._folder / INDEX).exists():
            await asyncio.to_thread(self._change, dict.fromkeys(names))

    async def _prepare(self) -> None:
        """Make the folder a layout, and remove what a crash left half-written; once."""
        async with self._preparing:
            if not self._prepared:
                await asyncio.to_thread(self._make)
                self._prepared = True

    def _make(self) -> None:
        with storage_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with locked(self._folder):
                if not (self._folder / MARK).exists() and not _holds(self._folder) <= {"blobs"}:
                    raise UsageError(f"{self._folder}: holds something else than an OCI layout; name a new folder")
                (self._folder / "blobs").mkdir(exist_ok=True)
                for part in (*self._folder.glob("blobs/*/.*.part"), *self._folder.glob(".*.part")):
                    with contextlib.suppress(OSError), part.open("rb") as file:  # of a writer that is gone
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        part.unlink()
                for name, body in ((MARK, MARK_BODY), (INDEX, index_of([]))):
                    if not (self._folder / name).exists():
                        replace_top(self._folder / name, body)

    def _index(self) -> LayoutIndex:
        """Return the index; it is read again when another program has written it."""
        read = self._read  # other threads may be here, too
        with storage_errors(self._folder):
            if read is None or not read.stands():
                read = self._read = LayoutIndex.read(self._folder)
        return read

    def _file(self, digest: Digest) -> LocalFile:
        return LocalFile.of(self._folder / blob_name(digest))

    def _size(self, digest: Digest) -> int | None:
        try:
            return self._file(digest).size
        except MissingError:
            return None

    def _change(self, changed: Mapping[str | None, Descriptor | None], whole: Sequence[Digest] = ()) -> None:
        """Replace the entries of these names; names with None are removed. Manifests that are to be `whole` must be."""
        path = self._folder / INDEX
        with storage_errors(self._folder), locked(self._folder):
            parts = reached(whole, partial(manifest_of, self._folder))
            if lost := next((one for one in parts if self._size(one) is None), None):
                raise MissingError(f"{self._folder}: {lost} was removed meanwhile")
            old = self._index()  # an invalid index is not written over
            new = old.changed(changed)
            if new is None:
                return
            if len(new.body) > LIMIT:
                raise ContentError(f"{path}: would be longer than the {LIMIT} bytes that readers take")
            replace_top(path, new.body)
            self._read = new.written()


def _holds(folder: Path) -> set[str]:
    """Name what lies in a folder that may not be there; hidden files and folders of other layouts are left out.

    Images of one target may be called `a/b` and `a/b/c`, and either may come first.
    """
    if not folder.is_dir():
        return set()
    names = {path.name: path for path in folder.iterdir() if path.name[0] != "."}
    return {name for name, path in names.items() if name == "blobs" or not _has_layouts(path)}


def _has_layouts(path: Path) -> bool:
    """Whether a folder is a layout, or holds folders of layouts and nothing else."""
    if path.is_symlink() or not path.is_dir():
        return False
    inner = [] if (path / MARK).is_file() else list(path.iterdir())
    return (path / MARK).is_file() or (bool(inner) and all(map(_has_layouts, inner)))
