"""Whether a chart archive is the chart that an index says it is, and its provenance about it; nothing is extracted.

Provenance files are clear-signed texts that say which archive a chart was packaged into (helm's docs, provenance),
passed on byte for byte. What can be checked without a key is checked: that it is such a text at all, since many servers
answer 200 with a page when there is no `.prov` (artifacthub#1427), and that it is about this archive.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.reader import SpoolReader
from mirrord.blobs.source import BlobSource
from mirrord.errors import ContentError, DigestError, TooLargeError
from mirrord.files import storage_errors
from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.upstream.chart_tar import Note, files
from mirrord.syncers.helm.upstream.plain import Plain, said
from mirrord.syncers.helm.upstream.yaml_events import build
from mirrord.transfer.feed import feed

METADATA: Final = "Chart.yaml"

_BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
_HEAD = re.compile(rb"(?:\A|\n)" + _BEGIN + rb"[ \t]*\n(?:Hash: [^\n]*\n)*[ \t]*\n")  # RFC 4880 section 7
_SIGNATURE = b"\n-----BEGIN PGP SIGNATURE-----"
_END = b"\n-----END PGP SIGNATURE-----"
_DASHES = re.compile(rb"^- ", re.MULTILINE)


def is_signed(body: bytes) -> bool:
    """Whether the answer to a request for a `.prov` is one, and not a page or another text."""
    return body.startswith(_BEGIN) or b"\n" + _BEGIN in body


def check_provenance(body: bytes, file: str, digest: Digest) -> None:
    """Refuse a provenance that `helm verify` would refuse whatever the key is.

    Args:
        body: the `.prov`.
        file: the archive's base name; helm looks the sum up by it.
        digest: of the archive.

    Raises:
        ContentError: not clear-signed, cut off, without a sum for `file`, or with another one.
    """
    body = body.replace(b"\r\n", b"\n")
    head = _HEAD.search(body)
    text, _, signature = body[head.end() if head else len(body) :].partition(_SIGNATURE)
    if _END not in signature:
        raise ContentError(f"{file}.prov: not a whole clear-signed text: it is cut off, or damaged")
    _, dots, rest = _DASHES.sub(b"", text).partition(b"\n...\n")  # the Chart.yaml, three dots, the sums
    try:
        value = build(rest).value if dots else None
    except ContentError as error:
        raise ContentError(f"{file}.prov: its list of digests {error}") from error
    sums = value.get("files") if isinstance(value, dict) else None
    if not isinstance(sums, dict):
        raise ContentError(f"{file}.prov: the signed text has no list of files with their digests")
    if file not in sums:
        named = ", ".join(sorted(sums)) or "nothing"
        raise ContentError(f"{file}.prov: signs {named[:200]!a} and not {file}")
    if sums[file] != digest:
        raise ContentError(f"{file}.prov: the digest that it signs is {said(sums[file])}, but the archive is {digest}")


async def brought(
    chart: ChartVersion, source: BlobSource, digests: Collection[Digest], spools: SpoolPool, group: str
) -> tuple[Digest, int, tuple[str, ...]]:
    """Have an archive brought into its spool and look into it there; return its digest, its size and what is odd.

    Args:
        chart: the entry that it is of.
        source: of it, with a limit.
        digests: that it may have; any, when there are none.
        spools: where it is brought to.
        group: see `feed`.

    Raises:
        DigestError: it has none of them, twice.
        TooLargeError: longer than the source's limit, or it unpacks to more than helm takes.
        ContentError: no archive, or not of this chart.
        MirrordError: it cannot be had, or there is no room for it.
    """
    digest, size, odd = Digest(), 0, list[str]()

    async def look(reader: SpoolReader) -> None:
        nonlocal digest, size
        file = await reader.verified()
        digest, size = reader.digest, reader.size
        if not digests or digest in digests:
            odd.clear()
            await asyncio.to_thread(check_archive, file, chart, odd.append)

    for _ in range(2):  # other bytes are asked for once more: a cache on the way, or a half replaced file, may heal
        size = 0
        try:
            await feed(spools, source, group, group, look)
        except TooLargeError as error:
            if size:
                raise
            raise TooLargeError(f"{source.name}: more than {source.limit} bytes, which no chart has") from error
        if not digests or digest in digests:
            return digest, size, tuple(odd)
    text = f"got {size} bytes with digest {digest}, not {' or '.join(sorted(digests))}"
    raise DigestError(f"{source.name}: {text}", digest)


def check_archive(path: Path, chart: ChartVersion, note: Note = lambda _what: None) -> None:
    """Read an archive and compare name and version in its Chart.yaml with the index entry's. Blocks.

    The entry is what people choose by and Chart.yaml is what gets installed: helm compares them nowhere, so an index
    could offer one chart and hand out another. A `v` more or less is the same version (fluxcd/helm-controller#990).

    Raises:
        ContentError: damaged or unsafe, as `files` says, or of another chart.
        TooLargeError: beyond helm's own limits.
        StorageError: it cannot be read.
    """
    metadata = read_metadata(path, chart.file, note)
    name, version = metadata.get("name"), metadata.get("version")
    if name != chart.name:
        raise ContentError(f"{chart.file}: its {METADATA} says name {said(name)}, not {chart.name!a}")
    if version == chart.version:
        return
    if not isinstance(version, str) or version.removeprefix("v") != chart.version.removeprefix("v"):
        raise ContentError(f"{chart.file}: its {METADATA} says version {said(version)}, not {chart.version!a}")
    note(f"its {METADATA} says version {version}")


def read_metadata(path: Path, what: str, note: Note = lambda _what: None) -> Mapping[str, Plain]:
    """Return the content of an archive's Chart.yaml, as plain data that is not validated. Blocks.

    Args:
        path: the archive.
        what: what messages call it.
        note: called with each oddity.

    Raises:
        ContentError: the archive is damaged or unsafe, or has no Chart.yaml, or one that is no mapping.
        TooLargeError: beyond helm's own limits.
        StorageError: it cannot be read.
    """
    try:
        with storage_errors(str(path)), path.open("rb") as archive:
            metadata, count = b"", 0
            for _, content in files(archive, lambda name: name == METADATA, note):
                metadata, count = content, count + 1
            if count > 1:
                note(f"{count} files {METADATA}, of which helm takes the last")
            return _mapping(metadata if count else None)
    except ContentError as error:
        raise type(error)(f"{what}: {error}") from error


def _mapping(content: bytes | None) -> Mapping[str, Plain]:
    if content is None:
        raise ContentError(f"no file {METADATA} in its top folder, where one must be")
    try:
        value = build(content, strict=False).value
    except ContentError as error:
        raise type(error)(f"its {METADATA} {error}") from error
    if not isinstance(value, dict):
        raise ContentError(f"its {METADATA} is no mapping")
    return value
