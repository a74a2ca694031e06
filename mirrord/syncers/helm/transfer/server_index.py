"""Chart servers that make their own index: it lists what they hold, and shows when an upload has been accepted.

One that takes an archive by POST to the repository's own URL is spoken to here, too: the protocol is that of Coding's
helm plugin, the raw archive as body, Basic authentication, nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from typing import Final
from urllib.parse import urljoin

from mirrord import errors, failpoints
from mirrord.blobs.reader import SpoolReader
from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import INDEX, LARGEST_INDEX, LONGEST_ARCHIVE, ChartVersion
from mirrord.syncers.helm.transfer.target import IndexFile, Listing, Reading
from mirrord.transfer.fanout import Workers
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest, Upload
from mirrord.wire.origin import check_url

ATTEMPTS: Final = 3
AT_ONCE: Final = 8
PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between looks at an index that is made in the background (ChartMuseum's event loop)."""
SOON: Final = 3  # of the pauses: what an index does not show then it may never show


class ServedIndex:
    """The `index.yaml` of a server, as the set of what exists there: one request instead of one a version.

    A GET for each version made replications take minutes (helm/chartmuseum#456). Where an index has no digests
    (Gitea, Nexus), an archive is fetched once to know its own, and remembered until the index says otherwise.
    """

    def __init__(
        self,
        http: Http,
        url: str,
        reading: Reading,
        facts: MutableMapping[str, str],
        pauses: Sequence[float] | None = None,
    ) -> None:
        """Read `<url>/index.yaml`; what the operator wrote about the host of `url` goes for it.

        `facts` are what earlier runs noted, and get to hold what the next one should know; `pauses` stand for PAUSES.
        """
        self.url = url.rstrip("/")
        self.host = check_url(url).authority
        self.http = http
        self._reading = reading
        self.facts = facts
        self._pauses = PAUSES if pauses is None else pauses

    async def look(self) -> Listing:
        """Return what it lists; no index, nothing there.

        Raises:
            ContentError: what the server calls its index is none.
        """
        headers = {"Cache-Control": "no-cache"}
        try:
            call = HttpRequest("GET", f"{self.url}/{INDEX}", self.host, headers=headers, cap=LARGEST_INDEX)
            answer = await self.http.fetch(call)
        except errors.MissingError:
            return Listing()
        return await asyncio.to_thread(self._reading, answer.body)

    async def digests(self, listing: Listing, charts: Collection[ChartVersion]) -> Mapping[str, Digest]:
        """Return the digests of the archives that are there, by item; where the index has none, those of `charts`.

        What was noted of others stays, as long as the index lists them without a digest.
        """
        held = dict(listing.digests)
        untold = listing.charts.keys() - held.keys()
        silent = {chart.item: chart for chart in charts if chart.item in untold}
        for item in [item for item in self.facts if not item.startswith(".") and item not in untold]:
            del self.facts[item]

        async def find(chart: ChartVersion) -> None:
            digest = await self._digest(listing.charts[chart.item], chart.digest)
            if digest is not None:
                held[chart.item] = digest

        await Workers(AT_ONCE).each(silent.values(), find)
        return held

    def known(self, listing: Listing) -> Mapping[str, Digest]:
        """Return the digests that an index lists, or that are known without asking."""
        known = {item: self._known(chart) for item, chart in listing.charts.items()}
        return {item: digest for item, digest in known.items() if digest}

    async def send(
        self, call: HttpRequest, item: str, reader: SpoolReader, exists: Callable[[errors.RefusedError], bool]
    ) -> bool:
        """Send an archive; False when it is there already, by what `exists` says of a refusal, and the index shows it.

        It is sent again from its spool when the connection or the server broke. The second time it may be "there
        already", which is how an answer that was lost on its way looks.

        Raises:
            ImmutableError: other content is there.
            MirrordError: as `Http.fetch`, or what the reader's source said.
        """
        await reader.worth_sending()
        attempt = 1
        while True:
            try:
                await self.http.fetch(call)
            except errors.RefusedError as error:
                if not exists(error):
                    raise
                # only after an attempt of ours that broke is it likely to be there and not shown yet
                listing = await self.awaited(lambda one: item in one.charts, None if attempt > 1 else SOON)
                if item not in listing.charts:
                    raise
                there = await self._digest(listing.charts[item], reader.digest)
                if there != reader.digest:
                    other = f"{item} is {there or 'something else'} there, not {reader.digest}, and may not be replaced"
                    raise errors.ImmutableError(f"{self.url}: {other}", error.status) from error
                return False
            except (errors.BrokenError, errors.ServerError) as error:
                if attempt == ATTEMPTS or not error.retry or reader.detached or reader.error:
                    raise
                attempt += 1
            else:
                return True

    def check(self, expected: Mapping[str, Digest], listing: Listing) -> None:
        """See whether an index lists what was put; note the digests that it does not tell.

        Raises:
            DigestError: it lists another archive.
            ContentError: it does not list one that the server said it took.
        """
        for item, digest in expected.items():
            listed = listing.charts.get(item)
            if listed is None:
                raise errors.ContentError(f"{self.url}: accepted {item}, and its index does not list it")
            if listed.digest is None:
                self.facts[item] = _fact(listed, digest)
            elif listed.digest != digest:
                raise errors.DigestError(f"{self.url}: was sent {digest} as {item}, and its index says {listed.digest}")

    async def awaited(self, done: Callable[[Listing], bool], times: int | None = None) -> Listing:
        """Return the index once it is as it should be, or its last state, after so many pauses or all of them."""
        listing = await self.look()
        for pause in self._pauses[:times]:
            if done(listing):
                break
            await asyncio.sleep(pause)
            listing = await self.look()
        return listing

    async def gone(self, listed: ChartVersion) -> bool:
        """Whether an archive is not there any more, though the index, made in the background, still lists it.

        Raises:
            MirrordError: it cannot be asked for, but for a server that lets nobody read it.
        """
        try:  # ChartMuseum answers no HEAD for an archive
            async with self.http.stream(HttpRequest("GET", self._url(listed), self.host, encoded=True)):
                return False
        except errors.MissingError:
            return True
        except errors.RefusedError:
            return False

    def _url(self, listed: ChartVersion) -> str:
        return urljoin(f"{self.url}/", listed.urls[0]) if listed.urls else self.url

    async def _digest(self, listed: ChartVersion, wanted: Digest | None) -> Digest | None:
        """Return the digest of an archive whose index has none; None when it cannot be fetched."""
        known = self._known(listed)
        if known is not None:
            return known
        url = self._url(listed)
        hasher, size = hashlib.sha256(), 0
        try:
            async with self.http.stream(HttpRequest("GET", url, self.host, encoded=True)) as incoming:
                async for chunk in incoming.chunks():
                    size += len(chunk)
                    if size > LONGEST_ARCHIVE:
                        most = f"more than {LONGEST_ARCHIVE} bytes, which no chart has"
                        raise errors.TooLargeError(f"{self.url}: {listed.item} has {most}")
                    hasher.update(chunk)
        except errors.MissingError:
            return None
        except (errors.RefusedError, errors.ContentError, errors.UntrustedError):
            return wanted  # it may not be read: then its name and version have to do
        digest = Digest(f"sha256:{hasher.hexdigest()}")
        self.facts[listed.item] = _fact(listed, digest)
        return digest

    def _known(self, listed: ChartVersion) -> Digest | None:
        noted = self.facts.get(listed.item, "")
        digest = noted.partition(" ")[0]
        if listed.digest is None and noted == _fact(listed, digest):
            return Digest.parse(digest)
        return listed.digest


def _fact(listed: ChartVersion, digest: str) -> str:
    return f"{digest} {listed.created or '-'}"


class CodingTarget:
    """One repository at Coding. Whether a version may be replaced is a setting of the repository there."""

    provenance = False
    oldest_first = False

    def __init__(self, index: ServedIndex) -> None:
        """Write to what has this index (`https://<team>-helm.pkg.coding.net/<project>/<repository>`)."""
        self._index = index
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

        def exists(refusal: errors.RefusedError) -> bool:
            return refusal.status == 409 or (refusal.status == 400 and "exist" in str(refusal).lower())

        await self._index.send(call, chart.item, reader, exists)
        failpoints.hit("push.tag")
        self._put[chart.item] = reader.digest

    async def finish(self, index: IndexFile) -> None:  # noqa: ARG002 - Coding makes its own
        """Wait until Coding's own index lists what was put."""
        if self._put:
            self._index.check(self._put, await self._index.awaited(lambda listing: listing.shows(self._put)))
        self._put.clear()
