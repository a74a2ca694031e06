"""Coding's chart repositories, and every server that takes an archive by POST to the repository's own URL.

The protocol is that of Coding's helm plugin: the raw archive as body, Basic authentication, nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping, Sequence

from mirrord import failpoints
from mirrord.blobs.spool import SpoolReader
from mirrord.errors import RefusedError
from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.transfer.server_index import ServedIndex
from mirrord.syncers.helm.transfer.target import IndexFile, Reading
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest, Upload


class CodingTarget:
    """One repository at Coding. Whether a version may be replaced is a setting of the repository there."""

    provenance = False
    oldest_first = False

    def __init__(
        self,
        http: Http,
        url: str,
        reading: Reading,
        facts: MutableMapping[str, str],
        pauses: Sequence[float] | None = None,
    ) -> None:
        """Write to `url` (`https://<team>-helm.pkg.coding.net/<project>/<repository>`)."""
        self._index = ServedIndex(http, url, reading, facts, pauses)
        self._put: dict[str, Digest] = {}
        self.place = self._index.url

    async def held(self, charts: Collection[ChartVersion] = ()) -> Mapping[str, Digest]:
        """Read its index."""
        return await self._index.digests(await self._index.look(), charts)

    async def put(
        self,
        chart: ChartVersion,
        reader: SpoolReader,
        prov: bytes | None,  # noqa: ARG002 - Coding has no place for it
        *,
        replace: bool = False,  # noqa: ARG002 - Coding has no such switch
    ) -> None:
        """POST the archive; "exists" is success when the index shows the same digest."""
        headers = {"Content-Type": "application/octet-stream"}
        body = Upload(reader.size, reader.chunks)
        call = HttpRequest(
            "POST", self._index.url, self._index.host, headers=headers, body=body, ok=(200, 201, 202, 204)
        )
        await self._index.send(call, chart.item, reader, _exists)
        failpoints.hit("push.tag")
        self._put[chart.item] = reader.digest

    async def finish(self, index: IndexFile) -> None:  # noqa: ARG002 - Coding makes its own
        """Wait until Coding's own index lists what was put."""
        if self._put:
            self._index.check(self._put, await self._index.awaited(lambda listing: listing.shows(self._put)))
        self._put.clear()


def _exists(refusal: RefusedError) -> bool:
    return refusal.status == 409 or (refusal.status == 400 and "exist" in str(refusal).lower())
