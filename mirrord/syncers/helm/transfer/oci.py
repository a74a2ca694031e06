"""Charts in an OCI registry, one repository for each chart, byte for byte as `helm push` has them (helm pkg/registry).

Only the time differs: helm takes that of the file, mirrord that of the index, so that a manifest can be made again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final

from mirrord import failpoints
from mirrord.blobs.reader import SpoolReader
from mirrord.errors import ContentError, ImmutableError, MirrordError, MissingError, RefusedError, UnsupportedError
from mirrord.model.digest import Digest
from mirrord.syncer.values import Ledger
from mirrord.syncers.helm import names
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.transfer.oci_manifest import config_of, manifest_of
from mirrord.syncers.helm.transfer.oci_removal import remove_charts
from mirrord.syncers.helm.transfer.target import IndexFile, Report
from mirrord.transfer.fanout import Workers
from mirrord.wire.http.client import Http
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.manifest import Manifest
from mirrord.wire.oci.reference import Reference

FEW: Final = 2  # versions of one chart that are asked for one by one, without listing the tags first
AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class TagSeen:
    """What a tag stood for when it was last seen."""

    archive: Digest  # of the chart
    manifest: Digest  # of its manifest
    at: float  # Unix time

    def __str__(self) -> str:
        """Return it as a note."""
        return f"{self.archive} {self.manifest} {self.at:.0f}"

    @classmethod
    def read(cls, text: str) -> TagSeen | None:
        """Read a note; None when it is none."""
        try:
            archive, manifest, at = text.split(" ")
            return cls(Digest.parse(archive), Digest.parse(manifest), float(at))
        except (ValueError, ContentError):
            return None


def repository_at(http: Http, place: str, chart: str, *, push: bool = False) -> Repository:
    """Return the repository of a chart below a place, `oci://HOST/PATH`."""
    at = Reference.parse(place[len(names.OCI) :])
    return Repository(http, Reference(at.domain, names.below(at.path, chart)), push=push)


class OciTarget:
    """All repositories below one path of a registry.

    Tags are remembered: those that were seen within `trust` are not asked for again, and the others by HEAD as long
    as their manifest is the one of before. Thousands of manifests would be thousands of pulls at Docker Hub.
    """

    provenance = True
    oldest_first = False

    def __init__(
        self,
        http: Http,
        domain: str,
        path: str,
        facts: MutableMapping[str, str],
        *,
        now: float = 0.0,
        trust: float = 0.0,
    ) -> None:
        """Write to `<domain>/<path>/<chart>:<version>`; `path` may be empty.

        `facts` are what earlier runs noted, and what the next one should know, by item; what was seen at most `trust`
        seconds before `now` (Unix time) is trusted.
        """
        self._http = http
        self._domain = domain
        self._path = path.strip("/")
        self._facts = facts
        self._now = now
        self._trust = trust
        self.place = f"oci://{'/'.join(filter(None, (domain, self._path)))}"

    async def held(self, charts: Collection[ChartVersion] = ()) -> Mapping[str, Digest]:
        """Ask for the manifests of those of `charts` that are there and not known: their layer is the archive."""
        unsure = await asyncio.to_thread(self._unsure, charts)
        asked: list[tuple[ChartVersion, TagSeen | None, bool]] = []

        async def find(versions: Sequence[tuple[ChartVersion, TagSeen | None]]) -> None:
            if len(versions) > FEW:
                with contextlib.suppress(RefusedError):  # a registry that does not tell them
                    tags = frozenset([tag async for tag in self._repository(versions[0][0]).tags()])
                    asked.extend(await asyncio.to_thread(_tagged, versions, tags))
                    return
            asked.extend([(chart, seen, False) for chart, seen in versions])

        await Workers(AT_ONCE).each(unsure.values(), find)
        await Workers(AT_ONCE).each(asked, lambda one: self._look(*one))
        found = await asyncio.to_thread(lambda: {item: TagSeen.read(fact) for item, fact in self._facts.items()})
        return {item: seen.archive for item, seen in found.items() if seen}

    def _unsure(self, charts: Collection[ChartVersion]) -> Mapping[str, list[tuple[ChartVersion, TagSeen | None]]]:
        """Return, by chart, what has to be asked for; what is noted of all others is trusted, and stays noted."""
        known = {chart.item: TagSeen.read(self._facts.get(chart.item, "")) for chart in charts}
        self._facts.clear()
        unsure = defaultdict[str, list[tuple[ChartVersion, TagSeen | None]]](list)
        for chart in charts:
            seen = known[chart.item]
            if seen is not None and 0 <= self._now - seen.at < self._trust:
                self._facts[chart.item] = str(seen)
            elif not names.registry_lacks(self._path, chart):
                unsure[chart.name].append((chart, seen))
        return unsure

    async def put(self, chart: ChartVersion, reader: SpoolReader, prov: bytes | None, *, replace: bool = False) -> None:
        """Push archive, provenance and config, then the manifest by its tag."""
        if names.registry_lacks(self._path, chart):
            raise UnsupportedError(f"{self.place}: {chart.item} cannot be a repository and a tag; it needs lower case")
        repository, tag = self._repository(chart), chart.tag
        if await repository.head_manifest(tag) is not None:
            manifest = await repository.get_manifest(tag)
            there = archive_of(manifest)
            if there == reader.digest and await self._whole(repository, manifest):
                self._saw(chart, manifest)
                return
            if not replace and there != reader.digest:
                raise ImmutableError(f"{self.place}/{chart.name}:{tag} is {there or 'no chart'}, not {reader.digest}")
        archive = Descriptor(names.CHART_TYPES[0], reader.digest, reader.size)
        layers = [archive]
        if not await repository.has_blob(archive):
            await reader.worth_sending()
            await repository.put_blob(archive, reader.chunks)
            failpoints.hit("push.blob")
        if prov is not None:
            layers.append(await _small(repository, names.PROVENANCE_TYPE, prov))
        config = await _small(repository, names.CONFIG_TYPE, config_of(chart.entry))
        manifest = manifest_of(chart, config, layers)
        await repository.put_manifest(manifest, tag)
        failpoints.hit("push.tag")
        self._saw(chart, manifest)

    @staticmethod
    async def _whole(repository: Repository, manifest: Manifest) -> bool:
        """Whether all content of a manifest is there; a collection of garbage may have taken it."""
        return all([await repository.has_blob(blob) for blob in manifest.blobs])

    async def finish(self, index: IndexFile) -> None:
        """Do nothing: a registry has no index, each tag stands for itself."""

    async def remove(self, target: str, charts: Sequence[ChartVersion], ledger: Ledger, report: Report) -> None:
        """Remove tags whose manifest is the one that `held` saw."""

        def manifests() -> Mapping[str, Digest]:
            seen = {chart.item: TagSeen.read(self._facts.get(chart.item, "")) for chart in charts}
            return {item: one.manifest for item, one in seen.items() if one}

        def ended(item: str, error: MirrordError | None) -> None:
            if error is None:
                self._facts.pop(item, None)
            report(item, error)

        there = await asyncio.to_thread(manifests)
        await remove_charts(target, charts, ledger, ended, manifests=there, open_repository=self._repository)

    def _repository(self, chart: ChartVersion) -> Repository:
        return Repository(self._http, Reference(self._domain, names.below(self._path, chart.name)), push=True)

    async def _look(self, chart: ChartVersion, seen: TagSeen | None, listed: bool) -> None:  # noqa: FBT001 - one of many
        """Find out what a tag stands for: by HEAD where it may be missing, or be what it was."""
        repository, tag = self._repository(chart), chart.tag
        if seen is not None or not listed:
            head = await repository.head_manifest(tag)
            if head is None:
                return
            if seen is not None and head.digest == seen.manifest:
                self._facts[chart.item] = str(TagSeen(seen.archive, seen.manifest, self._now))
                return
        try:
            self._saw(chart, await repository.get_manifest(tag))
        except MissingError:  # gone since its tag was listed
            return

    def _saw(self, chart: ChartVersion, manifest: Manifest) -> None:
        archive = archive_of(manifest)
        if archive is not None:
            self._facts[chart.item] = str(TagSeen(archive, manifest.digest, self._now))


def _tagged(
    versions: Sequence[tuple[ChartVersion, TagSeen | None]], tags: Collection[str]
) -> list[tuple[ChartVersion, TagSeen | None, bool]]:
    """Return those versions whose tags are there."""
    return [(chart, seen, True) for chart, seen in versions if chart.tag in tags]


def archive_of(manifest: Manifest) -> Digest | None:
    """Return the digest of the chart that a manifest is of, None when it is something else."""
    return next((blob.digest for blob in manifest.blobs if blob.media_type in names.CHART_TYPES), None)


async def _small(repository: Repository, media_type: str, data: bytes) -> Descriptor:
    """Push a blob of which we have all bytes."""
    blob = Descriptor(media_type, Digest.of(data), len(data))

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    if not await repository.has_blob(blob):
        await repository.put_blob(blob, chunks)
        failpoints.hit("push.blob")
    return blob
