"""Where the files of a spool are."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from pathlib import Path

from mirrord.blobs.source import BlobSource
from mirrord.files import storage_errors
from mirrord.model.digest import Digest


@dataclass(frozen=True, slots=True)
class SpoolFolder:
    """A folder with complete blobs as `<algorithm>-<hex>`, and unfinished ones, which end in `.part`."""

    path: Path

    def complete(self, digest: Digest) -> Path:
        """Return the place of a complete blob."""
        return self.path / f"{digest.algorithm}-{digest.hex}"

    def part(self, source: BlobSource) -> Path:
        """Return the place of an unfinished blob, which the next reader of the same blob finds."""
        if source.digest is None:
            return self.unnamed()
        return self.complete(source.digest).with_suffix(".part" if source.size is None else f".{source.size}.part")

    def unnamed(self) -> Path:
        """Return a new place for an unfinished blob that no other reader shall find."""
        return self.path / f"{secrets.token_hex(16)}.part"

    def begun(self, source: BlobSource) -> int:
        """Return how many bytes of an unfinished blob are there."""
        with contextlib.suppress(OSError):
            return self.part(source).stat().st_size
        return 0

    def recall(self, file: Path, source: BlobSource) -> None:
        """Treat a file of an earlier process as unfinished, so that it is hashed first.

        Raises:
            StorageError: the disk failed.
        """
        with storage_errors(str(file)), contextlib.suppress(FileNotFoundError):
            file.rename(self.part(source))
