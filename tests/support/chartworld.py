"""A small world for tests of chart targets: a spool pool that counts what it reads, and targets of every kind.

async with open_chart_world(tmp_path) as world:
target = await world.target("chartmuseum")
await world.put(target, pack_chart("crane", "1.0.0"))
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mirrord import failpoints
from mirrord.blobs.disk import DiskStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.named import NamedFiles
from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.source import BlobSource
from mirrord.errors import ContentError
from mirrord.events import Events
from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import CHARTS, INDEX, ChartVersion
from mirrord.syncers.helm.transfer.chartmuseum import ChartMuseumTarget, Museum
from mirrord.syncers.helm.transfer.directory import DirectoryTarget
from mirrord.syncers.helm.transfer.local import LocalTarget
from mirrord.syncers.helm.transfer.oci import OciTarget
from mirrord.syncers.helm.transfer.server_index import CodingTarget, ServedIndex
from mirrord.syncers.helm.transfer.target import ChartTarget, IndexFile, Listing
from mirrord.testing.registry import Registry
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import Limits
from tests.support.chartfiles import chart_metadata, sign_chart
from tests.support.chartservers import ChartMuseumServer, ChartServer, CodingServer
from tests.support.giteacharts import GiteaServer
from tests.support.localstore import files_in

CREATED = "2024-05-17T14:00:00.123456789+02:00"
KINDS = ("local", "directory", "coding", "chartmuseum", "oci")
REPOSITORY = "_helm/app"
PIECE = 32 << 10


def version_of(archive: bytes, created: str | None = CREATED) -> ChartVersion:
    """Return the index entry of an archive."""
    metadata = chart_metadata(archive)
    name, version = metadata["name"], metadata["version"]
    digest = Digest(f"sha256:{hashlib.sha256(archive).hexdigest()}")
    urls = (f"{CHARTS}/{name}-{version}.tgz",)
    entry = {**metadata, "urls": list(urls), "digest": digest.hex, "created": created}
    return ChartVersion(name, version, digest, urls, created, metadata.get("deprecated") is True, entry)


def index_of(*archives: bytes, extras: Mapping[str, bytes] | None = None) -> IndexFile:
    """Return an index that lists these archives."""
    charts = tuple(map(version_of, archives))
    entries: dict[str, list[object]] = {}
    for chart in charts:
        entries.setdefault(chart.name, []).append(chart.entry)
    document = {"apiVersion": "v1", "entries": entries, "generated": CREATED}
    return IndexFile(json.dumps(document).encode(), charts, extras or {})


def read_entries(data: bytes) -> Mapping[str, Digest]:
    """Read an index in the plainest way.

    Raises:
        ContentError: it is none.
    """
    try:
        entries = [one for versions in yaml.load(data, yaml.CSafeLoader)["entries"].values() for one in versions]
        return {f"{one['name']}-{one['version']}": Digest.parse(f"sha256:{one['digest']}") for one in entries}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ContentError("not an index") from error


def read_listing(data: bytes) -> Listing:
    """Read an index as targets want it read, in the plainest way, also one without digests.

    Raises:
        ContentError: it is none.
    """
    try:
        document = yaml.load(data, yaml.CSafeLoader)
        entries = [one for versions in document["entries"].values() for one in versions]
        charts = [_listed({**one, "created": str(one.get("created", ""))}) for one in entries]
        return Listing({one.item: one for one in charts}, document.get("serverInfo", {}).get("contextPath", ""))
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ContentError("not an index") from error


def _listed(entry: Mapping[str, Any]) -> ChartVersion:
    digest = Digest.parse(f"sha256:{entry['digest']}") if "digest" in entry else None
    return ChartVersion(entry["name"], entry["version"], digest, tuple(entry["urls"]), entry["created"], False, entry)


@dataclass(slots=True)
class ChartWorld:
    """Where charts are put to targets.

    Attributes:
        folder: state of the test.
        http: a real one.
        spools: archives on their way.
        stack: what ends with the test.
        read: bytes that came from the source, by archive.
        server: the chart server or registry that the last target was made for.
        facts: what targets note for the next run.
        desired: the versions that a mirror would want there.
        bold: whether the operator said to go on.
        now: Unix time.
    """

    folder: Path
    http: Http
    spools: SpoolPool
    stack: contextlib.AsyncExitStack
    read: dict[Digest, int] = field(default_factory=dict)
    server: ChartServer | Registry | None = None
    facts: dict[str, str] = field(default_factory=dict)
    desired: tuple[ChartVersion, ...] = ()
    bold: bool = False
    now: float = 1_704_067_200.0

    @property
    def links(self) -> DiskRepositories:
        """Names of the local store, read anew as after a restart."""
        return DiskRepositories(self.folder / "repositories")

    @property
    def store(self) -> DiskStore:
        """Content of the local store."""
        return DiskStore(self.folder / "blobs")

    async def target(self, kind: str, **options: object) -> ChartTarget:
        """Make a target of one of `KINDS`, with a double of its server where it needs one; again after a restart."""
        makers: Mapping[str, Callable[[], ChartTarget]] = {
            "local": lambda: LocalTarget(NamedFiles(self.store, self.links, REPOSITORY), REPOSITORY),
            "directory": lambda: DirectoryTarget(self.folder / "site", read_listing),
        }
        if kind in makers:
            return makers[kind]()
        if self.server is None:
            doubles: Mapping[str, Callable[..., ChartServer | Registry]] = {
                "coding": CodingServer,
                "chartmuseum": ChartMuseumServer,
                "gitea": GiteaServer,
                "oci": Registry,
            }
            self.server = await self.stack.enter_async_context(doubles[kind](**options))
        if isinstance(self.server, Registry):
            return OciTarget(self.http, self.server.host, "team/charts", self.facts, now=self.now, trust=3600.0)
        assert self.server is not None
        if isinstance(self.server, CodingServer):
            return CodingTarget(ServedIndex(self.http, self.server.url, read_listing, self.facts, (0.0,) * 5))
        museum, pauses = Museum(wanted=self.desired, bold=self.bold), (0.0,) * 5
        return ChartMuseumTarget(ServedIndex(self.http, self.server.url, read_listing, self.facts, pauses), museum)

    def wanted(self, archive: bytes) -> BlobSource:
        """Return where an archive can be had: a source that counts its bytes."""
        digest = Digest(f"sha256:{hashlib.sha256(archive).hexdigest()}")

        @contextlib.asynccontextmanager
        async def opened(offset: int) -> AsyncIterator[tuple[None, AsyncIterator[bytes]]]:
            yield None, pieces(offset)

        async def pieces(offset: int) -> AsyncIterator[bytes]:
            for at in range(offset, len(archive), PIECE):
                piece = archive[at : at + PIECE]
                self.read[digest] = self.read.get(digest, 0) + len(piece)
                yield piece

        return BlobSource(digest, len(archive), opened)

    async def put(
        self,
        target: ChartTarget,
        archive: bytes,
        prov: bytes | None = None,
        *,
        replace: bool = False,
        created: str | None = CREATED,
    ) -> None:
        """Put one archive to one target."""
        async with self.spools.reader(self.wanted(archive), target.place) as reader:
            await target.put(version_of(archive, created), reader, prov, replace=replace)

    async def published(self, kind: str) -> Mapping[str, bytes]:
        """Return what a client could fetch from a `local` or `directory` target: names and content."""
        if kind == "local":
            return files_in(self.folder / "repositories", self.folder / "blobs", REPOSITORY)
        site = self.folder / "site"
        found = (file for file in site.rglob("*") if file.is_file())
        return {file.relative_to(site).as_posix(): file.read_bytes() for file in found}


@contextlib.asynccontextmanager
async def open_chart_world(
    folder: Path,
    *,
    book: HostBook | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> AsyncIterator[ChartWorld]:
    """Build a world with its state below `folder`."""
    events = Events()
    (folder / "spool").mkdir(exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(Http(book or HostBook(), events, limits, jitter=lambda: 0.0))
        spools = SpoolPool(folder / "spool", 64 << 20, events, 0.05)
        async with contextlib.AsyncExitStack() as doubles:
            doubles.push_async_callback(spools.aclose)
            yield ChartWorld(folder, http, spools, doubles)


def publish_until(folder: Path, kind: str, archives: Sequence[bytes], armed: str) -> None:
    """Put the last of `archives` to a target of a kind and publish the index of all, failing where `armed` says.

    For a child process.
    """

    async def work() -> None:
        failpoints.arm_from(armed)
        async with open_chart_world(folder) as world:
            target = await world.target(kind)
            await world.put(target, archives[-1], sign_chart(archives[-1]), replace=True)
            await target.finish(index_of(*archives))

    asyncio.run(work())


def sound(published: Mapping[str, bytes]) -> Mapping[str, Digest]:
    """Check that every archive which the published index lists is there and is what it says; return the list."""
    listed = read_entries(published[INDEX]) if INDEX in published else {}
    for item, digest in listed.items():
        assert Digest.of(published[f"{CHARTS}/{item}.tgz"]) == digest, item
    return listed
