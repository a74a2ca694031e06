"""Archives by digest, brought here from wherever they still are."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.reader import SpoolReader
from mirrord.errors import (
    ContentError,
    DeniedError,
    DigestError,
    MirrordError,
    MissingError,
    ThrottledError,
    UnreachableError,
)
from mirrord.model.digest import Digest
from mirrord.syncer.values import LOCAL, Mirror, Services
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.plan.choice import VersionChoice
from mirrord.syncers.helm.plan.survey import ChartArchive
from mirrord.syncers.helm.upstream.archive import brought, check_provenance, read_metadata
from mirrord.syncers.helm.upstream.archive_places import ArchiveFound, open_places, open_source
from mirrord.syncers.helm.upstream.fetch import ChartSource
from mirrord.syncers.helm.upstream.index_schema import ENTRY, InvalidEntryError, record
from mirrord.transfer.fanout import Workers, together
from mirrord.transfer.feed import feed

LOOKS: Final = 8  # parallel requests at one place


_OF_PLACE: Final = UnreachableError, ThrottledError, DeniedError  # say nothing about one archive

_Where = tuple[Mapping[Digest, Sequence[str]], Mapping[Digest, Mapping[str, MirrordError]]]
"""Digest → the places that have it, `local` first and the source last; and why others could not say, by name."""


class KeptArchives:
    """Archives of one mirror by digest, read from the first place that has them and gives them."""

    def __init__(self, mirror: Mirror, services: Services) -> None:
        """Look at the targets of `mirror`, and at its source; without a state directory there is no `local`."""
        self._services, self._places = services, open_places(mirror, services)

    def nowhere(self, digest: str, errors: Mapping[str, MirrordError]) -> str:
        """Say that no place gave an archive: those that do not have it, and what the others said."""
        without = [name for name in self._places if name not in errors]
        said = [f"not at {', '.join(without)}"] if without else []
        return f"{digest} is nowhere: {'; '.join([*said, *(f'{name}: {error}' for name, error in errors.items())])}"

    async def where(self, charts: Collection[ChartVersion]) -> _Where:
        """Ask all places for archives, one request each at most; one that does not answer is not asked again."""
        asked = await asyncio.to_thread(lambda: {chart.digest: chart for chart in charts if chart.digest})
        there: dict[str, set[Digest]] = {name: set() for name in self._places}
        unknown = defaultdict[Digest, dict[str, MirrordError]](dict)

        async def ask(name: str) -> None:
            gone: MirrordError | None = None

            async def look(digest: Digest) -> None:
                nonlocal gone
                try:
                    if gone is None and await self._places[name].find(asked[digest]):
                        there[name].add(digest)
                except MirrordError as error:
                    unknown[digest][name] = error
                    gone = error if isinstance(error, _OF_PLACE) else gone

            await Workers(LOOKS).each(asked, look)
            if gone is not None:
                for digest in asked.keys() - there[name]:
                    unknown[digest].setdefault(name, gone)

        await together(*map(ask, self._places))

        def found() -> _Where:
            at = {one: [name for name in there if one in there[name]] for one in asked}
            return at, {one: unknown.get(one, {}) for one in asked}

        return await asyncio.to_thread(found)

    @asynccontextmanager
    async def archive(
        self, chart: ChartVersion, spools: SpoolPool, group: str, *, signed: bool
    ) -> AsyncIterator[ChartArchive]:
        """Bring an archive into `spools` from the first place that gives it whole, with an entry for an index.

        Its provenance may be at another place than the archive.

        Raises:
            MissingError: none has it.
            MirrordError: what the last one said that has it.
        """
        assert chart.digest is not None
        errors: dict[str, MirrordError] = {}
        for name, place in self._places.items():
            try:
                found = await place.find(chart)
                if found is not None:
                    whole = await self._brought(chart, found, spools, group)
                    break
            except MirrordError as error:
                errors[name] = error
                if name == LOCAL and isinstance(error, DigestError) and self._services.blobs:
                    await self._services.blobs.remove(chart.digest)  # a damaged file would be taken for the archive
        else:
            raise MissingError(self.nowhere(str(chart.digest), errors))
        yield replace(whole, provenance=partial(self._provenance, chart)) if signed else whole

    async def _brought(self, chart: ChartVersion, found: ArchiveFound, spools: SpoolPool, group: str) -> ChartArchive:
        assert chart.digest is not None
        digest, size, odd = await brought(chart, found.source, [chart.digest], spools, group)
        source = replace(found.source, digest=digest, size=size)
        entry = found.entry

        async def look(reader: SpoolReader) -> None:
            nonlocal entry
            entry = await asyncio.to_thread(_entry, await reader.verified(), chart)

        if entry is None:
            await feed(spools, source, group, group, look)
        assert entry is not None
        return ChartArchive(replace(entry, digest=digest), source, digest, size, _unsigned, odd)

    async def _provenance(self, chart: ChartVersion) -> bytes | None:
        """Return the first provenance that is of this archive; what a place says otherwise is none."""
        assert chart.digest is not None
        for place in self._places.values():
            with suppress(MirrordError):
                body = await place.provenance(chart)
                if body is not None:
                    check_provenance(body, chart.file, chart.digest)
                    return body
        return None


async def at_source(mirror: Mirror, services: Services, charts: Collection[ChartVersion]) -> Collection[Digest]:
    """Return which archives the source has under the names of their versions; one that cannot be asked has none."""
    place, found = open_source(mirror, services, named=True), set[Digest]()

    async def look(chart: ChartVersion) -> None:
        with suppress(MirrordError):
            if chart.digest and await place.find(chart):
                found.add(chart.digest)

    await Workers(LOOKS).each(charts, look)
    return found


async def _unsigned() -> bytes | None:
    return None


def _entry(file: Path, chart: ChartVersion) -> ChartVersion:
    """Make the entry that `helm repo index` would make of an archive. Blocks; ContentError: helm would not take it."""
    raw = dict(read_metadata(file, chart.file))
    try:
        entry = record("", raw, lambda _what: None, ENTRY)
    except InvalidEntryError as error:
        raise ContentError(f"{chart.file}: {error}") from error
    return replace(chart, deprecated=entry.get("deprecated") is True, entry={**entry, "version": chart.version})


def archives(source: ChartSource, kept: KeptArchives) -> Callable[..., AbstractAsyncContextManager[ChartArchive]]:
    """Return what brings the archive of a version here: from upstream, or a restored one from where it still is."""

    def archive(
        choice: VersionChoice, spools: SpoolPool, group: str, here: Path | None, *, signed: bool
    ) -> AbstractAsyncContextManager[ChartArchive]:
        if choice.restored:
            return kept.archive(choice.chart, spools, group, signed=signed)
        also = frozenset(one.digest for one in choice.rivals if one.digest)
        return source.archive(choice.chart, spools, group, also, here, signed=signed)

    return archive
