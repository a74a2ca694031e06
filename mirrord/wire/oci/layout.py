"""OCI image layouts, read: a folder, or a tar of one (image-spec, image-layout.md).

All of it touches the disk for a moment and blocks: call it in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

from mirrord.errors import ContentError, DigestError, MissingError, TooLargeError, UnsupportedError, UsageError, about
from mirrord.files import LocalFile, read_content
from mirrord.model.digest import Digest
from mirrord.wire.oci.descriptor import ATTESTATION, DOCKER_LIST, OCI_INDEX, Descriptor
from mirrord.wire.oci.document import read_object, text
from mirrord.wire.oci.manifest import LIMIT, Manifest
from mirrord.wire.oci.reference import ABOUT_TAGS, COSIGN, Reference, referrers_tag, subject_tag, valid_tag
from mirrord.wire.oci.referrers import entries_of, read_entries
from mirrord.wire.oci.scratch import plain_tar
from mirrord.wire.oci.tarball import Tarball, index_tar

MARK = "oci-layout"
INDEX = "index.json"
REF_NAME = "org.opencontainers.image.ref.name"
REVISION = "org.opencontainers.image.revision"
MOST_READ: Final = 100_000_000  # bytes of manifests that are read for their subjects
_BEFORE_DIGEST = ("@sha256:", "@sha512:")
CONTAINERD_NAME = "io.containerd.image.name"  # docker save ≥ 25 writes the whole reference there, the tag in REF_NAME


class Layout:
    """A layout whose index was read; content is read when asked for."""

    def __init__(self, place: Path, tar: Tarball | None = None) -> None:
        """Read the index of the layout at `place`, or of the one in `tar`; `open` is the usual constructor.

        Raises:
            ContentError: not a layout (the message says what it is), or one with an invalid index.
        """
        self.place = place
        self._tar = tar
        mark = self._top(MARK, 4096)
        if mark is None:
            raise ContentError(f"{place}: not an OCI image layout: it has no file {MARK!r}{self._looks_like()}")
        what = f"{place}: {MARK}"  # image-layout.md, "oci-layout file"
        version = text(read_object(mark, what).get("imageLayoutVersion"), what)
        if version.partition(".")[0] != "1":
            raise UnsupportedError(f"{what}: version {version[:40]!r}; mirrord reads 1.x")
        index = self._top(INDEX, LIMIT)
        if index is None:
            raise ContentError(f"{place}: an OCI layout without {INDEX}; it is incomplete, write it again")
        parsed = self._parse(index, "")
        if parsed.media_type not in (OCI_INDEX, DOCKER_LIST):
            raise ContentError(f"{place}: {INDEX} is a {parsed.media_type}, not an index")
        self._entries = parsed.children

    @classmethod
    def open(cls, path: Path, scratch: Path | None = None) -> Layout:
        """Open a folder or a tar, which may be gzip-compressed when there is a `scratch` folder to unpack into.

        Raises:
            MissingError: `path` does not exist.
            ContentError: not a layout, or a damaged or unsafe one.
            UnsupportedError: compressed in an unknown way, or a layout of an unknown version.
            StorageError: it cannot be read.
        """
        if path.is_dir():
            return cls(path)
        return cls(path, index_tar(plain_tar(path, scratch), links=False))

    def index(self) -> tuple[Descriptor, ...]:
        """Return the manifests that `index.json` lists, in order; one with two tags is there twice."""
        return self._entries

    def names(self) -> tuple[str, ...]:
        """Return the names that `resolve` knows, in order."""
        return tuple(dict.fromkeys(name for entry in self._entries for name in _names(entry)))

    def resolve(self, name: str | None = None) -> Descriptor:
        """Find a manifest by its name (or only the tag in it) or digest, or the only image when `name` is None.

        What is about another manifest, such as a signature, is no image.

        Raises:
            MissingError: none has this name; lists the names.
            UsageError: several match; lists their names.
        """
        found = [
            entry
            for entry in self._entries
            if name in (None, entry.digest) or any(means(name or "", known) for known in _names(entry))
        ]
        if not found:
            wanted = "no image" if name is None else f"no image named {name!r}"
            raise MissingError(f"{self.place}: holds {wanted}; {listed(self.names())}")
        if name is None and len(found) > 1:
            about = {entry.digest for entries in self._about.values() for entry in entries}
            images = [one for one in found if one.digest not in about and not _stands_for_another(one)]
            found = images or found
        if len({entry.digest for entry in found}) > 1:
            wanted = "name the one that is meant" if name is None else f"{name!r} is the name of more than one"
            raise UsageError(f"{self.place}: holds several images, {wanted}; {listed(self.names())}")
        return found[0]

    def manifest(self, descriptor: Descriptor) -> Manifest:
        """Read a manifest or an index; its bytes are what `descriptor` says.

        Raises:
            MissingError: the layout lacks it.
            ContentError: its bytes, its size or its form are wrong.
        """
        body = descriptor.data
        if body is None or self._file(blob_name(descriptor.digest)) is not None:
            found = self.blob(descriptor.digest)
            if found.size != descriptor.size:
                why = f"{descriptor.digest} has {found.size} bytes, its descriptor says {descriptor.size}"
                raise DigestError(f"{self.place}: {why}")
            body = found.load(LIMIT)
        return self._parse(body, descriptor.media_type, descriptor.digest)

    def referrers(self, subject: Digest) -> Sequence[tuple[Descriptor, str]]:
        """Return what is about a manifest, each with cosign's tag or "".

        That is what `index.json` lists: manifests with this subject, those in the list that stands under the subject's
        tag (as regctl writes it), and those under cosign's tags (as `skopeo copy` brings them). Raises as `manifest`.
        """
        tag = referrers_tag(subject)
        found = {one.digest: (one, "") for one in self._about.get(subject, ())}
        for entry in self._entries:
            named = next((name for name in map(tag_in, _names(entry)) if name and subject_tag(name) == tag), "")
            if named and "." not in named and entry.media_type == OCI_INDEX:
                listed, _ = read_entries(entries_of(self.manifest(entry).body, f"{self.place}: {tag}"), tag)
                found |= {one.digest: (one, "") for one in listed}
            elif f".{named.partition('.')[2]}" in COSIGN:
                found.setdefault(entry.digest, (entry, named))
        return tuple(found.values())

    @cached_property
    def _about(self) -> Mapping[Digest, Sequence[Descriptor]]:
        """Return the manifests that `index.json` lists, by their subject."""
        found: dict[Digest, list[Descriptor]] = {}
        read = 0
        for entry in {one.digest: one for one in self._entries if one.is_manifest}.values():
            read += entry.size
            if read > MOST_READ:
                raise TooLargeError(f"{self.place}: more than {MOST_READ} bytes of manifests; split the layout")
            if self._file(blob_name(entry.digest)) is None:
                continue  # a layout may list what it lacks
            if about := self.manifest(entry).subject:
                found.setdefault(about.digest, []).append(entry)
        return found

    def annotations(self, descriptor: Descriptor) -> Mapping[str, str]:
        """Return what is annotated: by the entry, else by its manifest, else by all images of an index alike.

        Branch and commit of a build are `org.opencontainers.image.ref.name` and `.revision` here. Buildx
        puts annotations into each platform's manifest unless it is told otherwise. Raises as `manifest`.
        """
        manifest = self.manifest(descriptor)
        images = [one for one in manifest.children if one.is_manifest and ATTESTATION not in one.annotations]
        found = [{**self.manifest(child).annotations, **child.annotations}.items() for child in images]
        shared = dict(set(found[0]).intersection(*found)) if found else {}
        return {**shared, **manifest.annotations, **descriptor.annotations}

    def blob(self, digest: Digest) -> LocalFile:
        """Return the file of a blob; its bytes are not checked here.

        Raises:
            MissingError: the layout lacks it.
            ContentError: it is not a file.
        """
        found = self._file(blob_name(digest))
        if found is None:
            raise MissingError(f"{self.place}: lacks {digest}; the layout is incomplete, write it again")
        return found

    def _looks_like(self) -> str:
        if self._file("manifest.json") is not None:
            return "; it looks like a `docker save` archive: write docker-archive:FILE"
        nested = any(self.place.glob(f"*/{MARK}")) if self._tar is None else False
        return "; the folders in it are layouts: name one of them" if nested else ""

    def _parse(self, body: bytes, media_type: str, digest: Digest | None = None) -> Manifest:
        try:
            return Manifest.parse(body, media_type, digest)
        except ContentError as error:
            about(error, f"{self.place}")
            raise

    def _top(self, name: str, cap: int) -> bytes | None:
        """Read a file that a writer may be replacing right now."""
        if self._tar is not None:
            found = self._tar.find(name)
            return found.load(cap) if found else None
        try:
            return read_content(self.place / name, cap)
        except MissingError:
            return None

    def _file(self, name: str) -> LocalFile | None:
        if self._tar is not None:
            return self._tar.find(name)
        try:
            return LocalFile.of(self.place / name)
        except MissingError:
            return None


def split_name(text: str) -> tuple[str, str | None]:
    """Split `PLACE`, `PLACE:NAME` or `PLACE@DIGEST`; looks at the disk, since both parts may have colons and slashes.

    The longest PLACE that exists is meant (containers/skopeo#1975); where none does, a colon before the last `/`
    belongs to it. An `@` with anything but a digest behind it does, too: Jenkins builds in `job@2` beside `job`.
    """
    ends = (at for at in range(len(text) - 1, 0, -1) if text[at] == ":" or text.startswith(_BEFORE_DIGEST, at))
    for end in (len(text), *ends):
        if os.path.exists(text[:end]):  # noqa: PTH110 - Path.exists raises for names that are too long
            return text[:end], text[end + 1 :] if end < len(text) else None
    path, colon, name = text.rpartition(":")
    return (path, name) if colon and "/" not in name else (text, None)


def split_folder(text: str) -> tuple[str, str | None]:
    """Split `PLACE` or `PLACE:TAG` of a folder that need not be there yet.

    Raises:
        UsageError: what follows PLACE is no tag, as in `PLACE:host/name:v1`; a folder whose own name has a colon has to
            be there already.
    """
    tag: str | None
    path, colon, tag = text.rpartition(":")
    if not colon or "/" in tag or os.path.exists(text):  # noqa: PTH110 - as above
        path, tag = text, None
    place, colon, rest = path.partition(":")
    folder = f"{place}:{rest.partition('/')[0]}"
    if colon and not os.path.exists(folder):  # noqa: PTH110 - as above
        what = f"{text[len(place) + 1 :]!r} is not a tag"
        raise UsageError(f"oci:{text}: {what}; write oci:{place}[:TAG], or make {folder} first if that is the folder")
    return path, tag


def means(name: str, known: str) -> bool:
    """Whether `name` is `known` in any spelling, or only its tag."""
    if name in (known, tag_in(known)):
        return True
    try:
        return Reference.parse(name) == Reference.parse(known)
    except UsageError:
        return False


def tag_in(name: str) -> str | None:
    """Return the tag in a name of a layout or an archive: `v3`, `quay.io/a/b:v3` → `v3`.

    A digest has none, and is none: containerd calls what was pulled by digest `quay.io/a/b@sha256:…`.
    """
    named, pinned, _ = name.partition("@")
    _, colon, tag = named.rpartition(":")
    if name.startswith(("sha256:", "sha512:")) or (pinned and not colon):
        return None
    return tag if valid_tag(tag) else None


def blob_name(digest: Digest) -> str:
    """Return the place of a blob; only a checked digest becomes a path (CVE-2024-3727)."""
    safe = Digest.parse(digest)
    return f"blobs/{safe.algorithm}/{safe.hex}"


def _names(entry: Descriptor) -> tuple[str, ...]:
    return tuple(entry.annotations[key] for key in (REF_NAME, CONTAINERD_NAME) if key in entry.annotations)


def _stands_for_another(entry: Descriptor) -> bool:
    return any((tag_in(name) or "").startswith(ABOUT_TAGS) for name in _names(entry))


def listed(names: tuple[str, ...]) -> str:
    """List the names in a file for a message: the first of many, and what strangers wrote in ASCII."""
    if not names:
        return "nothing in it has a name"
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"names: {', '.join(ascii(name[:200])[1:-1] for name in names[:20])}{more}"
