"""Where an image mirror reads from and writes to: references and folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from mirrord.errors import ConfigError, MirrordError, UsageError
from mirrord.plan.naming import target_text
from mirrord.syncer.values import LOCAL, Mirror, Publication, Target
from mirrord.wire.oci.layout import split_folder, split_name
from mirrord.wire.oci.reference import Reference, valid_tag
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


@dataclass(frozen=True, slots=True)
class Source:
    """Where images come from: exactly one of `repository`, `layout`, `archive`, `layouts`.

    Attributes:
        repository: a reference; its tag or digest is mirrored unless `tags` is set.
        tags: literal tags and globs to mirror from `repository`.
        layout: an OCI image layout, a folder or a tar.
        archive: an archive of `docker save`.
        layouts: a folder of layouts; each one is published by the branch and commit in its annotations.
        tag: which image of a `layout` or an `archive` with several.
        names: the tags of the image of a `layout`, an `archive` or a single tag at the targets; the first of several
            for a `layout` or an `archive` never moves.
    """

    repository: str | None = None
    tags: tuple[str, ...] = ()
    layout: Path | None = None
    archive: Path | None = None
    layouts: Path | None = None
    tag: str | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Images:
    """The settings of an image mirror; `spec.ImageSpec` reads the same attributes from a configuration.

    Attributes:
        source: where images come from.
        name: the image's name at targets that are a prefix; by default the mirror's name.
        publish: `each` target sets its tags when its content is complete, or all healthy ones `together`.
        together_wait: seconds that complete targets wait for slower ones.
        immutable: globs of tags that never move; once recorded at all targets they cost no request.
    """

    source: Source
    name: str | None = None
    publish: str = "each"
    together_wait: float = 600.0
    immutable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OneImage(Images):
    """The image of `mirrord copy`, which must exist and may have no name.

    Attributes:
        text: the source as written.
        called: target name → the image's tag there; elsewhere it keeps its own.
    """

    text: str = ""
    called: Mapping[str, str] = field(default_factory=dict)


def spec_of(mirror: Mirror) -> Images:
    """Return the mirror's own part with its type."""
    return cast("Images", mirror.spec)


def frozen(mirror: Mirror) -> Sequence[str]:
    """Return globs of names that never move at the targets, also for a publish."""
    return spec_of(mirror).immutable if mirror.publication else ()


def image_name(mirror: Mirror) -> str:
    """Return the image's name below a target's prefix, and in the `local` store."""
    return spec_of(mirror).name or mirror.name


def address(mirror: Mirror, url: str) -> str:
    """Return the reference that clients pull from `local`, without a tag: `mirror.example.org/craned`."""
    return f"{url.partition('://')[2]}/{image_name(mirror)}"


def target_place(mirror: Mirror, target: Target) -> Reference | Path:
    """Return the address of `target`, a repository or the folder of an OCI layout: `<to>/<name>`, or `to` with braces.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(mirror.spec, OneImage):
        to, is_layout = target.to.removeprefix("oci:"), target.to.startswith("oci:")
        return Path(to) if is_layout else Reference.parse(to)
    text = target_text(mirror, target, image_name(mirror), below=True)
    try:
        if text.startswith("oci:"):
            if not target.to.removeprefix("oci:").strip("/"):
                raise UsageError(f"{target.to} has no folder; write oci:/DIR")
            return _layout(text.removeprefix("oci:"), spec_of(mirror).source.layouts)
        host, _, last = target.to.rpartition("/")
        if host.strip(":/") and ":" in last and "://" not in target.to:
            raise UsageError(f"{target.to} has a tag; write the repository only")
        reference = _parsed(text)
        if reference.tag or reference.digest:
            raise UsageError(f"{text} has a tag; write the repository only")
    except MirrordError as error:
        raise ConfigError(f"{target.origin}: targets.{target.name}.to: {error}") from error
    return reference


def _layout(path: str, source: Path | None) -> Path:
    """Return the folder of a layout in canonical form, which skopeo accepts after `oci:`, too."""
    if path.startswith("//"):
        raise UsageError(f"oci:{path}: is a URL; write {path[2:]} for a registry, or oci:/DIR for OCI layouts")
    if not path.startswith("/"):
        raise UsageError(f"oci:{path}: is not an absolute path; write oci:/DIR")
    if ".." in path.split("/"):
        raise UsageError(f"oci:{path}: contains `..`; write the path without `..`")
    if ":" in path:
        raise UsageError(f"oci:{path}: has a colon; write the folder only, each tag of the mirror is a name in it")
    if not path.isprintable():
        raise UsageError(f"oci:{ascii(path)[1:-1]}: has characters that cannot be displayed; write a plain path")
    if source is not None and (folder := Path(path)).is_relative_to(source):
        raise UsageError(f"oci:{folder}: is below from.layouts, and would be read as a build; write another folder")
    return Path(path)


def source_reference(mirror: Mirror) -> Reference:
    """Return the source repository of the mirror.

    Raises:
        ConfigError: it is not a reference, or has a tag or digest that `tags` overrides.
    """
    source = spec_of(mirror).source
    try:
        reference = _parsed(source.repository or "")
        if source.tags and (reference.tag or reference.digest):
            raise UsageError(f"{source.repository} has a tag or digest, and `tags` is given; keep one of them")
    except MirrordError as error:
        raise ConfigError(f"{mirror.origin}: mirrors.{mirror.name}.from.repository: {error}") from error
    return reference


def places(mirror: Mirror) -> tuple[str, Mapping[str, str]]:
    """Return origin and targets in canonical spelling."""
    source = spec_of(mirror).source
    files = source.layout or source.archive or source.layouts
    origin = str(files) if files else source_reference(mirror).name
    found: dict[str, str] = {}
    for target in mirror.targets:
        place = f"{LOCAL}/{image_name(mirror)}" if target.name == LOCAL else target_place(mirror, target)
        found[target.name] = place.name if isinstance(place, Reference) else str(place)
    return origin, found


def hosts(mirror: Mirror) -> frozenset[str]:
    """Return the registries that a mirror names."""
    named = [target_place(mirror, target) for target in mirror.targets if target.name != LOCAL]
    if spec_of(mirror).source.repository:
        named.append(source_reference(mirror))
    return frozenset(place.domain for place in named if isinstance(place, Reference))


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


def copying(source: str, targets: Sequence[str], tag: str | None) -> Mirror:
    """Return a mirror for `mirrord copy`: one image and its targets.

    Args:
        source: as in `parse_source`.
        targets: references and `oci:DIR[:TAG]`.
        tag: the tag at targets that do not name one, or None.

    Raises:
        UsageError: one of them is invalid, or a target is given twice.
    """
    places = [_copy_target(text) for text in targets]
    called = {f"{place}:{name}": name for place, own in places if (name := own or tag)}
    names = [f"{place}:{own or tag}" if own or tag else place for place, own in places]
    if len(set(names)) < len(names):
        raise UsageError("the same DST is given twice; give each one once")
    spec = OneImage(parse_source(source), text=source, called=called)
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
    return _parsed(text)


def _parsed(text: str) -> Reference:
    """Parse a reference; refuse a registry alone, which docker takes for a name at Docker Hub, its port for a tag."""
    reference = Reference.parse(text)
    host, colon, port = text.partition(":")
    if "/" not in text and ("." in host or host == "localhost") and (not colon or port.isdecimal()):
        raise UsageError(f"{text}: is a registry without a repository; write {text}/NAME")
    return reference


def publishing(mirror: Mirror, publication: Publication) -> Mirror:
    """Replace the mirror's source by one build.

    Raises:
        UsageError: the source or a name is invalid.
    """
    source = parse_source(publication.source, publication.names)
    own = spec_of(mirror)
    spec = Images(source, own.name, own.publish, own.together_wait, own.immutable)
    return replace(mirror, spec=spec, publication=publication)
