"""Whether a chart archive is the chart that an index says it is; nothing is ever extracted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mirrord.errors import ContentError
from mirrord.files import storage_errors
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.upstream.chart_tar import Note, files
from mirrord.syncers.helm.upstream.plain import Plain, said
from mirrord.syncers.helm.upstream.yaml_events import build

METADATA: Final = "Chart.yaml"


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
    """Return what the Chart.yaml of an archive says, as plain data that nobody has validated. Blocks.

    Args:
        path: the archive.
        what: what messages call it.
        note: hears of what is odd about it.

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
