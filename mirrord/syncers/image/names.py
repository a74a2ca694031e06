"""Where an image mirror reads from and writes to, as references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from mirrord.errors import ConfigError, MirrordError, UsageError
from mirrord.plan.naming import target_text
from mirrord.syncer.values import LOCAL, Mirror, Publication, Target
from mirrord.wire.oci.layout import split_name
from mirrord.wire.oci.reference import Reference

if TYPE_CHECKING:
    from mirrord.syncers.image.spec import ImageSpec, Source


def spec_of(mirror: Mirror) -> ImageSpec:
    """Return the mirror's own part as what it is."""
    return cast("ImageSpec", mirror.spec)


def image_name(mirror: Mirror) -> str:
    """Return the image's name below a target's prefix, and in the `local` store."""
    return spec_of(mirror).name or mirror.name


def target_reference(mirror: Mirror, target: Target) -> Reference:
    """Return the repository that `target` stands for: `<to>/<name>`, or `to` itself when it has `{name}` in it.

    Raises:
        ConfigError: that is no repository.
    """
    text = target_text(mirror, target, image_name(mirror), below=True)
    try:
        reference = Reference.parse(text)
    except MirrordError as error:
        raise ConfigError(f"{target.origin}: targets.{target.name}.to: {error}") from error
    if reference.tag or reference.digest:
        raise ConfigError(f"{target.origin}: targets.{target.name}.to: {text} has a tag; write the repository only")
    return reference


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
    return f"{LOCAL}/{image_name(mirror)}" if target.name == LOCAL else target_reference(mirror, target).name


def parse_source(text: str, names: tuple[str, ...] = ()) -> Source:
    """Read a source as the command line takes it: `oci:DIR[:NAME]`, `docker-archive:FILE[:NAME]` or a reference.

    Raises:
        UsageError: none of these.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - `mirrord copy` does not pay for pydantic

    from mirrord.syncers.image.spec import Source  # noqa: PLC0415 - `mirrord copy` does not pay for pydantic

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
