"""Names of the `local` targets: one small JSON file per repository, right without any database.

A repository links digests: its tags name manifests, its manifests refer to further content. What
a repository does not link is not in it, although another one may hold the same digest
(CVE-2024-39897: authorise by link, not by existence).
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mirrord import failpoints
from mirrord.errors import ContentError, StorageError
from mirrord.files import write_durably
from mirrord.model.digest import Digest

_FILE = "_links.json"  # no path component of a repository starts with an underscore


@dataclass(frozen=True, slots=True)
class ManifestRef:
    """A manifest that a repository holds.

    Attributes:
        media_type: to be served with.
        size: bytes.
        refs: digests of the content that it refers to.
        subject: digest of the manifest that it is about (a referrer), "" for none; None where that was not written
            down (before 0.2).
    """

    media_type: str
    size: int
    refs: tuple[Digest, ...] = ()
    subject: str | None = ""


@dataclass(frozen=True)
class RepositoryState:
    """All that one repository links, at one moment."""

    tags: Mapping[str, Digest] = field(default_factory=dict)
    manifests: Mapping[Digest, ManifestRef] = field(default_factory=dict)

    @cached_property
    def content(self) -> frozenset[str]:
        """Digests of everything that is reachable in this repository, manifests and blobs."""
        return frozenset(self.manifests) | {ref for link in self.manifests.values() for ref in link.refs}


class Repositories:
    """Reads and writes the files. One process owns the folder (the state lock)."""

    def __init__(self, folder: Path) -> None:
        """Keep the files below `folder`, which is made when the first name comes."""
        self._folder = folder
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._cache: dict[str, tuple[tuple[int, int, int], RepositoryState]] = {}

    def get(self, repository: str) -> RepositoryState | None:
        """Return what `repository` (a valid OCI name) links, or None when there is no such repository.

        Raises:
            StorageError: the file is unreadable; names it.
        """
        file = self._folder / repository / _FILE
        try:
            stat = file.stat()
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if repository in self._cache and self._cache[repository][0] == stamp:
                return self._cache[repository][1]
            linked = _read(json.loads(file.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            self._cache.pop(repository, None)
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ContentError) as error:
            raise StorageError(f"{file}: {error}") from error
        self._cache[repository] = (stamp, linked)
        return linked

    def repositories(self) -> Iterator[str]:
        """Name every repository."""
        for file in sorted(self._folder.rglob(_FILE)):
            yield file.parent.relative_to(self._folder).as_posix()

    def linked(self) -> frozenset[str]:
        """Return the digests of everything that some repository links.

        Raises:
            StorageError: a file is unreadable: then nothing may be taken for unlinked.
        """
        found = (self.get(repository) for repository in self.repositories())
        return frozenset().union(*(links.content for links in found if links))

    async def publish(
        self,
        repository: str,
        manifests: Mapping[Digest, ManifestRef],
        tags: Mapping[str, Digest],
        *,
        exactly: bool = False,
    ) -> None:
        """Add manifests and set tags in one atomic step: readers see all of it or nothing.

        Every blob and manifest that they refer to MUST be in the store already. With `exactly` the repository
        then holds these and nothing else.

        Raises:
            StorageError: the disk said no; the old file is untouched.
        """
        async with self._locks[repository]:
            old = self.get(repository) or RepositoryState()
            kept = RepositoryState() if exactly else old
            new = RepositoryState({**kept.tags, **tags}, {**kept.manifests, **manifests})
            if new != old:
                await asyncio.to_thread(self._write, repository, new)

    def sweep(self) -> None:
        """Remove what a crash left half written; call it before the first use."""
        for stray in self._folder.rglob(f".{_FILE}.*.tmp"):
            stray.unlink(missing_ok=True)

    def _write(self, repository: str, linked: RepositoryState) -> None:
        manifests = {
            digest: {"mediaType": link.media_type, "size": link.size, "refs": list(link.refs)}
            | ({} if link.subject is None else {"subject": link.subject})
            for digest, link in sorted(linked.manifests.items())
        }
        document = {"tags": dict(sorted(linked.tags.items())), "manifests": manifests}
        write_durably(
            self._folder / repository / _FILE,
            json.dumps(document, indent=1).encode(),
            written=lambda: failpoints.hit("links.written"),
            named=lambda: failpoints.hit("links.renamed"),
        )


def _read(document: dict[str, dict[str, object]]) -> RepositoryState:
    manifests = {Digest.parse(digest): _link(entry) for digest, entry in document["manifests"].items()}
    return RepositoryState({tag: Digest.parse(str(digest)) for tag, digest in document["tags"].items()}, manifests)


def _link(entry: Any) -> ManifestRef:  # a file of ours; a wrong shape raises and is reported
    refs = tuple(map(Digest.parse, entry["refs"]))
    return ManifestRef(entry["mediaType"], entry["size"], refs, entry.get("subject"))
