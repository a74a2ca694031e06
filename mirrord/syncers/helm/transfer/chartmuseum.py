"""ChartMuseum's API, which Gitea, GitLab and Harbor before 2.8 speak as well."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mirrord import failpoints
from mirrord.blobs.reader import SpoolReader
from mirrord.errors import ContentError, GuardError, MirrordError, MissingError, RefusedError
from mirrord.model.digest import Digest
from mirrord.model.ledger import Settled
from mirrord.plan.guards import some
from mirrord.syncer.values import Ledger
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.transfer.museum_api import api_url, below, form, version_url
from mirrord.syncers.helm.transfer.retention import Retention, grouped
from mirrord.syncers.helm.transfer.server_index import AT_ONCE, SOON, ServedIndex
from mirrord.syncers.helm.transfer.target import IndexFile, Listing, Report
from mirrord.transfer.fanout import Workers
from mirrord.wire.http.message import HttpRequest
from mirrord.wire.number import whole

KEEPS: Final = ".keeps"
"""Names, among the facts, how many versions of a chart the server was seen to keep."""
SEEN: Final = ".seen"
"""Names how many there were of a chart at the most, when all was there that was wanted and could be had."""

_STAYS: Final = (
    "is still there: the server does not delete; a ChartMuseum with `--disable-delete` does not, and Gitea and GitLab"
    " have no such API, so delete it there by hand"
)

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

    oldest_first = True

    def __init__(self, index: ServedIndex, museum: Museum = Museum()) -> None:
        """Write to the repository that has this index."""
        self._http, self._index, self._facts = index.http, index, index.facts
        self._museum = museum
        self._room: Retention | None = None
        self._api = ""
        self.provenance = True  # until it turns out that the server has no place for it, as Gitea and GitLab
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
            self._facts[SEEN] = str(max(most, room.seen or 0))
        return found

    async def put(self, chart: ChartVersion, reader: SpoolReader, prov: bytes | None, *, replace: bool = False) -> None:
        """POST the provenance, then the archive: an archive is never there without it; `?force` replaces.

        Where an archive without provenance replaces one that has it, the old one stays: it goes only together with the
        chart, which would then be missing until the new one is there. Helm's `--verify` fails with it as without it.

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
        if self.provenance and prov is not None:
            await self._sign(chart, prov, force)
        boundary = secrets.token_hex(16)  # no file can be made to hold it
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        body = form(boundary, chart.file, reader)
        call = HttpRequest("POST", f"{self._api}{force}", self._index.host, headers=headers, body=body, ok=(200, 201))
        if await self._index.send(call, chart.item, reader, lambda refusal: refusal.status == 409):
            room.came(chart, asyncio.get_running_loop().time())
        failpoints.hit("push.tag")
        self._put[chart.item] = dataclasses.replace(chart, digest=reader.digest)
        if SEEN in self._facts:
            self._facts[SEEN] = str(max(room.most, room.seen or 0))
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

    async def remove(self, target: str, charts: Sequence[ChartVersion], ledger: Ledger, report: Report) -> None:
        """Delete versions, each with its provenance, and see by the index that they are gone."""
        listing = await self._index.look()
        await asyncio.to_thread(self._enter, listing)
        held = await self._index.digests(listing, charts)
        due = {chart.item: chart for chart in charts if held.get(chart.item) in (None, chart.digest)}
        for chart in charts:
            if chart.item not in due:
                why = f"{chart.item} stays: it is {held[chart.item]} there now, and not {chart.digest}"
                report(chart.item, GuardError(f"{self.place}: {why}"))
        moves = {chart.reference: (chart.digest, None) for chart in due.values()}
        async with ledger.moving(target, moves) as settled:
            ends = await self._deleted(due)
            for item, error in ends.items():
                if error:
                    refused = isinstance(error, RefusedError)
                    settled[due[item].reference] = Settled.UNDONE if refused else Settled.OPEN
        for item, error in ends.items():
            report(item, error)

    async def _deleted(self, due: Mapping[str, ChartVersion]) -> Mapping[str, MirrordError | None]:
        """Delete versions; return by item why it is still there, None for one that is gone."""
        ends: dict[str, MirrordError | None] = dict.fromkeys(due)
        taken: set[str] = set()

        async def delete(chart: ChartVersion) -> None:
            try:
                await self._delete(chart.name, chart.version)
                taken.add(chart.item)
            except MissingError:
                pass  # gone, or it does not delete: its index tells
            except MirrordError as error:
                ends[chart.item] = error
            failpoints.hit("remove.tag")

        async def look(item: str) -> None:
            try:
                if not await self._index.gone(listing.charts[item]):
                    why = "said that it was deleted, and still has it" if item in taken else _STAYS
                    kind = ContentError if item in taken else RefusedError
                    ends[item] = kind(f"{self.place}: {item}: {why}")
            except MirrordError as error:
                ends[item] = error

        await Workers(AT_ONCE).each(due.values(), delete)
        gone = [item for item, error in ends.items() if error is None]
        if gone:  # where nothing was taken, the index will hardly change
            times = None if taken else SOON
            listing = await self._index.awaited(lambda listing: listing.charts.keys().isdisjoint(gone), times)
            await Workers(AT_ONCE).each([item for item in gone if item in listing.charts], look)
        return ends

    async def _delete(self, name: str, version: str) -> None:
        await self._http.fetch(HttpRequest("DELETE", version_url(self._api, name, version), self._index.host))

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
        try:
            await self._delete(chart.name, version)
        except RefusedError as error:
            raise GuardError(
                f"{self.place}: {chart.item}: the server keeps {room.keeps} versions of a chart, would drop another "
                f"than {chart.name}-{version} for it, and does not let that one be deleted: {error}"
            ) from error
        room.went(chart.name, version)
        self._dropped.add(f"{chart.name}-{version}")

    async def _sign(self, chart: ChartVersion, prov: bytes, force: str) -> None:
        """Put a provenance by itself; a server that has no place for it gets none.

        In one form with its archive a ChartMuseum with a limit takes it for a chart, drops its oldest version for
        it, and refuses both ("invalid chart package").
        """
        headers = {"Content-Type": "application/octet-stream"}
        url = f"{self._api.removesuffix('charts')}prov{force}"
        try:
            await self._http.fetch(
                HttpRequest("POST", url, self._index.host, headers=headers, body=prov, ok=(200, 201))
            )
        except RefusedError as error:
            if error.status in (404, 405):
                self.provenance = False
            elif error.status != 409:  # then it is there; of another archive, it is refused with that one
                raise type(error)(f"{chart.file}.prov: {error}", error.status) from error

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
