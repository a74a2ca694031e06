"""Images as they are typed on a command line: the sources and targets of a copy, and what is published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mirrord.errors import UsageError
from mirrord.syncer.values import Mirror, Publication, Target
from mirrord.syncers.image.names import OneBuild, OneImage, Source, is_many, spec_of
from mirrord.syncers.image.names.signatures import Signatures
from mirrord.wire.oci.layout import split_folder, split_name
from mirrord.wire.oci.platform import parse_platform
from mirrord.wire.oci.reference import Reference, parse_repository, valid_tag
from mirrord.wire.secret import unnamed

_SOURCES = "a reference, oci:DIR[:NAME] or docker-archive:FILE[:NAME]"
_TARGETS = "a reference or oci:DIR[:TAG]"
_ELSEWHERE = {
    **dict.fromkeys(("containers-storage", "dir", "sif", "tarball"), ""),
    "docker-daemon": "docker-archive:FILE, a file of `docker save`",
    "oci-archive": "oci:FILE, which is read as a layout in a tar (SRC only)",
}
"""Prefixes of other tools, and what to write instead; as a name they would go to Docker Hub."""
_UNBOUNDED = 10 * 365 * 86400.0  # seconds: the user stops a copy that takes too long


def parse_source(text: str, names: tuple[str, ...] = ()) -> Source:
    """Read a source as the command line takes it: `oci:DIR[:NAME]`, `docker-archive:FILE[:NAME]` or a reference.

    Raises:
        UsageError: none of these.
    """
    scheme, _, rest = text.partition(":")
    if scheme in ("oci", "docker-archive"):
        path, tag = split_name(rest)
        if not path:
            raise UsageError(f"{text}: has no file name; write {_SOURCES}")
        source = Source(layout=Path(path)) if scheme == "oci" else Source(archive=Path(path))
        source = replace(source, tag=tag)
    else:
        _reference(text, _SOURCES)
        source = Source(repository=text)
    if wrong := next((name for name in names if not valid_tag(name)), None):
        raise UsageError(f"{text}: {wrong[:80]!r} is not a tag; write up to 128 letters, digits, `_`, `.` or `-`")
    return replace(source, names=names)


def host_of(text: str) -> str | None:
    """Return the registry of a source or target of a copy, or None for a file.

    Raises:
        UsageError: it is not a reference.
    """
    return None if text.partition(":")[0] in ("oci", "docker-archive") else _reference(text, _SOURCES).domain


def copying(
    source: str, targets: Sequence[str], tag: str | None, platforms: Sequence[str] = (), *, signatures: bool = True
) -> Mirror:
    """Return a mirror for `mirrord copy`: one image and its targets.

    Args:
        source: as in `parse_source`.
        targets: references and `oci:DIR[:TAG]`.
        tag: the tag at targets that do not name one, or None.
        platforms: those that are copied; all if there are none.
        signatures: whether signatures, attestations and SBOMs are copied with the image.

    Raises:
        UsageError: one of them is invalid, or a target is given twice.
    """
    places = [_copy_target(text) for text in targets]
    called = {f"{place}:{name}": name for place, own in places if (name := own or tag)}
    names = [f"{place}:{own or tag}" if own or tag else place for place, own in places]
    if len(set(names)) < len(names):
        raise UsageError("the same DST is given twice; give each one once")
    wanted = tuple(dict.fromkeys(str(parse_platform(one)) for one in platforms))
    about = Signatures(carried=signatures)
    spec = OneImage(parse_source(source), platforms=wanted, signatures=about, text=source, called=called)
    made = (Target(name, "image", place, None) for name, (place, _) in zip(names, places, strict=True))
    return Mirror("", "image", spec, tuple(made), deadline=_UNBOUNDED, trust=0.0)


def _copy_target(text: str) -> tuple[str, str | None]:
    """Return the address to write to, and its tag if given."""
    scheme, _, rest = text.partition(":")
    if scheme == "docker-archive":
        raise UsageError(f"{unnamed(text)}: an archive can be read but not written; write {_TARGETS}")
    if scheme != "oci":
        reference = _reference(text, _TARGETS)
        if reference.digest:
            raise UsageError(f"{text}: a target cannot have a digest; leave it out")
        return reference.name, reference.tag
    if rest.rpartition("@")[2].startswith(("sha256:", "sha512:")):
        raise UsageError(f"{text}: a target cannot have a digest; leave it out")
    path, tag = split_folder(rest)
    if not path:
        raise UsageError(f"{text}: has no folder; write oci:DIR[:TAG]")
    if tag is not None and not valid_tag(tag):
        raise UsageError(f"{text}: {tag!r} is not a tag; write letters, digits, `_`, `.` or `-`")
    return f"oci:{path}", tag


def _reference(text: str, wanted: str) -> Reference:
    scheme, colon, rest = text.partition(":")
    if rest.startswith("//"):
        place = unnamed(text)
        better = rest[2:] if place == text else "the reference alone, and `docker login` for the credentials"
        raise UsageError(f"{place}: is a URL; write {better or wanted}")
    if colon and scheme in _ELSEWHERE:
        raise UsageError(f"{unnamed(text)}: {scheme}: is not supported; write {_ELSEWHERE[scheme] or wanted}")
    return parse_repository(text)


def publishing(mirror: Mirror, publication: Publication) -> Mirror:
    """Replace the mirror's source by one build.

    Raises:
        UsageError: the source or a name is invalid.
    """
    source = parse_source(publication.source, publication.names)
    own = spec_of(mirror)
    if is_many(mirror):
        raise UsageError(f"{mirror.name} mirrors many repositories; publish to a mirror of one")
    kept = own.name, own.publish, own.together_wait, own.immutable, own.signatures, own.platforms
    spec = OneBuild(source, *kept, after=own.source.repository)
    return replace(mirror, spec=spec, publication=publication)
