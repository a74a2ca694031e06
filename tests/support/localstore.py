"""What the embedded store holds, read anew from its folders as after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mirrord.blobs.disk import DiskStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.repositories import RepositoryState
from mirrord.files import LocalFile
from mirrord.model.digest import Digest
from mirrord.syncer.serving import Response


def linked_in(folder: Path, repository: str) -> RepositoryState | None:
    """Return what a repository links that is kept below `folder`."""
    return DiskRepositories(folder)._repository(repository).state()


def place_in(folder: Path | DiskStore, digest: Digest) -> Path | None:
    """Return the file of some content that is kept below `folder`."""
    store = folder if isinstance(folder, DiskStore) else DiskStore(folder)
    place = store.place(digest)
    return place if place.is_file() else None


def tags_in(folder: Path, repository: str) -> Mapping[str, str]:
    """Return the tags of a repository that is kept below `folder`."""
    linked = linked_in(folder, repository)
    return {tag: str(digest) for tag, digest in linked.tags.items()} if linked else {}


def files_in(folder: Path, store: Path, repository: str) -> Mapping[str, bytes]:
    """Return the content of what is named in a repository; what was lost is not there."""
    linked = linked_in(folder, repository)
    places = {name: place_in(store, digest) for name, digest in linked.tags.items()} if linked else {}
    found = dict[str, bytes]()
    for name, place in places.items():
        if place:
            with suppress(FileNotFoundError):  # a collection may remove it since
                found[name] = place.read_bytes()
    return found


def said(response: Response) -> bytes:
    """Return the bytes that a front answers with."""
    assert isinstance(response.body, bytes)
    return response.body


def sent(response: Response) -> bytes:
    """Return the content of a file that a front answers with."""
    assert isinstance(response.body, LocalFile)
    return response.body.path.read_bytes()
