"""Builds on this machine as a source: OCI layouts, and docker archives turned into one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mirrord.blobs.wanted import Wanted
from mirrord.errors import ContentError, MirrordError, MissingError
from mirrord.model import Digest, Item
from mirrord.plan.differ import Offer
from mirrord.plan.naming import build_tags
from mirrord.syncers.image.upstream.embedded import embedded
from mirrord.wire.oci.layout import REF_NAME, REVISION, Layout, tag_in
from mirrord.wire.oci.manifest import Descriptor, Manifest

if TYPE_CHECKING:
    from mirrord.syncers.image.spec import Source

CREATED = "org.opencontainers.image.created"


class LayoutSource:
    """Reads manifests and blobs of one layout where they lie; nothing is spooled."""

    def __init__(self, layout: Layout, root: Descriptor) -> None:
        """Read the image `root` of `layout`."""
        self._layout = layout
        self._root = root

    async def manifest(self, descriptor: Descriptor) -> Manifest:
        """Read a manifest; for the root a descriptor without size will do."""
        known = self._root if descriptor.digest == self._root.digest else descriptor
        return await asyncio.to_thread(self._layout.manifest, known)

    async def wanted(self, blob: Descriptor) -> Wanted:
        """Point at the blob's place on disk, or at its embedded data when it is not there.

        Raises:
            MissingError: it is neither there nor embedded.
            ContentError: it has another size.
        """
        try:
            file = await asyncio.to_thread(self._layout.blob, blob.digest)
        except MissingError:
            if blob.data is None:
                raise
            return Wanted(blob.digest, blob.size, embedded(blob.data), source=f"{self._layout.place}, embedded")
        if file.size != blob.size:
            raise ContentError(f"{self._layout.place}: {blob.digest} has {file.size} bytes, not {blob.size}")
        return Wanted(blob.digest, blob.size, file=file.path, start=file.offset, source=str(self._layout.place))


def single(layout: Layout, descriptor: Descriptor, source: Source) -> Offer:
    """Offer one image of a layout as a build: the first of several names stays (`main-abc123`, `main`)."""
    tag = tag_in(source.tag or "") or tag_in(descriptor.annotations.get(REF_NAME, ""))
    names = source.names or ((tag,) if tag else ())
    if not names:
        raise ContentError(f"{layout.place}: the image has no name; write names: [...] for what to call it")
    item = Item(names[0], descriptor.digest, tree_size(layout, descriptor))
    return Offer(item, names, stays=frozenset(names[:1] if len(names) > 1 else ()), build=len(names) > 1)


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


@dataclass(frozen=True, slots=True)
class Build:
    """One build found in a folder of layouts."""

    layout: Layout
    descriptor: Descriptor
    branch: str
    commit: str
    created: datetime
    size: int


def builds(folder: Path, problems: list[str]) -> Iterator[Build]:
    """Find every layout below `folder` that says its branch and commit; others become a problem each."""
    if not folder.is_dir():
        problems.append(f"{folder}: no such folder; make it, or correct from.layouts")
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (path.is_dir() or path.suffix == ".tar"):
            continue
        try:
            layout = Layout.open(path)
            descriptor = layout.resolve()
            said = layout.annotations(descriptor)
            if not (said.get(REF_NAME) and said.get(REVISION)):
                raise ContentError(f"{path}: lacks the annotation {REF_NAME} (branch) or {REVISION} (commit)")
            made, size = _created(said.get(CREATED), path), tree_size(layout, descriptor)
            yield Build(layout, descriptor, said[REF_NAME], said[REVISION], made, size)
        except (MirrordError, OSError) as error:
            problems.append(str(error))


def _created(text: str | None, path: Path) -> datetime:
    """Return when a build was made: as annotated (RFC 3339), else when its folder last changed."""
    with contextlib.suppress(ValueError):
        moment = datetime.fromisoformat(text or "")
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def build_offers(found: Iterable[Build], problems: list[str]) -> Iterator[tuple[Offer, Build]]:
    """Offer each build under `<branch>-<commit>`, and the newest of each branch also under `<branch>`."""
    newest: dict[str, Build] = {}
    branches: dict[str, str] = {}
    usable: list[tuple[Build, str, str]] = []
    for build in found:
        try:
            stays, moves = build_tags(build.branch, build.commit)
        except MirrordError as error:
            problems.append(f"{build.layout.place}: {error}")
            continue
        if branches.setdefault(moves, build.branch) != build.branch:
            problems.append(
                f"{build.layout.place}: branch {build.branch} and branch {branches[moves]} are both {moves}"
            )
            continue
        if any(stays == other for _, other, _ in usable):
            problems.append(f"{build.layout.place}: another layout is {stays} too; remove one of them")
            continue
        usable.append((build, stays, moves))
        newest[moves] = max(newest.get(moves, build), build, key=lambda one: one.created)
    for build, stays, moves in usable:
        names = (stays, moves) if newest[moves] is build else (stays,)
        item = Item(stays, build.descriptor.digest, build.size)
        yield Offer(item, names, stays=frozenset({stays}), build=True), build
