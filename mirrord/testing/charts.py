"""Real charts and their provenance, assembled on the spot, and an index of them as helm writes it."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import yaml

from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import ChartVersion

CREATED = "2024-05-07T14:58:53.647187123+08:00"
Metadata = Mapping[str, Any]


class Signer(Protocol):
    """Turns a text into a clear-signed one."""

    def sign(self, text: bytes) -> bytes:
        """Return the signed text."""


@dataclass(frozen=True, slots=True)
class Chart:
    """An archive that `helm package` might have made.

    Attributes:
        name: as in its Chart.yaml.
        version: as in its Chart.yaml.
        data: the archive.
        metadata: what its Chart.yaml says.
    """

    name: str
    version: str
    data: bytes = field(repr=False)
    metadata: Metadata = field(repr=False, hash=False)

    @property
    def digest(self) -> Digest:
        """Digest of the archive."""
        return Digest.of(self.data)

    @property
    def file(self) -> str:
        """The archive's file name."""
        return f"{self.name}-{self.version}.tgz"

    def provenance(self, signer: Signer, *, file: str | None = None, digest: str | None = None) -> bytes:
        """Return the `.prov`; `file` and `digest` may lie."""
        sums = {"files": {file or self.file: str(digest or self.digest)}}
        return signer.sign(yaml_of(self.metadata) + b"\n...\n" + yaml_of(sums))

    def entry(self, *urls: str, digest: str | None = "", created: str = CREATED) -> dict[str, Any]:
        """Return what an index says about it; a `digest` of None is left out, any but "" may lie."""
        entry = {**self.metadata, "urls": list(urls or (f"charts/{self.file}",)), "created": created}
        return entry if digest is None else {**entry, "digest": digest or self.digest.hex}

    def listed(self, *urls: str, digest: Digest | None = None) -> ChartVersion:
        """Return the entry as the syncer reads it; another `digest` lies."""
        plain = self.entry(*urls)
        return ChartVersion(
            self.name, self.version, digest or self.digest, tuple(plain["urls"]), CREATED, deprecated=False, entry=plain
        )


def build_chart(
    name: str, version: str, files: Mapping[str, bytes] | None = None, metadata: Metadata | None = None
) -> Chart:
    """Assemble a chart, the same bytes each time; `files` by their names inside of it, `metadata` beside the usual."""
    said = {
        "apiVersion": "v2",
        "name": name,
        "version": version,
        "description": f"{name}, for tests",
        **(metadata or {}),
    }
    content = {"Chart.yaml": yaml_of(said), "values.yaml": b"{}\n", **(files or {})}
    members = [member(f"{name}/{path}", data) for path, data in content.items()]
    return Chart(name, version, pack(members), said)


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    """Return one member for `pack`, of whatever kind."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mode = len(data), kind, link, 0o644
    return info, data


def pack(members: Iterable[tuple[tarfile.TarInfo, bytes]], style: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a gzipped tar of `members`, the same bytes each time; also of what no chart may hold."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=style) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(plain.getvalue(), mtime=0)


def build_index(entries: Iterable[Mapping[str, Any]], **more: Any) -> bytes:
    """Return an index.yaml of `entries` as `helm repo index` lays it out; `more` stands beside them."""
    charts: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        charts.setdefault(entry["name"], []).append(entry)
    return yaml_of({"apiVersion": "v1", "entries": charts, "generated": CREATED, **more})


def yaml_of(document: Mapping[str, Any]) -> bytes:
    """Return `document` as YAML."""
    return yaml.dump(dict(document), Dumper=yaml.CSafeDumper, encoding="utf-8", allow_unicode=True, width=10_000)
