"""`docker save` archives, converted to an OCI layout once (Docker Image Specification v1.2, "Combined Image JSON").

Docker 25 and later write an archive that is an OCI layout as well; it is read where it lies. An
older archive becomes a layout folder, by these rules, so that one image has one digest forever
and on every machine:

* the config and layers that are compressed already keep their bytes;
* a plain layer stays plain (`application/vnd.oci.image.layer.v1.tar`, which every runtime has to
  take: image-spec, layer.md). Its digest is then its `diff_id`, the same that Docker 25 writes for
  it. Gzip would tie the digest to the build of zlib: of 57 MB of Debian's /usr, zlib 1.2.13 and
  zlib-ng 2.3.3 make different bytes at the same level, and the tag `main-<commit>`, which never
  moves, would clash with itself after an upgrade. The price is length (those 57 MB become 17), what
  is saved is 51 ms of CPU a megabyte; builds that want small layers hand over an OCI layout;
* the manifest is JSON with sorted keys and no white space.

Every layer is checked against the `diff_ids` of its config, so a damaged archive goes nowhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mirrord.errors import ContentError, DigestError, MissingError, UnsupportedError, UsageError
from mirrord.files import LocalFile
from mirrord.model.digest import Digest
from mirrord.wire.oci.descriptor import OCI_MANIFEST, Descriptor, index_of
from mirrord.wire.oci.document import mapping, read_object, sequence, text
from mirrord.wire.oci.layout import INDEX, MARK, REF_NAME, Layout, blob_name, listed, means
from mirrord.wire.oci.layout_writer import MARK_BODY
from mirrord.wire.oci.manifest import LIMIT
from mirrord.wire.oci.scratch import ScratchEntry, gunzip, plain_tar, write_hashed
from mirrord.wire.oci.tarball import Tarball, compressed, index_tar

LIST = "manifest.json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG_NAME = re.compile(r"(?:blobs/sha256/|sha256:)?([0-9a-f]{64})(?:\.json)?")

Alive = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Image:
    """One entry of `manifest.json`.

    Attributes:
        names: its `RepoTags`, in order.
        config: name of the member with its config.
        layers: names of the members with its layers, the lowest first.
    """

    names: tuple[str, ...]
    config: str
    layers: tuple[str, ...]

    def called(self, name: str) -> tuple[str, ...]:
        """Return its names that match `name`, in any spelling or by tag alone."""
        return tuple(known for known in self.names if means(name, known))

    def tag(self, name: str | None) -> str | None:
        """Return the tag of the name that was asked for, else of the first one."""
        names = self.names if name is None else self.called(name)
        return names[0].rpartition(":")[2] if names else None


async def open_archive(path: Path, scratch: Path, name: str | None = None) -> tuple[Layout, Descriptor]:
    """Open what `docker save` wrote, perhaps compressed with gzip; convert it unless that was done before.

    Args:
        path: the archive.
        scratch: existing folder for what is unpacked and converted; kept there for the next time.
        name: one of its `RepoTags`, or only the tag; None when there is one image.

    Returns:
        The archive as a layout, and the manifest in it of the image that was asked for.

    Raises:
        MissingError: no such file, no such image (lists the images in the archive), or a part is not in it.
        UsageError: several images match; lists them.
        ContentError: damaged, unsafe, or layers and config that do not fit together.
        UnsupportedError: no `manifest.json` (Docker before 1.10), or compressed in an unknown way.
        StorageError: the disk failed; nothing half-written is left.
    """
    stop = threading.Event()

    def alive() -> None:
        if stop.is_set():
            raise InterruptedError

    def opened() -> tuple[Layout, Descriptor]:
        tar = index_tar(plain_tar(path, scratch, alive), links=True)
        if tar.find(MARK) is not None and tar.find(INDEX) is not None:
            layout = Layout(path, tar)
            return layout, layout.resolve(name)
        image = choose(path, read_list(tar), name)
        entry = ScratchEntry.of(path, scratch, f"image {name}")
        layout = Layout.open(entry.make(lambda fresh: _convert(tar, image, name, fresh, alive)))
        return layout, layout.resolve()

    try:
        return await asyncio.to_thread(opened)
    except asyncio.CancelledError:
        stop.set()
        raise


def read_list(tar: Tarball) -> Sequence[Image]:
    """Read `manifest.json`; raises UnsupportedError without one, ContentError if it is invalid."""
    found = tar.find(LIST)
    if found is None:
        old = tar.find("repositories") is not None
        what = "written by Docker before 1.10; save it again" if old else "not a `docker save` archive"
        raise UnsupportedError(f"{tar.path}: {what} (it has no {LIST})")
    what = f"{tar.path}: {LIST}"
    # The strict reader takes objects only: the list becomes one, with nothing after it.
    document = read_object(b'{"images":' + found.load(LIMIT) + b"}", what)
    if document.keys() != {"images"}:
        raise ContentError(f"{what}: not a list of images")
    images = []
    for value in sequence(document["images"], what):
        entry = mapping(value, what)
        names = tuple(text(name, what) for name in sequence(entry.get("RepoTags"), what))
        layers = tuple(text(layer, what) for layer in sequence(entry.get("Layers"), what))
        images.append(Image(names, text(entry.get("Config"), what), layers))
        if not images[-1].config:
            raise ContentError(f"{what}: an image without Config")
    return images


def choose(path: Path, images: Sequence[Image], name: str | None) -> Image:
    """Pick the requested image. Raises MissingError and UsageError as `open_archive`."""
    found = [image for image in images if name is None or image.called(name)]
    names = listed(tuple(known for image in images for known in image.names))
    if not found:
        wanted = "no image" if name is None else f"no image named {name!r}"
        raise MissingError(f"{path}: holds {wanted}; {names}")
    if len(set(found)) > 1:
        raise UsageError(f"{path}: holds {len(images)} images, name the one that is meant; {names}")
    return found[0]


def _convert(tar: Tarball, image: Image, name: str | None, folder: Path, alive: Alive) -> None:
    """Write the layout folder; its index comes last."""
    (folder / "blobs" / "sha256").mkdir(parents=True)
    config, diff_ids = _read_config(tar, image)
    layers: list[Descriptor] = []
    known: dict[Digest, Descriptor] = {}
    for member, diff_id in zip(image.layers, diff_ids, strict=True):
        if diff_id not in known:
            known[diff_id] = _write_layer(folder, tar.get(member), member, diff_id, alive)
        layers.append(known[diff_id])
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _write(folder, config, _CONFIG).entry(),
        "layers": [layer.entry() for layer in layers],
    }
    root = _write(folder, json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode(), OCI_MANIFEST)
    (folder / MARK).write_bytes(MARK_BODY)
    tag = image.tag(name)
    entry = replace(root, annotations={} if tag is None else {REF_NAME: tag}).entry()
    (folder / INDEX).write_bytes(index_of([entry]))


def _read_config(tar: Tarball, image: Image) -> tuple[bytes, tuple[Digest, ...]]:
    """Return the config's bytes and its diff_ids, one for each layer."""
    body = tar.get(image.config).load(LIMIT)
    what = f"{tar.path}: {image.config}"
    named = _CONFIG_NAME.fullmatch(image.config)
    if named and hashlib.sha256(body).hexdigest() != named[1]:
        raise DigestError(f"{what}: its bytes are not what its name says; copy the archive again")
    rootfs = mapping(read_object(body, what).get("rootfs"), f"{what}: rootfs")
    try:
        listed = sequence(rootfs.get("diff_ids"), "rootfs.diff_ids")
        diff_ids = tuple(Digest.parse(text(one, "rootfs.diff_ids")) for one in listed)
    except ContentError as error:
        raise ContentError(f"{what}: {error}") from error
    if len(diff_ids) != len(image.layers):
        raise ContentError(f"{what}: {len(diff_ids)} diff_ids for {len(image.layers)} layers")
    return body, diff_ids


def _write_layer(folder: Path, layer: LocalFile, member: str, diff_id: Digest, alive: Alive) -> Descriptor:
    """Keep a layer as it is; its uncompressed bytes have to be those of `diff_id`."""
    kind = compressed(layer)
    if kind not in (None, "gzip"):
        raise UnsupportedError(f"{layer.path}: layer {member} is compressed with {kind}; save the image uncompressed")
    fresh = folder / f".{secrets.token_hex(8)}.part"
    with fresh.open("xb") as file:
        digest, size = write_hashed(layer.pieces(alive), file)
    # The digest of a plain layer is its diff_id; only for others the unpacked bytes have to be looked at.
    hasher = diff_id.hasher()
    if digest != diff_id:
        for piece in gunzip(layer, alive) if kind else layer.pieces(alive):
            hasher.update(piece)
    if digest != diff_id and hasher.hexdigest() != diff_id.hex:
        raise DigestError(f"{layer.path}: layer {member} is not {diff_id} of its config; copy the archive again")
    fresh.rename(folder / blob_name(digest))
    return Descriptor(f"{_LAYER}+gzip" if kind else _LAYER, digest, size)


def _write(folder: Path, body: bytes, media_type: str) -> Descriptor:
    digest = Digest.of(body)
    (folder / blob_name(digest)).write_bytes(body)
    return Descriptor(media_type, digest, len(body))
