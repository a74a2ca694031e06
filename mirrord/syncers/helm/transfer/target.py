"""Places that charts can be published to, all with the same few verbs."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from mirrord.blobs.reader import SpoolReader
from mirrord.errors import MirrordError
from mirrord.model.digest import Digest
from mirrord.syncer.values import Ledger
from mirrord.syncers.helm.names import ChartVersion


@dataclass(frozen=True, slots=True)
class Listing:
    """What an index at a target says."""

    # its entries, by item; not every server lists their digests
    charts: Mapping[str, ChartVersion] = field(default_factory=dict)
    context: str = ""  # the path below which the server's API is (`serverInfo.contextPath`), or ""
    public_keys: tuple[str, ...] = ()  # names of the repository's keys
    annotations: Mapping[str, str] = field(default_factory=dict)  # the index's own

    @property
    def digests(self) -> Mapping[str, Digest]:
        """Digests of the archives, by item, as far as the index lists them."""
        return {item: chart.digest for item, chart in self.charts.items() if chart.digest}

    def shows(self, expected: Mapping[str, Digest]) -> bool:
        """Whether it lists all of these archives, as far as it has their digests."""
        return all(
            item in self.charts and self.charts[item].digest in (None, digest) for item, digest in expected.items()
        )


Reading = Callable[[bytes], Listing]
"""Reads an index; raises ContentError when the bytes are none."""

GZIP = "application/gzip"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class IndexFile:
    """An index that is ready to be published."""

    data: bytes = field(repr=False)  # its bytes, YAML or JSON
    charts: tuple[ChartVersion, ...]  # what it lists, every one with the digest of its archive
    # small files that belong beside it, by name (`pubkey.gpg`, `artifacthub-repo.yml`); None: those that are there
    extras: Mapping[str, bytes] | None = field(default_factory=dict, hash=False, repr=False)
    # what the index listed which this one was made from, by item, None when nobody knows: should somebody else have
    # added or replaced others since, they must not be lost
    knew: Mapping[str, Digest | None] | None = field(default=None, hash=False, repr=False)

    @property
    def media_type(self) -> str:
        """The Content-Type to serve it with; helm itself looks at the content (helm/helm#12245)."""
        return "application/json" if self.data.startswith(b"{") else "application/yaml"

    def packed(self) -> bytes:
        """Return `index.yaml.gz`: the same for the same data, since it holds no time."""
        return gzip.compress(self.data, 6, mtime=0)


class ChartTarget(Protocol):
    """One chart repository at one place.

    Archives come first, each by `put`, several at once unless `oldest_first`; then `finish` shows the new index.
    Whatever goes wrong before leaves the old index, with every file that it lists.
    """

    place: str  # where it is, for people
    provenance: bool  # whether it keeps `.prov` files
    oldest_first: bool  # whether charts must be put one after the other, the oldest first

    async def held(self, charts: Collection[ChartVersion] = ()) -> Mapping[str, Digest]:
        """Return the digests of the archives that are there, by item; empty when there is no repository yet.

        `charts` says what the caller wants to know about: a place without an index of its own (a registry)
        tells of these only.

        Raises:
            ContentError: the file there is no index.
            MirrordError: it cannot be asked.
        """

    async def put(self, chart: ChartVersion, reader: SpoolReader, prov: bytes | None, *, replace: bool = False) -> None:
        """Write an archive, and its provenance where it is kept; both are whole on return.

        Another archive under the same version is replaced only when `replace` says so. Equal content is success.

        Raises:
            ImmutableError: the version is there with other content.
            MirrordError: as `SpoolReader.chunks`, or what the place said; nothing is half written then.
        """

    async def finish(self, index: IndexFile) -> None:
        """Show the new index in one atomic step and read it back; where the server makes it, wait for it.

        Raises:
            ContentError: a file that the index lists is not there; the old index stays.
            BusyError: another writer published meanwhile; that index stays.
            MirrordError: it could not be written; the old index stays.
        """


Report = Callable[[str, MirrordError | None], None]
"""Told of each item why it is still there, None for one that is gone."""


@runtime_checkable
class Removes(Protocol):
    """A server that lets single versions be deleted; of an index of ours, `finish` removes what it lists no more.

    A folder is one for the archives that its index does not list.
    """

    async def remove(self, target: str, charts: Sequence[ChartVersion], ledger: Ledger, report: Report) -> None:
        """Remove versions that still have their digest; one that is gone already is success.

        Args:
            target: its name in the configuration, for the ledger.
            charts: the versions, each with the digest that is expected there.
            ledger: where each removal is written down before it happens.
            report: is told the end of each of them, unless this raises.

        Raises:
            MirrordError: the rest cannot be removed.
        """
