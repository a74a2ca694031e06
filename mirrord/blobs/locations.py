"""Which repository at a host is known to hold a blob: candidates for mounting it elsewhere."""

from __future__ import annotations

from collections import OrderedDict

from mirrord.model.digest import Digest

MOST = 100_000  # entries, about 30 MB


class BlobLocations:
    """A bounded memory, for the life of the process: a wrong guess costs one request, no harm."""

    def __init__(self, most: int = MOST) -> None:
        """Remember at most `most` pairs of host and digest."""
        self._most = most
        self._seen: OrderedDict[tuple[str, Digest], str] = OrderedDict()

    def saw(self, host: str, digest: Digest, repository: str) -> None:
        """Remember that `repository` at `host` holds `digest`."""
        self._seen[host, digest] = repository
        self._seen.move_to_end((host, digest))
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)

    def other(self, host: str, digest: Digest, repository: str) -> str | None:
        """Return another repository at `host` that held `digest`, or None."""
        found = self._seen.get((host, digest))
        return found if found != repository else None
