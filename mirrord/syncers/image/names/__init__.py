"""Where an image mirror reads from and writes to: references and folders."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mirrord.errors import ConfigError, MirrordError, UsageError
from mirrord.names.limits import misfit
from mirrord.names.naming import BUILT_IN, Naming
from mirrord.plan.naming import layout_folder, target_text
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.syncers.image.names.signatures import Signatures
from mirrord.wire.oci.reference import Reference, parse_repository

if TYPE_CHECKING:
    from mirrord.model.choice import Choice
    from mirrord.names.lists import ListForm
    from mirrord.plan.repositories import RepositoryChoice

_HERE = Target(LOCAL, "image", LOCAL, None)
_ANY = "any-0-name"
"""Stands for the names of images in the place of a mirror of many."""
_ASKED = "asked"  # the origin of images that were asked for


@dataclass(frozen=True, slots=True)
class Source:
    """Where images come from: exactly one of `repository`, `registry`, `list`, `layout`, `archive`, `layouts`.

    Attributes:
        repository: a reference; its tag or digest is mirrored unless `tags` or `choice` is set.
        tags: literal tags and globs to mirror from `repository`, or from each repository of many.
        choice: rules for these tags instead of `tags`, or None.
        registry: a registry of which `repositories` are mirrored.
        repositories: rules for these.
        listing: a file that names images; below the folder of the configuration unless it is absolute.
        form: what a line of `listing` looks like; None for what the file's name says.
        layout: an OCI image layout, a folder or a tar.
        archive: an archive of `docker save`.
        layouts: a folder of layouts; each one is published by the branch and commit in its annotations.
        tag: which image of a `layout` or an `archive` with several.
        names: the tags of the image of a `layout`, an `archive` or a single tag at the targets; the first of several
            for a `layout` or an `archive` never moves.
    """

    repository: str | None = None
    tags: tuple[str, ...] = ()
    choice: Choice | None = None
    registry: str | None = None
    repositories: RepositoryChoice | None = None
    listing: Path | None = None
    form: ListForm | None = None
    layout: Path | None = None
    archive: Path | None = None
    layouts: Path | None = None
    tag: str | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pruning:
    """What `mirrord prune` may remove.

    Attributes:
        after: seconds between two listings that have to agree.
        max_loss: share of the tags that the source may have lost since the last one.
    """

    after: float = 86400.0
    max_loss: float = 0.5


@dataclass(frozen=True, slots=True)
class Images:
    """The settings of an image mirror; `spec.ImageSpec` reads the same attributes from a configuration.

    Attributes:
        source: where images come from.
        name: the image's name at targets that are a prefix; by default the mirror's name.
        publish: `each` target sets its tags when its content is complete, or all healthy ones `together`.
        together_wait: seconds that complete targets wait for slower ones.
        immutable: globs of tags that never move; once recorded at all targets they cost no request.
        signatures: what is done with signatures, attestations and SBOMs.
        platforms: those that are mirrored, as `wire.oci.platform` writes them; all if there are none.
        prune: what may be removed at targets.
    """

    source: Source
    name: str | None = None
    publish: str = "each"
    together_wait: float = 600.0
    immutable: tuple[str, ...] = ()
    signatures: Signatures = field(default_factory=Signatures)
    platforms: tuple[str, ...] = ()
    prune: Pruning = field(default_factory=Pruning)


@dataclass(frozen=True, slots=True)
class OneImage(Images):
    """The image of `mirrord copy`, which must exist and may have no name.

    Attributes:
        text: the source as written.
        called: target name → the image's tag there; elsewhere it keeps its own.
    """

    text: str = ""
    called: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OneBuild(Images):
    """The build of a `mirrord publish`, which takes the place of the mirror's source.

    Attributes:
        after: the repository of the mirror's own source, after which namings call the build; None where it has none.
    """

    after: str | None = None


@dataclass(frozen=True, slots=True)
class AskedImages(Images):
    """Images that somebody asked for; without `images` those of nobody, which are known by the record alone.

    Attributes:
        images: references in canonical form, each with a tag or a digest.
    """

    images: tuple[str, ...] = ()


def asked(images: Sequence[str], platforms: Sequence[str]) -> AskedImages:
    """Return the mirror's own part for images that were asked for; see `Syncer.asked`."""
    return AskedImages(Source(), images=tuple(images), platforms=tuple(platforms))


def spec_of(mirror: Mirror) -> Images:
    """Return the mirror's own part with its type."""
    return cast("Images", mirror.spec)


def frozen(mirror: Mirror) -> Sequence[str]:
    """Return globs of names that never move at the targets, also for a publish."""
    return spec_of(mirror).immutable if mirror.publication else ()


def is_many(mirror: Mirror) -> bool:
    """Whether it mirrors many repositories, each under a name of its own at the targets."""
    source = spec_of(mirror).source
    return source.registry is not None or source.listing is not None or isinstance(mirror.spec, AskedImages)


def list_file(mirror: Mirror) -> Path:
    """Return the file that names its images; a relative path is below the folder of the configuration."""
    return Path(mirror.origin.file).parent / (spec_of(mirror).source.listing or "")


def naming_at(mirror: Mirror, target: Target) -> Naming | None:
    """Return the naming that decides what the mirror's image is called at a target; None for `as:` or its name."""
    if spec_of(mirror).name or not _called_after(mirror):
        return None
    own: Naming | None = getattr(target.options, "naming", None)
    return own or (None if _no_name_in(target) else mirror.names.naming)


def _no_name_in(target: Target) -> bool:
    return "{" in target.to and "{name}" not in target.to


def image_name(mirror: Mirror, target: Target = _HERE) -> str:
    """Return the image's name below a target's prefix; by default that in the `local` store.

    Raises:
        ConfigError: the naming has none for this source.
    """
    naming = naming_at(mirror, target)
    if naming is None:
        return spec_of(mirror).name or mirror.name
    try:
        return naming.name(mirror.names.canonical(parse_repository(_called_after(mirror) or "")), mirror.name)
    except UsageError as error:
        raise ConfigError(_unnamed(mirror, target, f"{error}; or give it an as: in a mirror of its own")) from error


def _called_after(mirror: Mirror) -> str | None:
    spec = spec_of(mirror)
    return spec.after if isinstance(spec, OneBuild) else spec.source.repository


def _unnamed(mirror: Mirror, target: Target, why: str) -> str:
    return f"{mirror.origin}: mirrors.{mirror.name}.from.repository: has no name at {target.name!r}: {why}"


def address(mirror: Mirror, url: str) -> str:
    """Return the reference that clients pull from `local`, without a tag: `mirror.example.org/craned`.

    Where that has many repositories, `*` stands for the name of each.
    """
    return f"{url.partition('://')[2]}/{'*' if is_many(mirror) else image_name(mirror)}"


def target_place(mirror: Mirror, target: Target) -> Reference | Path:
    """Return the address of `target`, a repository or the folder of an OCI layout: `<to>/<name>`, or `to` with braces.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(mirror.spec, OneImage):
        to, is_layout = target.to.removeprefix("oci:"), target.to.startswith("oci:")
        return Path(to) if is_layout else Reference.parse(to)
    naming = naming_at(mirror, target)
    text = target_text(mirror, target, image_name(mirror, target), below=True)
    try:
        if naming and _no_name_in(target):
            raise UsageError(f"{target.to} has no {{name}}, so naming has no effect; add {{name}}, or remove naming")
        if text.startswith("oci:"):
            if not target.to.removeprefix("oci:").strip("/"):
                raise UsageError(f"{target.to} has no folder; write oci:/DIR")
            return layout_folder(text.removeprefix("oci:"), spec_of(mirror).source.layouts)
        host, _, last = target.to.rpartition("/")
        if host.strip(":/") and ":" in last and "://" not in target.to:
            raise UsageError(f"{target.to} has a tag; write the repository only")
        reference = parse_repository(text)
        if reference.tag or reference.digest:
            raise UsageError(f"{text} has a tag; write the repository only")
    except MirrordError as error:
        raise ConfigError(f"{target.origin}: targets.{target.name}.to: {error}") from error
    if naming and (why := misfit(reference)):
        raise ConfigError(_unnamed(mirror, target, f"{why}, or give it an as: in a mirror of its own"))
    return reference


def source_reference(mirror: Mirror) -> Reference:
    """Return the source repository of the mirror.

    Raises:
        ConfigError: it is not a reference, or has a tag or digest that `tags` overrides.
    """
    source = spec_of(mirror).source
    try:
        reference = parse_repository(source.repository or "")
        if (source.tags or source.choice) and (reference.tag or reference.digest):
            raise UsageError(f"{source.repository} has a tag or digest, and `tags` is given; keep one of them")
    except MirrordError as error:
        raise ConfigError(f"{mirror.origin}: mirrors.{mirror.name}.from.repository: {error}") from error
    return reference


def places(mirror: Mirror) -> tuple[str, Mapping[str, str]]:
    """Return origin and targets in canonical spelling; in those of many repositories `*` stands for the name of each.

    Raises:
        ConfigError: one of them is invalid.
    """
    source = spec_of(mirror).source
    if is_many(mirror):
        asked_for = isinstance(mirror.spec, AskedImages)
        return source.registry or (_ASKED if asked_for else str(list_file(mirror))), {
            one.name: _place_of_many(mirror, one) for one in mirror.targets
        }
    files = source.layout or source.archive or source.layouts
    origin = str(files) if files else source_reference(mirror).name
    return origin, {target.name: _place_text(mirror, target) for target in mirror.targets}


def _place_text(mirror: Mirror, target: Target) -> str:
    place = f"{LOCAL}/{image_name(mirror)}" if target.name == LOCAL else target_place(mirror, target)
    return place.name if isinstance(place, Reference) else str(place)


def _place_of_many(mirror: Mirror, target: Target) -> str:
    text = _place_text(replace(mirror, spec=Images(spec_of(mirror).source, name=_ANY)), target)
    if _ANY not in text:
        what = f"{target.to} would be one repository for all images; write {{name}} where the name of each belongs"
        raise ConfigError(f"{target.origin}: targets.{target.name}.to: {what}")
    book, own = mirror.names, getattr(target.options, "naming", None)
    naming = own or book.naming or BUILT_IN["path"]
    how = [naming.text] if naming != BUILT_IN["path"] else []
    if book.aliases:  # other names for the same images: what was recorded does not count for them
        how.append(f"aliases {hashlib.sha256(repr(sorted(book.aliases.items())).encode()).hexdigest()[:8]}")
    named = text.replace(_ANY, "*")
    return f"{named} ({', '.join(how)})" if how else named


def hosts(mirror: Mirror) -> frozenset[str] | None:
    """Return the registries that a mirror names; None when a file or whoever asks names them."""
    source = spec_of(mirror).source
    if source.listing or isinstance(mirror.spec, AskedImages):
        return None
    named = [target_place(mirror, target) for target in mirror.targets if target.name != LOCAL]
    if source.repository:
        named.append(source_reference(mirror))
    found = {place.domain for place in named if isinstance(place, Reference)}
    return frozenset(found | {source.registry} if source.registry else found)
