"""What `mirrord copy` reads and writes: references, OCI layouts and archives, as they are written on a command line."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

from mirrord.errors import MissingError, UsageError
from mirrord.model.digest import Digest
from mirrord.syncer.values import Services
from mirrord.syncers.image.plan import ImageSource
from mirrord.syncers.image.transfer.destinations import Streamed
from mirrord.syncers.image.upstream.registry import RegistrySource
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.reference import Reference, valid_tag
from mirrord.wire.secret import unnamed

_SOURCES = "a reference, oci:DIR[:NAME] or docker-archive:FILE[:NAME]"
_TARGETS = "a reference or oci:DIR[:TAG]"
_ELSEWHERE = ("containers-storage", "dir", "docker-daemon", "oci-archive", "sif", "tarball")
"""What other tools write before a colon; taken for a name, it would be pushed to Docker Hub."""


class Opened(NamedTuple):
    """A source that is there: what it is called, its content, and the tag that targets without one get."""

    source: ImageSource
    digest: Digest
    tag: str | None


class Place(NamedTuple):
    """A target: its canonical name, where to write, and under which names."""

    name: str
    destination: Streamed
    names: tuple[str, ...]


async def open_source(text: str, services: Services) -> Opened:
    """Find out what `text` stands for.

    Raises:
        UsageError: it is no source.
        MissingError: there is no such image.
        MirrordError: it cannot be read.
    """
    scheme, _, rest = text.partition(":")
    if scheme in ("oci", "docker-archive"):
        return await _open_file(scheme, rest, services)
    reference = _reference(text, _SOURCES)
    repository = Repository(services.http, reference)
    head = await repository.head_manifest(reference.digest or reference.tag or "latest")
    if head is None:
        raise MissingError(f"{reference}: there is no such image; is the tag right?")
    tag = reference.tag if reference.tag or reference.digest else "latest"
    return Opened(RegistrySource(repository), head.digest, tag)


def open_target(text: str, tag: str | None, services: Services) -> Place:
    """Read where to write; `tag` is the source's.

    Raises:
        UsageError: it is no target.
    """
    scheme, _, rest = text.partition(":")
    if scheme == "oci":
        return _folder(rest, tag)
    if scheme == "docker-archive":
        raise UsageError(f"{unnamed(text)}: an archive can be read but not written; write {_TARGETS}")
    reference = _reference(text, _TARGETS)
    if reference.digest:
        raise UsageError(f"{text}: a target has no digest; the image keeps its own")
    name = reference.tag or tag
    place = Repository(services.http, reference, push=True)
    return Place(f"{reference.name}:{name}" if name else reference.name, place, (name,) if name else ())


def host_of(text: str) -> str | None:
    """Return the registry that `text` names, or None where it names a file.

    Raises:
        UsageError: it is no reference.
    """
    return None if text.partition(":")[0] in ("oci", "docker-archive") else _reference(text, _SOURCES).domain


def _reference(text: str, wanted: str) -> Reference:
    scheme, colon, rest = text.partition(":")
    if rest.startswith("//"):
        place = unnamed(text)
        better = rest[2:] if place == text else "the reference alone, and `docker login` for the credentials"
        raise UsageError(f"{place}: is a URL; write {better or wanted}")
    if colon and scheme in _ELSEWHERE:
        raise UsageError(f"{unnamed(text)}: {scheme}: is not known here; write {wanted}")
    return Reference.parse(text)


async def _open_file(scheme: str, text: str, services: Services) -> Opened:
    from mirrord.syncers.image.upstream.layout import LayoutSource  # noqa: PLC0415 - only files pay for this
    from mirrord.wire.oci.archive import open_archive  # noqa: PLC0415 - only files pay for this
    from mirrord.wire.oci.layout import REF_NAME, Layout, split_name, tag_in  # noqa: PLC0415 - only files pay for this

    path, tag = split_name(text)
    if not path:
        raise UsageError(f"{scheme}:{text}: names no file; write {_SOURCES}")
    if scheme == "docker-archive":
        archive = await open_archive(Path(path), services.scratch, tag)
        layout, root = archive.layout, archive.root
    else:
        layout = await asyncio.to_thread(Layout.open, Path(path), services.scratch)
        root = layout.resolve(tag)
    named = tag_in(tag or "") or tag_in(root.annotations.get(REF_NAME, ""))
    return Opened(LayoutSource(layout, root), root.digest, named)


def _folder(text: str, tag: str | None) -> Place:
    from mirrord.wire.oci.layout import split_folder  # noqa: PLC0415 - only files pay for this
    from mirrord.wire.oci.layout_writer import LayoutWriter  # noqa: PLC0415 - only files pay for this

    if text.rpartition("@")[2].startswith(("sha256:", "sha512:")):
        raise UsageError(f"oci:{text}: a target has no digest; the image keeps its own")
    path, wanted = split_folder(text)
    if not path:
        raise UsageError(f"oci:{text}: names no folder; write oci:DIR[:TAG]")
    if wanted is not None and not valid_tag(wanted):
        raise UsageError(f"oci:{text}: {wanted!r} is no tag; write letters, digits, `_`, `.` or `-`")
    name = wanted or tag
    return Place(f"oci:{path}:{name}" if name else f"oci:{path}", LayoutWriter(Path(path)), (name,) if name else ())
