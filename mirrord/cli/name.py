"""`mirrord name`: what an image is called everywhere, and which image a name at a target is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mirrord.cli.console import note, say, say_json, table
from mirrord.cli.folders import configuration
from mirrord.config.lines import nearest
from mirrord.config.load import Configuration
from mirrord.config.pointing import FRONT
from mirrord.errors import ConfigError, MissingError, UsageError
from mirrord.names.book import begins_path
from mirrord.names.naming import Naming, below, registry_prefix
from mirrord.pointing.image_mirrors import ImageMirrors, by_naming, place_at
from mirrord.pointing.places import own_host
from mirrord.syncer.port import load_syncers
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.wire.oci.reference import Reference, parse_repository

_IMAGE = "image"
_NAME = "{name}"


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What was meant: an image at its source, or what a mirror copies that has no source at a registry."""

    source: Reference | None
    why: str = ""
    mirror: Mirror | None = None

    @property
    def text(self) -> str:
        what = str(self.source) if self.source or not self.mirror else f"image of mirror {self.mirror.name!r}"
        return f"{what} ({self.why})" if self.why else what


def name(reference: str, *, at: str | None, config: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    read = configuration(config, load_syncers())
    targets = _targets(read, at)
    given = parse_repository(reference)
    copies = ImageMirrors(read)
    meaning = _meaning(given, copies, read)
    writers = [*filter(None, (meaning.mirror,))]
    if meaning.source:
        writers = [*copies.of(given, meaning.source), *copies.asked(meaning.source)]
    # A list may name one repository several times, with digests.
    rows = [*dict.fromkeys(row for target in targets for row in _rows(target, meaning, writers, given, read))]
    if meaning.source and at is None and (place := copies.served(meaning.source, _own_host(read))):
        rows.append((FRONT, _tagged(place, given), ""))
    for problem in copies.problems:
        note(f"notice: {problem}")
    if json:
        named = [{"target": target, "name": place, "mirror": mirror or None} for target, place, mirror in rows]
        image = str(meaning.source) if meaning.source else None
        say_json({"reference": str(given), "image": image, "why": meaning.why or None, "names": named})
    elif rows:
        say(meaning.text)
        table(("TARGET", "NAME", "MIRROR"), [(target, place, mirror or "-") for target, place, mirror in rows])
    else:
        where = f"at {at!r}" if at else "anywhere"
        raise MissingError(f"{meaning.text} has no name {where}: no mirror copies it there, and no naming is set")
    return 0 if rows else MissingError.exit_code


def _targets(read: Configuration, at: str | None) -> Sequence[Target]:
    images = {name: target for name, target in read.targets.items() if target.kind == _IMAGE}
    images[LOCAL] = Target(LOCAL, _IMAGE, LOCAL, None)
    if at is None:
        return [*images.values()]
    if at not in images:
        raise UsageError(f"--at {at[:60]!r} is not an image target; {nearest(at, set(images))}")
    return [images[at]]


def _meaning(given: Reference, copies: ImageMirrors, read: Configuration) -> _Meaning:
    """Find out what was meant: what the mirrors write comes first, then our own hosts, then the namings."""
    for mirror in (*copies.named, *copies.matched(given)):
        for target in mirror.targets:
            if place_at(mirror, target, _own_host(read)) == given.name:
                source = copies.source(mirror)
                return _Meaning(source and _with_tag(source, given), f"{given.name} at {target.name}", mirror)
    if given.domain in read.names.hosts:
        source = read.names.canonical(read.names.meant(str(given)))
        return _Meaning(source, f"names.hosts has {given.domain}")
    for target in _targets(read, None):
        if source := _back(target, given, read):
            return _Meaning(_with_tag(read.names.canonical(source), given), f"{given.name} at {target.name}")
    if source := _behind_front(given, read):
        return _Meaning(_with_tag(source, given), f"{given.name} at front")
    canonical = read.names.canonical(given)
    return _Meaning(canonical, "" if canonical == given else f"names.aliases for {given.name}")


def _with_tag(source: Reference, given: Reference) -> Reference:
    return Reference(source.domain, source.path, given.tag, given.digest)


def _back(target: Target, given: Reference, read: Configuration) -> Reference | None:
    """Return the source that a naming has for a name at a target."""
    to = f"{_own_host(read)}/{_NAME}" if target.name == LOCAL else target.to.rstrip("/")
    naming: Naming | None = getattr(target.options, "naming", None) or read.names.naming
    if naming is None or to.startswith(("/", "oci:")):
        return None
    begin, _, end = (to if "{" in to else f"{to}/{_NAME}").partition(_NAME)
    host, _, path = begin.partition("/")
    try:
        rest = below(given.name, registry_prefix(host))
    except UsageError:
        return None  # a placeholder stands in the host
    if not rest or not rest.startswith(path) or not rest.endswith(end):
        return None
    return naming.source(rest[len(path) : len(rest) - len(end)])


def _own_host(read: Configuration) -> str:
    """Return the `host[:port]` under which clients pull from `local`; the name of the target when it is not known."""
    return own_host(read) or LOCAL


def _rows(
    target: Target, meaning: _Meaning, writers: Sequence[Mirror], given: Reference, read: Configuration
) -> Iterator[tuple[str, str, str]]:
    """Yield what the image is called at a target, and by which mirror; without one it is what the naming says."""
    here = [mirror for mirror in writers if any(one.name == target.name for one in mirror.targets)]
    for mirror in here:
        yield target.name, _tagged(place_at(mirror, target, _own_host(read)), given), mirror.name
    if here or meaning.source is None:
        return
    try:
        if nobody := by_naming(meaning.source, target, read.names):
            yield target.name, _tagged(place_at(nobody, target, _own_host(read)), given), ""
    except ConfigError as error:
        note(f"notice: {str(error).rpartition('from.repository: ')[2]}")


def _behind_front(given: Reference, read: Configuration) -> Reference | None:
    """Return the repository of an upstream that a path at our own address names."""
    rules = read.fronts.get(_IMAGE)
    if rules is None or given.domain != _own_host(read) or not begins_path(given.path.partition("/")[0]):
        return None
    try:
        source = read.names.canonical(parse_repository(given.path))
    except UsageError:
        return None
    return source if source.domain in rules.upstreams else None


def _tagged(place: str, given: Reference) -> str:
    """Return the place with the tag and the digest that were written, as a reference or as a layout is written."""
    tag = f":{given.tag}" if given.tag else ""
    if place.startswith("/"):
        return f"oci:{place}{tag}"
    return f"{place}{tag}@{given.digest}" if given.digest else f"{place}{tag}"
