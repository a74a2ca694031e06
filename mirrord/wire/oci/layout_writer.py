"""OCI image layouts, written: a folder that other tools may read at any moment (image-spec, image-layout.md)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Self

from mirrord.errors import ContentError, DigestError, MissingError, StorageError, UsageError
from mirrord.model.digest import Digest
from mirrord.wire.oci.descriptor import OCI_INDEX, Descriptor
from mirrord.wire.oci.document import mapping, read_object, sequence
from mirrord.wire.oci.files import BlobFile, sync_folder
from mirrord.wire.oci.layout import INDEX, MARK, REF_NAME, Layout, blob_name
from mirrord.wire.oci.manifest import LIMIT, Manifest

MARK_BODY = b'{"imageLayoutVersion":"1.0.0"}'


class LayoutWriter:
    """One layout folder as a target; has the methods of `Repository` that a target needs.

    Every file appears whole and under its final name, durably. Several writers, of this process
    and of others, may write to one folder at once. What a replaced tag pointed to stays.
    """

    def __init__(self, folder: Path) -> None:
        """Write to `folder`, which is made when the first content comes."""
        self._folder = folder
        self._prepared = False
        self._preparing = asyncio.Lock()

    async def head_manifest(self, ref: str) -> Descriptor | None:
        """Return what is there under a tag or a digest, or None. Writes nothing.

        Raises:
            ContentError: what is there is wrong, or the folder is something else than a layout.
        """
        return await asyncio.to_thread(self._head, ref)

    async def has_blob(self, digest: Digest) -> int | None:
        """Return the size of a blob that is there, or None."""
        return await asyncio.to_thread(self._size, digest)

    async def mount(self, digest: Digest, source: str) -> bool:  # noqa: ARG002 - the signature of Repository.mount
        """Say no: a layout is one repository, there is nowhere to take a blob from."""
        return False

    async def put_blob(self, descriptor: Descriptor, opened: Callable[[], AsyncIterator[bytes]]) -> None:
        """Write a blob that is not there yet; reading stops at the first byte too many.

        Raises:
            DigestError: the bytes are not those of `descriptor`; nothing of them stays.
            UsageError: the folder holds something else than a layout.
            StorageError: the disk said no.
        """
        await self._prepare()
        if await self.has_blob(descriptor.digest) == descriptor.size:
            return
        with self._storage(), _Part(self._folder, descriptor) as part:
            async for chunk in opened():
                await asyncio.to_thread(part.write, chunk)
            await asyncio.to_thread(part.finish)

    async def put_manifest(self, manifest: Manifest, ref: str) -> None:
        """Write a manifest whose content is there already; under a tag it gets an entry in the index, too.

        Raises:
            MissingError: something that it refers to is not there: children come first.
            ContentError: the index that is there is wrong.
            UsageError: the folder holds something else than a layout.
            StorageError: the disk said no.
        """
        await self._prepare()
        await asyncio.to_thread(self._put_manifest, manifest)
        if ref != manifest.digest:
            await self.publish(manifest, ref)

    async def publish(self, manifest: Manifest, name: str | None) -> None:
        """Give a manifest that is there an entry in `index.json`, in place of the one of the same name.

        Args:
            manifest: what was written by `put_manifest`.
            name: its `org.opencontainers.image.ref.name`, or None for the one entry without a name.

        Raises:
            ContentError: the index that is there is wrong.
            StorageError: the disk said no.
        """
        await self._prepare()
        await asyncio.to_thread(self._publish, manifest, name)

    async def _prepare(self) -> None:
        async with self._preparing:
            if not self._prepared:
                await asyncio.to_thread(self._make)
                self._prepared = True

    def _make(self) -> None:
        """Make the folder a layout, and sweep what a crash left half written."""
        with self._storage():
            self._folder.mkdir(parents=True, exist_ok=True)
            with _locked(self._folder):
                if not (self._folder / MARK).exists() and not _holds(self._folder) <= {"blobs"}:
                    raise UsageError(f"{self._folder}: holds something else than an OCI layout; name a new folder")
                (self._folder / "blobs").mkdir(exist_ok=True)
                _sweep(self._folder)
                for name, body in ((MARK, MARK_BODY), (INDEX, index_body([]))):
                    if not (self._folder / name).exists():
                        _replace(self._folder / name, body)

    def _head(self, ref: str) -> Descriptor | None:
        if not (self._folder / INDEX).exists() and _holds(self._folder) <= {"blobs", MARK, INDEX}:
            return None  # not a layout yet: it is being made right now, or its making was cut short
        layout = Layout.open(self._folder)
        try:
            if ":" not in ref:
                return layout.resolve(ref)
            file = layout.blob(Digest.parse(ref))
            return Manifest.parse(file.load(LIMIT), "", Digest.parse(ref)).descriptor
        except (MissingError, UsageError):  # a name that two have is nobody's: writing it mends that
            return None

    def _size(self, digest: Digest) -> int | None:
        try:
            return BlobFile.whole(self._folder / blob_name(digest)).size
        except MissingError:
            return None

    def _put_manifest(self, manifest: Manifest) -> None:
        for needed in (*manifest.blobs, *manifest.children):
            if self._size(needed.digest) != needed.size:
                raise MissingError(f"{self._folder}: lacks {needed.digest}, which {manifest.digest} refers to")
        if self._size(manifest.digest) != len(manifest.body):
            with self._storage(), _Part(self._folder, manifest.descriptor) as part:
                part.write(manifest.body)
                part.finish()

    def _publish(self, manifest: Manifest, name: str | None) -> None:
        path = self._folder / INDEX
        with self._storage(), _locked(self._folder):
            body = BlobFile.whole(path).load(LIMIT)
            Manifest.parse(body, "")  # what is wrong already is not made worse
            document = read_object(body, str(path))
            entries = sequence(document.get("manifests"), str(path))
            changed = index_body(_with(entries, entry_of(manifest.descriptor, name), name), document)
            if len(changed) > LIMIT:
                raise ContentError(f"{path}: would be longer than the {LIMIT} bytes that readers take")
            if changed != body:
                _replace(path, changed)

    @contextlib.contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"{self._folder}: {error.strerror or error}") from error


def entry_of(descriptor: Descriptor, name: str | None) -> dict[str, object]:
    """Return the entry of `index.json` for a manifest called `name`."""
    entry: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.artifact_type:
        entry["artifactType"] = descriptor.artifact_type
    return {**entry, "annotations": {REF_NAME: name}} if name is not None else entry


def index_body(entries: list[object], document: object = None) -> bytes:
    """Return `index.json` with these entries and the other keys of `document`; equal values give equal bytes."""
    known = {"schemaVersion": 2, "mediaType": OCI_INDEX, **mapping(document, INDEX), "manifests": entries}
    return json.dumps(known, sort_keys=True, separators=(",", ":")).encode()


def _with(entries: list[object], entry: dict[str, object], name: str | None) -> list[object]:
    """Put `entry` where the first one of this name was, else at the end."""
    same = [_name(one) == name for one in entries]
    place = same.index(True) if any(same) else len(entries)
    rest = [one for one, dropped in zip(entries, same, strict=True) if not dropped]
    before = same[:place].count(False)
    return [*rest[:before], entry, *rest[before:]]


def _name(entry: object) -> object:
    return mapping(mapping(entry, INDEX).get("annotations"), INDEX).get(REF_NAME)


class _Part:
    """A blob while it is written: a locked file that a sweep leaves alone while we live."""

    def __init__(self, folder: Path, descriptor: Descriptor) -> None:
        self._want = descriptor
        self._place = folder / blob_name(descriptor.digest)
        self._place.parent.mkdir(parents=True, exist_ok=True)
        self._hasher = descriptor.digest.hasher()
        self._done = 0
        while True:
            self._path = self._place.parent / f".{secrets.token_hex(8)}.part"
            self._file = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if os.fstat(self._file.fileno()).st_nlink:
                return
            self._file.close()  # somebody's sweep was quicker than our lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()

    def write(self, chunk: bytes) -> None:
        self._done += len(chunk)
        if self._done > self._want.size:
            raise DigestError(f"{self._want.digest}: more than the {self._want.size} bytes of its descriptor")
        self._hasher.update(chunk)
        self._file.write(chunk)

    def finish(self) -> None:
        if self._done != self._want.size or self._hasher.hexdigest() != self._want.digest.hex:
            raise DigestError(f"{self._want.digest}: the {self._done} bytes that came are others")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._path.replace(self._place)
        sync_folder(self._place.parent)


def _sweep(folder: Path) -> None:
    """Remove the parts of writers that are gone: nobody holds their lock."""
    for part in (*folder.glob("blobs/*/.*.part"), *folder.glob(".*.part")):
        with contextlib.suppress(OSError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def _holds(folder: Path) -> set[str]:
    """Name what lies in a folder that may not be there, hidden files left out."""
    return {path.name for path in folder.iterdir() if path.name[0] != "."} if folder.is_dir() else set()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one writer at a time change the index; the lock is on the folder itself, so no file stays."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(path: Path, body: bytes) -> None:
    """Replace a file of the layout's top in one step, under the folder's lock."""
    fresh = path.parent / f".{path.name}.part"  # the lock makes the name ours, even after a crash
    with fresh.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)
