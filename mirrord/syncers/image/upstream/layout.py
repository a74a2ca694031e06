"""Local builds as a source: OCI layouts, and docker archives converted to one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mirrord.blobs.source import BlobSource, embedded
from mirrord.errors import ContentError, MirrordError, MissingError
from mirrord.model.digest import Digest
from mirrord.model.plan import Item
from mirrord.plan.naming import build_tags, short_commit
from mirrord.plan.offer import Build, Offer, named
from mirrord.syncer.values import Mirror, Publication
from mirrord.syncers.image.names import OneImage, Source, frozen, spec_of
from mirrord.syncers.image.plan.steps import Referrer, SourceListing
from mirrord.wire.oci.archive import open_archive
from mirrord.wire.oci.created import CREATED, moment
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.layout import REF_NAME, REVISION, Layout, tag_in
from mirrord.wire.oci.manifest import LIMIT, Manifest
from mirrord.wire.oci.reference import Reference


class LayoutSource:
    """Reads manifests and blobs of one layout in place; nothing is spooled."""

    host = repository = ""  # no registry has it

    def __init__(self, layout: Layout, root: Descriptor) -> None:
        """Read the image `root` of `layout`."""
        self._layout = layout
        self._root = root
        self.place = layout.place

    async def manifest(self, descriptor: Descriptor) -> Manifest:
        """Read a manifest; the root's descriptor may lack the size."""
        known = self._root if descriptor.digest == self._root.digest else descriptor
        return await asyncio.to_thread(self._layout.manifest, known)

    async def get_blob(self, blob: Descriptor) -> bytes:
        """Read a small blob."""
        return await asyncio.to_thread(lambda: self._layout.blob(blob.digest).load(LIMIT))

    def change(self, digest: Digest) -> str:  # noqa: ARG002 - the port's signature
        """Return "": all is as the layout has it."""
        return ""

    async def check_blob(self, blob: Descriptor) -> None:
        """Look for its file. Raises as `blob_source`."""
        await self.blob_source(blob)

    async def blob_source(self, blob: Descriptor) -> BlobSource:
        """Return the blob's file, or its embedded data if there is no file.

        Raises:
            MissingError: it is neither on disk nor embedded.
            ContentError: it has a different size.
        """
        try:
            file = await asyncio.to_thread(self._layout.blob, blob.digest)
        except MissingError:
            if blob.data is None:
                raise
            return BlobSource(blob.digest, blob.size, embedded(blob.data), name=f"{self._layout.place}, embedded")
        if file.size != blob.size:
            raise ContentError(f"{self._layout.place}: {blob.digest} has {file.size} bytes, not {blob.size}")
        return BlobSource(blob.digest, blob.size, file=file.path, start=file.offset, name=str(self._layout.place))

    async def has_referrers(self) -> bool:
        """Return True: a look costs no request."""
        return True

    async def referrers(self, subject: Digest) -> Sequence[Referrer]:
        """Return what the layout lists about a manifest; see `Layout.referrers`."""
        found = await asyncio.to_thread(self._layout.referrers, subject)
        return tuple(Referrer(descriptor, tag) for descriptor, tag in found)

    def ignored(self, subject: Digest) -> Sequence[str]:  # noqa: ARG002 - what a layout lists is checked when it is read
        """Return nothing."""
        return ()


async def open_image(source: Source, scratch: Path) -> tuple[Layout, Descriptor]:
    """Open the layout or the archive of a source, and find the selected image in it.

    Raises:
        MirrordError: as `Layout.open` and `open_archive`.
    """
    if source.archive:
        return await open_archive(source.archive, scratch, source.tag)
    assert source.layout is not None
    layout = await asyncio.to_thread(Layout.open, source.layout, scratch)
    return layout, await asyncio.to_thread(layout.resolve, source.tag)


async def own_tag(source: Source, scratch: Path) -> str | None:
    """Return the tag of a source's image, `latest` if it has none, or None if it is named by digest.

    Raises:
        MirrordError: as `open_image`.
    """
    if source.repository:
        reference = Reference.parse(source.repository)
        return reference.tag if reference.tag or reference.digest else "latest"
    _, root = await open_image(source, scratch)
    name = source.tag or root.annotations.get(REF_NAME, "")
    by_digest = "@" in name or name.startswith(("sha256:", "sha512:"))
    return _tag(source, root) or (None if by_digest else "latest")


def _tag(source: Source, root: Descriptor) -> str | None:
    return tag_in(source.tag or "") or tag_in(root.annotations.get(REF_NAME, ""))


def single(layout: Layout, descriptor: Descriptor, mirror: Mirror) -> SourceListing:
    """Offer one image of a layout; with several names it is a build (`main-abc123`, `main`), and so when published."""
    source = spec_of(mirror).source
    tag = _tag(source, descriptor)
    names = source.names or ((tag,) if tag else ())
    if not names and not isinstance(mirror.spec, OneImage):
        raise ContentError(f"{layout.place}: the image has no name; set names: [...]")
    item = Item(names[0] if names else descriptor.digest, descriptor.digest, tree_size(layout, descriptor))
    own = layout.annotations(replace(descriptor, annotations={}))
    offer = named(item, names, _build(layout, descriptor, own, mirror.publication), frozen(mirror))
    return SourceListing([offer], {item.name: LayoutSource(layout, descriptor)})


def tree_size(layout: Layout, root: Descriptor) -> int:
    """Add up the blobs of an image, each once; only manifests are read.

    Raises:
        MirrordError: a manifest of it is missing or wrong.
    """
    sizes: dict[Digest, int] = {}
    left, seen = [root], {root.digest}
    while left:
        manifest = layout.manifest(left.pop())
        sizes |= {blob.digest: blob.size for blob in manifest.blobs}
        sizes |= {child.digest: child.size for child in manifest.children if not child.is_manifest}
        inner = [child for child in manifest.children if child.is_manifest and child.digest not in seen]
        seen.update(child.digest for child in inner)
        left += inner
    return sum(sizes.values())


def _build(
    layout: Layout, descriptor: Descriptor, own: Mapping[str, str], publication: Publication | None = None
) -> Build:
    """Return a build's times: its index entry has one of the layout, the image may have its own."""
    said = moment(own.get(CREATED))
    created = said if publication else moment(descriptor.annotations.get(CREATED)) or said
    return Build(created, said, datetime.fromtimestamp(layout.place.stat().st_mtime, UTC), publication)


@dataclass(frozen=True, slots=True)
class _FoundBuild:
    """One build found in a folder of layouts."""

    layout: Layout
    descriptor: Descriptor
    branch: str
    commit: str
    size: int
    build: Build


def _builds(folder: Path, missing: list[str]) -> Iterator[_FoundBuild]:
    """Find every layout below `folder` with annotated branch and commit; others are missing, with a sentence each."""
    if not folder.is_dir():
        missing.append(f"{folder}: no such folder; make it, or correct from.layouts")
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (path.is_dir() or path.suffix == ".tar"):
            continue
        try:
            layout = Layout.open(path)
            descriptor = layout.resolve()
            own = layout.annotations(replace(descriptor, annotations={}))
            said = {**own, **descriptor.annotations}
            if not (said.get(REF_NAME) and said.get(REVISION)):
                raise ContentError(f"{path}: lacks the annotation {REF_NAME} (branch) or {REVISION} (commit)")
            size = tree_size(layout, descriptor)
            yield _FoundBuild(layout, descriptor, said[REF_NAME], said[REVISION], size, _build(layout, descriptor, own))
        except (MirrordError, OSError) as error:
            missing.append(str(error))


def all_builds(folder: Path) -> SourceListing:
    """Offer each build as `<branch>-<commit>` and as `<branch>`, which one build gets at each target.

    Two builds cannot share a name, nor a branch and a build: all but one are missing, with a sentence each.
    """
    missing: list[str] = []
    named: dict[str, tuple[_FoundBuild, str]] = {}
    branches: dict[str, str] = {}
    for found in _builds(folder, missing):
        try:
            stays, moves = build_tags(found.branch, short_commit(found.commit))
        except MirrordError as error:
            missing.append(f"{found.layout.place}: {error}")
            continue
        if branches.setdefault(moves, found.branch) != found.branch:
            missing.append(
                f"{found.layout.place}: branches {found.branch} and {branches[moves]} would both get the tag {moves}"
            )
        elif stays in named:
            missing.append(f"{found.layout.place}: another layout gets the tag {stays} too; remove one of them")
        else:
            named[stays] = found, moves
    offers: list[Offer] = []
    for stays, (found, moves) in named.items():
        if moves in named:
            of = f"the build {named[moves][0].commit} of branch {named[moves][0].branch}"
            missing.append(
                f"{found.layout.place}: branch {found.branch} would get the tag {moves} of {of}, which never moves"
            )
            continue
        item = Item(stays, found.descriptor.digest, found.size)
        offers.append(Offer(item, (stays, moves), frozenset({stays}), build=found.build))
    sources = {stays: LayoutSource(found.layout, found.descriptor) for stays, (found, _) in named.items()}
    return SourceListing(offers, sources, missing=missing)
