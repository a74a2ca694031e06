"""Where the files of a spool are."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mirrord.errors import ContentError
from mirrord.files import storage_errors
from mirrord.model.digest import Digest


@dataclass(frozen=True, slots=True)
class SpoolFolder:
    """A folder with complete blobs as `<algorithm>-<hex>`, and unfinished ones, which end in `.part`."""

    path: Path

    def sweep(self) -> Iterator[tuple[Path, Digest, int]]:
        """Yield the complete blobs of an earlier process and their sizes, oldest first; remove all else.

        Raises:
            StorageError: the disk failed.
        """
        with storage_errors(str(self.path)):
            for file in sorted(self.path.iterdir(), key=lambda f: f.lstat().st_mtime):
                try:
                    digest = Digest.parse(file.name.replace("-", ":", 1))
                except ContentError:
                    file.unlink()
                else:
                    yield file, digest, file.stat().st_size

    def complete(self, digest: Digest) -> Path:
        """Return the place of a complete blob."""
        return self.path / f"{digest.algorithm}-{digest.hex}"

    def unfinished(self, digest: Digest | None) -> Path:
        """Return a new place for an unfinished blob; several transfers of one digest may run at once."""
        token = f"{secrets.token_hex(16)}.part"
        return self.path / token if digest is None else self.complete(digest).with_suffix(f".{token}")

    def recall(self, file: Path, digest: Digest | None) -> Path:
        """Treat a file of an earlier process as unfinished, so that it is hashed first; return its new place.

        Raises:
            StorageError: the disk failed.
        """
        part = self.unfinished(digest)
        with storage_errors(str(file)), contextlib.suppress(FileNotFoundError):
            file.rename(part)
        return part
