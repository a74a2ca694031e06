"""The `index.json` of a layout folder: kept in memory until another program writes it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self, TypeVar

from mirrord.errors import ContentError, MissingError
from mirrord.files import LocalFile, read_content, settle
from mirrord.model.digest import Digest
from mirrord.wire.oci.descriptor import Descriptor, index_of
from mirrord.wire.oci.document import mapping, read_object, sequence
from mirrord.wire.oci.layout import INDEX, REF_NAME, Layout, blob_name
from mirrord.wire.oci.manifest import LIMIT, Manifest

Stamp = tuple[int, int, int]
Read = Callable[[Digest], Manifest | None]
"""Returns a manifest, None for one that is not there. Raises ContentError for what is none."""
_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class LayoutIndex:
    """The content of `index.json`; every method reads the disk, or takes time linear in the entries.

    Attributes:
        path: the file.
        stamp: of it, by which a change shows.
        document: all that it says.
        listed: its entries that are manifests, with and without names.
    """

    path: Path
    stamp: Stamp
    document: Mapping[str, object]
    listed: Sequence[Descriptor]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read it. Raises as `Layout.open`."""
        path = folder / INDEX
        stamp = _stamp(path) if path.exists() else (0, 0, 0)  # without one it is no layout, and `open` says what it is
        listed = Layout.open(folder).index()
        return cls(path, stamp, read_object(read_content(path, LIMIT), str(path)), listed)

    def stands(self) -> bool:
        """Whether the file is still the same."""
        return self.path.exists() and _stamp(self.path) == self.stamp

    @cached_property
    def known(self) -> Mapping[str, Descriptor]:
        """What a name or a digest points to; a name of two entries points to nothing until it is written again."""
        known: dict[str, Descriptor] = {}
        twice = set[str]()
        for entry in self.listed:
            name = entry.annotations.get(REF_NAME, "")
            if known.setdefault(name, entry).digest != entry.digest:
                twice.add(name)
            known.setdefault(entry.digest, entry)
        return {name: entry for name, entry in known.items() if name not in twice}

    @cached_property
    def body(self) -> bytes:
        """Its bytes when it is written by us."""
        return index_of(self._entries, self.document)

    def changed(self, changes: Mapping[str | None, Descriptor | None]) -> Self | None:
        """Return it with these entries replaced, those with None removed; None when nothing changes.

        They are called by name, by digest when they have a type instead of one (what is about a manifest), and by None
        for the one image without a name.
        """
        fresh = {name: entry.entry() if entry else None for name, entry in changes.items()}
        entries = _replaced(self._entries, _name_of, fresh)
        if entries == self._entries:
            return None
        listed = _replaced(self.listed, _key_of, changes)
        return replace(self, document={**self.document, "manifests": entries}, listed=listed)

    def without(self, digests: Collection[str]) -> Self:
        """Return it without the entries of these manifests that have no name."""
        entries = [one for one in self._entries if not _unnamed(one, digests)]
        listed = [one for one in self.listed if REF_NAME in one.annotations or one.digest not in digests]
        return replace(self, document={**self.document, "manifests": entries}, listed=listed)

    def written(self) -> Self:
        """Return it as it is after it was written."""
        return replace(self, stamp=_stamp(self.path))

    @property
    def _entries(self) -> list[object]:
        return sequence(self.document.get("manifests"), str(self.path))


def reached(digests: Iterable[Digest], read: Read, *, sure: bool = True) -> list[Digest]:
    """Return manifests and all that they refer to, each once; a manifest comes before what it refers to.

    `sure` says that all of `digests` are manifests; what is not sure to be one, and is none, is content.

    Raises:
        ContentError: a manifest is damaged.
    """
    found: dict[Digest, None] = {}
    blobs: dict[Digest, None] = {}
    due = [(digest, sure) for digest in digests]
    while due:
        digest, known = due.pop()
        if digest in found:
            continue
        found[digest] = None
        try:
            manifest = read(digest)
        except ContentError:
            if known:
                raise
            continue
        if manifest:
            due += [(child.digest, child.is_manifest) for child in manifest.children]
            blobs |= dict.fromkeys(blob.digest for blob in manifest.blobs)
    return [*found, *(blob for blob in blobs if blob not in found)]


def manifest_of(folder: Path, digest: Digest) -> Manifest | None:
    """Read a manifest of a layout."""
    try:
        return Manifest.parse(LocalFile.of(folder / blob_name(digest)).load(LIMIT), "", digest)
    except MissingError:
        return None


def _key_of(entry: Descriptor) -> str | None:
    name = entry.annotations.get(REF_NAME)
    return entry.digest if name is None and entry.artifact_type else name


def _name_of(entry: object) -> str | None:
    written = mapping(entry, INDEX)
    name = mapping(written.get("annotations"), INDEX).get(REF_NAME)
    if name is None and written.get("artifactType"):
        name = written.get("digest")
    if name is None or isinstance(name, str):
        return name
    raise ContentError(f"{INDEX}: a name that is not a string")


def _unnamed(entry: object, digests: Collection[str]) -> bool:
    written = mapping(entry, INDEX)
    return REF_NAME not in mapping(written.get("annotations"), INDEX) and written.get("digest") in digests


def _replaced(
    entries: Iterable[_Entry], name_of: Callable[[_Entry], str | None], changed: Mapping[str | None, _Entry | None]
) -> list[_Entry]:
    """Put each changed entry in the place of the first one of its name, or at the end; others of that name go."""
    left, found = dict(changed), list[_Entry]()
    for one in entries:
        name = name_of(one)
        kept = one if name not in changed else left.pop(name, None)
        if kept is not None:
            found.append(kept)
    return [*found, *(one for one in left.values() if one is not None)]


def _stamp(path: Path) -> Stamp:
    state = path.stat()
    return state.st_ino, state.st_mtime_ns, state.st_size


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one writer at a time change the index; the lock is on the folder itself, so no file stays."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def replace_top(path: Path, body: bytes) -> None:
    """Replace a file of the layout's top in one step, under the folder's lock."""
    fresh = path.parent / f".{path.name}.part"  # the lock makes the name ours, even after a crash
    with fresh.open("wb") as file:
        file.write(body)
        settle(file, fresh, path)
