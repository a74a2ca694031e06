"""Where an image mirror reads from and writes to: references and folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from mirrord.errors import ConfigError, MirrordError, UsageError
from mirrord.plan.naming import target_text
from mirrord.syncer.values import LOCAL, Mirror, Publication, Target
from mirrord.syncers.image.spec import ImageSpec, Source
from mirrord.wire.oci.layout import split_name
from mirrord.wire.oci.reference import Reference


def spec_of(mirror: Mirror) -> ImageSpec:
    """Return the mirror's own part as what it is."""
    return cast("ImageSpec", mirror.spec)


def image_name(mirror: Mirror) -> str:
    """Return the image's name below a target's prefix, and in the `local` store."""
    return spec_of(mirror).name or mirror.name


def target_place(mirror: Mirror, target: Target) -> Reference | Path:
    """Return what `target` stands for, a repository or the folder of an OCI layout: `<to>/<name>`, or `to` with braces.

    Raises:
        ConfigError: it is neither.
    """
    text = target_text(mirror, target, image_name(mirror), below=True)
    try:
        if text.startswith("oci:"):
            if not target.to.removeprefix("oci:").strip("/"):
                raise UsageError(f"{target.to} names no folder; write oci:/DIR")
            return _layout(text.removeprefix("oci:"), spec_of(mirror).source.layouts)
        reference = Reference.parse(text)
        if reference.tag or reference.digest:
            raise UsageError(f"{text} has a tag; write the repository only")
    except MirrordError as error:
        raise ConfigError(f"{target.origin}: targets.{target.name}.to: {error}") from error
    return reference


def _layout(path: str, source: Path | None) -> Path:
    """Return the folder of a layout, in one spelling that skopeo understands behind `oci:`, too."""
    if path.startswith("//"):
        raise UsageError(f"oci:{path}: is a URL; write {path[2:]} for a registry, or oci:/DIR for OCI layouts")
    if not path.startswith("/"):
        raise UsageError(f"oci:{path}: is no absolute path; write oci:/DIR")
    if ".." in path.split("/"):
        raise UsageError(f"oci:{path}: leads upwards; write the path without `..`")
    if ":" in path:
        raise UsageError(f"oci:{path}: has a colon; write the folder only, each tag of the mirror is a name in it")
    if not path.isprintable():
        raise UsageError(f"oci:{ascii(path)[1:-1]}: has characters that cannot be read; write a plain path")
    if source is not None and (folder := Path(path)).is_relative_to(source):
        raise UsageError(f"oci:{folder}: is below from.layouts, and would be read as a build; write another folder")
    return Path(path)


def source_reference(mirror: Mirror) -> Reference:
    """Return the repository that the mirror reads.

    Raises:
        ConfigError: that is no reference.
    """
    try:
        return Reference.parse(spec_of(mirror).source.repository or "")
    except MirrordError as error:
        raise ConfigError(f"{mirror.origin}: mirrors.{mirror.name}.from.repository: {error}") from error


def places(mirror: Mirror) -> tuple[str, Mapping[str, str]]:
    """Return origin and targets in canonical spelling."""
    source = spec_of(mirror).source
    files = source.layout or source.archive or source.layouts
    origin = str(files) if files else source_reference(mirror).name
    return origin, {target.name: _place(mirror, target) for target in mirror.targets}


def _place(mirror: Mirror, target: Target) -> str:
    if target.name == LOCAL:
        return f"{LOCAL}/{image_name(mirror)}"
    place = target_place(mirror, target)
    return str(place) if isinstance(place, Path) else place.name


def parse_source(text: str, names: tuple[str, ...] = ()) -> Source:
    """Read a source as the command line takes it: `oci:DIR[:NAME]`, `docker-archive:FILE[:NAME]` or a reference.

    Raises:
        UsageError: none of these.
    """
    scheme, colon, rest = text.partition(":")
    fields: dict[str, object] = {"repository": text}
    if colon and scheme in ("oci", "docker-archive"):
        path, tag = split_name(rest)
        fields = {"layout" if scheme == "oci" else "archive": path, "tag": tag}
    try:
        if "repository" in fields:
            Reference.parse(text)
        return Source.model_validate({**fields, "names": names})
    except ValidationError as error:
        raise UsageError(f"{text}: {error.errors()[0]['msg']}") from error


def publishing(mirror: Mirror, publication: Publication) -> Mirror:
    """Put one build in the place of the mirror's source.

    Raises:
        UsageError: the source or a name cannot be read.
    """
    source = parse_source(publication.source, publication.names)
    spec = spec_of(mirror).model_copy(update={"source": source})
    return replace(mirror, spec=spec, publication=publication)
