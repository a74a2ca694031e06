"""ChartMuseum's API, which Gitea, GitLab and Harbor before 2.8 speak as well."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from mirrord import failpoints
from mirrord.blobs.reader import SpoolReader
from mirrord.errors import GuardError, RefusedError
from mirrord.model.digest import Digest
from mirrord.plan.guards import some
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.transfer.retention import Retention, grouped
from mirrord.syncers.helm.transfer.server_index import SOON, ServedIndex
from mirrord.syncers.helm.transfer.target import IndexFile, Listing
from mirrord.wire.http.message import HttpRequest, Upload
from mirrord.wire.number import whole

KEEPS: Final = ".keeps"
"""Names, among the facts, how many versions of a chart the server was seen to keep."""
SEEN: Final = ".seen"
"""Names how many there were of a chart at the most, when all was there that was wanted and could be had."""

LOOKS: Final = frozenset(4**power for power in range(9))  # uploads after which a limit would have shown


@dataclass(frozen=True, slots=True)
class Museum:
    """What is known of a ChartMuseum besides its address."""

    context: str | None = None  # its `--context-path` as the operator wrote it; None: what its index says
    wanted: Collection[ChartVersion] = ()  # the wanted versions
    upstream: Collection[ChartVersion] = ()  # all versions that could be had again
    newest: int | None = None  # how many of a chart are wanted at the most; None: all
    bold: bool = False  # continue where it is unknown whether something newer would be dropped


class ChartMuseumTarget:
    """One repository of a ChartMuseum.

    It dates charts by their arrival, and with a limit for each chart removes what came first: hence `oldest_first`,
    and nothing is put that would cost something newer.
    """

    provenance = True
    oldest_first = True

    def __init__(self, index: ServedIndex, museum: Museum = Museum()) -> None:
        """Write to the repository that has this index."""
        self._http, self._index, self._facts = index.http, index, index.facts
        self._museum = museum
        self._room: Retention | None = None
        self._api = ""
        self._forms = False
        self._once = asyncio.Lock()
        self._put: dict[str, ChartVersion] = {}
        self._dropped: set[str] = set()
        self._risks = 0
        self.place = self._index.url

    async def held(self, charts: Collection[ChartVersion] = ()) -> Mapping[str, Digest]:
        """Read its index."""
        listing = await self._index.look()
        held = await self._index.digests(listing, charts)
        await asyncio.to_thread(self._enter, listing)
        return held

    def refused(self, charts: Sequence[ChartVersion]) -> Mapping[str, str]:
        """Say which of these must not be put, and why; asked after `held`. `charts` come the oldest first."""
        room = self._room
        if room is None:
            return {}
        most = room.most
        found = room.refused([one for one in charts if one.version not in room.there.get(one.name, {})])
        if found or room.keeps is not None or most == self._museum.newest:
            self._facts.pop(SEEN, None)
        else:
            self._facts[SEEN] = str(most)
        return found

    async def put(self, chart: ChartVersion, reader: SpoolReader, prov: bytes | None, *, replace: bool = False) -> None:
        """POST the provenance, then the archive: an archive is never there without it; `?force` replaces.

        Raises:
            GuardError: the server would drop something newer for it.
        """
        async with self._once:  # another writer may have put something since the survey
            room = self._room
            if room is None:
                room = await asyncio.to_thread(self._enter, await self._index.look())
        why = room.refusal(chart) if replace or chart.version not in room.there.get(chart.name, {}) else ""
        if why:
            raise GuardError(f"{self.place}: {chart.item}: {why}")
        risky, force = room.risky(chart), "?force" if replace else ""
        await self._make_way(chart, room)
        beside = prov if prov is not None and not await self._signed(chart, prov, force) else None
        boundary = secrets.token_hex(16)  # no file can be made to hold it
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        body = _form(boundary, chart.file, reader, beside)
        call = HttpRequest("POST", f"{self._api}{force}", self._index.host, headers=headers, body=body, ok=(200, 201))
        if await self._index.send(call, chart.item, reader, lambda refusal: refusal.status == 409):
            room.came(chart, asyncio.get_running_loop().time())
        failpoints.hit("push.tag")
        self._put[chart.item] = dataclasses.replace(chart, digest=reader.digest)
        if SEEN in self._facts:
            self._facts[SEEN] = str(room.most)
        self._risks += risky
        if (risky and self._risks in LOOKS) or (len(self._put) > 1 and len(self._put) in LOOKS):
            self._learn(await self._index.awaited(self._settled, SOON))

    async def finish(self, index: IndexFile) -> None:  # noqa: ARG002 - ChartMuseum makes its own
        """Wait until ChartMuseum's own index lists what was put.

        Raises:
            GuardError: it dropped some of it again, since it keeps only so many versions of a chart.
        """
        if not self._put:
            return
        try:
            listing = self._learn(await self._index.awaited(self._settled, SOON))  # what is not there then was dropped
            if not self._settled(listing):
                listing = self._learn(await self._index.awaited(self._settled))
            self._index.check(self._staying, listing)
            lost = self._dropped & (self._put.keys() | {chart.item for chart in self._museum.wanted})
            if lost and self._room:
                kept = f"{self.place}: keeps {self._room.keeps} versions of a chart, and dropped {some(lost)}"
                raise GuardError(f"{kept}; set `newest: {self._room.keeps}`")
        finally:
            self._put.clear()
            self._dropped.clear()

    @property
    def _staying(self) -> Mapping[str, Digest]:
        """What was put, and neither went again nor had to, as far as is known."""
        there = self._room.there if self._room else {}
        return {
            item: one.digest
            for item, one in self._put.items()
            if one.digest and item not in self._dropped and one.version in there.get(one.name, {})
        }

    def _settled(self, listing: Listing) -> bool:
        """Whether an index shows all that was put and stays."""
        return listing.shows(self._staying)

    def _enter(self, listing: Listing) -> Retention:
        museum, known = self._museum, self._index.known(listing)
        have = (*museum.upstream, *museum.wanted)
        self._room = Retention(
            grouped(listing.charts.values()),
            whole(self._facts.get(KEEPS, "")) or None,
            museum.bold,
            grouped(museum.wanted),
            {one.item for one in have if one.digest and known.get(one.item) == one.digest},
            whole(self._facts.get(SEEN, "")),
        )
        self._note()
        context = listing.context if below(self.place, listing.context) else ""
        self._api = api_url(self.place, context if museum.context is None else museum.context)
        return self._room

    async def _make_way(self, chart: ChartVersion, room: Retention) -> None:
        """Delete the oldest version where the server would drop a newer one for this chart: by name, in one second."""
        version = room.makes_way(chart)
        if not version:
            return
        url = f"{self._api}/{quote(chart.name)}/{quote(version, safe='')}"
        try:
            await self._http.fetch(HttpRequest("DELETE", url, self._index.host))
        except RefusedError as error:
            raise GuardError(
                f"{self.place}: {chart.item}: the server keeps {room.keeps} versions of a chart, would drop another "
                f"than {chart.name}-{version} for it, and does not let that one be deleted: {error}"
            ) from error
        room.went(chart.name, version)
        self._dropped.add(f"{chart.name}-{version}")

    async def _signed(self, chart: ChartVersion, prov: bytes, force: str) -> bool:
        """Put a provenance by itself; False where the server has no place for that (Gitea, GitLab).

        In one form with its archive a ChartMuseum with a limit takes it for a chart, drops its oldest version for
        it, and refuses both ("invalid chart package").
        """
        if self._forms:
            return False
        headers = {"Content-Type": "application/octet-stream"}
        url = f"{self._api.removesuffix('charts')}prov{force}"
        try:
            await self._http.fetch(
                HttpRequest("POST", url, self._index.host, headers=headers, body=prov, ok=(200, 201))
            )
        except RefusedError as error:
            if error.status in (404, 405):
                self._forms = True
                return False
            if error.status != 409:  # then it is there; of another archive, it is refused with that one
                raise type(error)(f"{chart.file}.prov: {error}", error.status) from error
        return True

    def _learn(self, listing: Listing) -> Listing:
        if self._room:
            now = asyncio.get_running_loop().time()
            self._dropped |= self._room.learn(listing.charts.values(), self._put.values(), now)
            self._dropped -= listing.charts.keys()
            self._note()
        return listing

    def _note(self) -> None:
        """Note the limit, or that there is none any more."""
        if self._room and self._room.keeps is not None:
            self._facts[KEEPS] = str(self._room.keeps)
            self._facts.pop(SEEN, None)
        else:
            self._facts.pop(KEEPS, None)


def api_url(url: str, context: str) -> str:
    """Return where charts are posted: `api` goes between the context path and the repository.

    `https://host/ctx/org/repo` with context `/ctx` → `https://host/ctx/api/org/repo/charts`.
    """
    parts, front = urlsplit(url), _front(context)
    rest = parts.path.rstrip("/")[len(front) :] if below(url, context) else parts.path.rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, f"{front}/api{rest}/charts", "", ""))


def below(url: str, context: str) -> bool:
    """Whether a repository is below a context path; what an index says of it goes only then (a proxy may hide it)."""
    path, front = urlsplit(url).path, _front(context)
    return path == front or path.startswith(f"{front}/")


def _front(context: str) -> str:
    return f"/{context.strip('/')}" if context.strip("/") else ""


def _form(boundary: str, file: str, reader: SpoolReader, prov: bytes | None) -> Upload:
    """Return a form (RFC 7578) whose first part is the archive as it comes."""
    head = _part(boundary, "chart", file)
    tail = b"" if prov is None else b"\r\n" + _part(boundary, "prov", f"{file}.prov") + prov
    tail += f"\r\n--{boundary}--\r\n".encode()

    async def chunks() -> AsyncIterator[bytes]:
        yield head
        async for chunk in reader.chunks():
            yield chunk
        yield tail

    return Upload(len(head) + reader.size + len(tail), chunks)


def _part(boundary: str, field: str, file: str) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{field}"; filename="{file}"'
    return f"--{boundary}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
