"""A blob to upload, and the requests that it took."""

from __future__ import annotations

from collections.abc import AsyncIterator

from mirrord.model.digest import Digest
from mirrord.testing import Registry
from mirrord.wire.oci.descriptor import Descriptor

DATA = bytes(range(256)) * 1024
UPLOADS = "/blobs/uploads/"


class Source:
    """A body that counts how often it was opened and closed."""

    def __init__(self, data: bytes, step: int = 65536) -> None:
        self.data, self.step, self.opened, self.closed = data, step, 0, 0

    async def open(self) -> AsyncIterator[bytes]:
        self.opened += 1
        try:
            for start in range(0, len(self.data), self.step):
                yield self.data[start : start + self.step]
        finally:
            self.closed += 1


def blob(data: bytes = DATA, algorithm: str = "sha256") -> Descriptor:
    return Descriptor("application/octet-stream", Digest.of(data, algorithm), len(data))


def requests(registry: Registry) -> list[str]:
    return [exchange.method for exchange in registry.log]
