"""Whether a chart archive is the chart that an index says it is; nothing is ever extracted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Final

from mirrord.blobs.files import storage_errors
from mirrord.errors import ContentError
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.upstream.events import Plain, build
from mirrord.syncers.helm.upstream.members import files

METADATA: Final = "Chart.yaml"


def check_archive(path: Path, chart: ChartVersion) -> None:
    """Read the whole archive and compare name and version in its Chart.yaml with the index entry's. Blocks.

    The entry is what people choose by and Chart.yaml is what gets installed: helm compares them nowhere, so an index
    could offer one chart and hand out another.

    Raises:
        ContentError: damaged or unsafe, as `files` says, or of another chart.
        TooLargeError: beyond helm's own limits.
        StorageError: it cannot be read.
    """
    metadata = read_metadata(path, chart.file)
    for key, listed in (("name", chart.name), ("version", chart.version)):
        if metadata.get(key) != listed:
            raise ContentError(f"{chart.file}: its {METADATA} says {key} {metadata.get(key)!a:.80}, not {listed!a}")


def read_metadata(path: Path, what: str) -> Mapping[str, Plain]:
    """Return what the Chart.yaml of an archive says, as plain data that nobody has validated. Blocks.

    Args:
        path: the archive.
        what: what messages call it.

    Raises:
        ContentError: the archive is damaged or unsafe, or has no Chart.yaml, or two, or one that is no mapping.
        TooLargeError: beyond helm's own limits.
        StorageError: it cannot be read.
    """
    try:
        with storage_errors(str(path)), path.open("rb") as archive:
            return _only(content for _, content in files(archive, lambda name: name == METADATA))
    except ContentError as error:
        raise type(error)(f"{what}: {error}") from error


def _only(found: Iterable[bytes]) -> Mapping[str, Plain]:
    contents = list(islice(found, 2))
    if len(contents) != 1:  # helm would take the last of several
        raise ContentError(f"{len(contents) or 'no'} files {METADATA} in its top folder, where one must be")
    try:
        value = build(contents[0]).value
    except ContentError as error:
        raise type(error)(f"its {METADATA} {error}") from error
    if not isinstance(value, dict):
        raise ContentError(f"its {METADATA} is no mapping")
    return value
