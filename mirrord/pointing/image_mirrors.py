"""Which image mirrors copy an image, and what it is called where they write, by the configuration alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mirrord.config.load import Configuration
from mirrord.errors import MirrordError, UsageError
from mirrord.names.book import NameBook
from mirrord.plan.choice import Choosing
from mirrord.plan.select import listed_verdicts
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.syncers.image.names import (
    Images,
    Source,
    image_name,
    is_many,
    list_file,
    naming_at,
    spec_of,
    target_place,
)
from mirrord.syncers.image.plan.many import RepositoryPart, apart, chosen, derived
from mirrord.syncers.image.upstream import allow_file
from mirrord.syncers.image.upstream.allow_file import FrontLists, read_lists
from mirrord.syncers.image.upstream.many import of_file
from mirrord.wire.oci.reference import Reference

KIND: Final = "image"
_NEVER: Final = datetime.min.replace(tzinfo=UTC)  # no date of a tag is known here, so no age counts


class ImageMirrors:
    """The image mirrors of a configuration, and its front. The files that it names are read when it is made. Blocking.

    Attributes:
        named: the mirrors of one image or repository, and the part of each line of the lists.
        problems: what is left out, one sentence each.
    """

    def __init__(self, read: Configuration, *, front: bool = True) -> None:
        """Read the lists, those of the front only if `front`: `served` knows no image without."""
        self._read = read
        self.problems: list[str] = []
        images = [one for one in read.mirrors if one.kind == KIND]
        self._alone = [one for one in images if not is_many(one)]
        self._registries = [one for one in images if spec_of(one).source.registry]
        self.named: Sequence[Mirror] = [*self._named()]
        self._by_source: dict[str, list[Mirror]] = {}
        for mirror in self.named:
            if source := self.source(mirror):
                self._by_source.setdefault(source.name, []).append(mirror)
        self._front = self._front_lists() if front else FrontLists()

    def source(self, mirror: Mirror) -> Reference | None:
        """Return the repository that a mirror copies, under its canonical name; None if it is at no registry."""
        repository = spec_of(mirror).source.repository
        return self._read.names.canonical(Reference.parse(repository)) if repository else None

    def of(self, *names: Reference) -> Sequence[Mirror]:
        """Return the mirrors of an image with these names: as it is written, and the canonical one last."""
        found = [*self._by_source.get(names[-1].name, ())]
        for name in dict.fromkeys(names):
            found += (one for one in self.matched(name) if (own := self.source(one)) and own.name == names[-1].name)
        return found

    def matched(self, wanted: Reference) -> Iterator[Mirror]:
        """Yield the part of each mirror of a registry that would copy a repository."""
        for mirror in self._registries:
            if spec_of(mirror).source.registry == wanted.domain:
                named = [source for source, _ in chosen(mirror, [wanted.path]) if source.repository == wanted.name]
                with suppress(MirrordError):  # it cannot have a name at some target
                    yield from self._kept([derived(mirror, source) for source in named])

    def asked(self, source: Reference) -> Iterator[Mirror]:
        """Yield the mirror that copies an image when people ask for it, as `asking` allows; `source` is canonical.

        Whether somebody has asked is not known here.
        """
        asking = self._read.asking
        if asking and asking.mirror.kind == KIND and asking.allows(source.name):
            with suppress(MirrordError):  # it cannot have a name at some target
                yield derived(asking.mirror, Source(repository=source.name)).mirror

    def served(self, source: Reference, own: str) -> str:
        """Return what clients pull an image as through the front at `own` (`host[:port]`); "" if it does not allow it.

        Args:
            source: its canonical name.
            own: our own address.
        """
        rules = self._read.fronts.get(KIND)
        if rules is None or source.domain not in rules.upstreams:
            return ""
        if self._front.allowed_by(source) and not self._front.denied_by(source):
            with suppress(UsageError):  # an alias makes it too long for any name
                return self._read.names.served_as(source, own)
        return ""

    def denied_by_front(self, source: Reference) -> str:
        """Return the key of the configuration that denies an image in canonical form at the front; "" if none does."""
        return self._front.denied_by(source)

    def _front_lists(self) -> FrontLists:
        rules = self._read.fronts.get(KIND)
        if rules is None:
            return FrontLists()
        lists, _, problems = read_lists(rules, self._read.names)
        self._note(problems[:1])
        return FrontLists() if problems else lists

    def _named(self) -> Iterator[Mirror]:
        for mirror in self._read.mirrors:
            if mirror.kind != KIND or spec_of(mirror).source.registry:
                continue
            try:
                yield from self._kept(of_file(mirror).parts) if spec_of(mirror).source.listing else (mirror,)
            except MirrordError as error:
                self._note([str(error)])

    def _kept(self, parts: Sequence[RepositoryPart]) -> Iterator[Mirror]:
        """Yield the mirrors of the parts that a run copies: those whose names no mirror of one source has."""
        kept, problems = apart(parts, self._alone)
        self._note(problems)
        yield from (part.mirror for part in kept)

    def _note(self, problems: Iterable[str]) -> None:
        self.problems += (one for one in problems if one not in self.problems)


def list_files(read: Configuration) -> Sequence[Path]:
    """Return the files with lists of images that a configuration names."""
    mirrors = (one for one in read.mirrors if one.kind == KIND and spec_of(one).source.listing)
    rules = read.fronts.get(KIND)
    front = allow_file.list_file(rules) if rules else None
    return [*(list_file(one) for one in mirrors), *([front] if front else [])]


def place_at(mirror: Mirror, target: Target, own: str) -> str:
    """Return where a mirror writes its image: a repository, or the folder of a layout; `own` is our own address.

    Raises:
        ConfigError: the image cannot have a name there.
    """
    return f"{own}/{image_name(mirror)}" if target.name == LOCAL else str(target_place(mirror, target))


def by_naming(source: Reference, target: Target, names: NameBook) -> Mirror | None:
    """Return a nameless mirror of an image, which a naming gives a name at a target; None where no naming does."""
    if "{mirror}" in target.to:
        return None
    nobody = Mirror("", KIND, Images(Source(repository=source.name)), (target,), names=names)
    return nobody if naming_at(nobody, target) else None


def takes(mirror: Mirror, wanted: Reference) -> bool:
    """Whether the rules of a mirror of the same repository take this tag or digest; which tags exist is not known.

    A digest without a tag is taken where it is the one that is mirrored.
    """
    source = spec_of(mirror).source
    own = Reference.parse(source.repository or "")
    if wanted.tag is None and wanted.digest:
        return wanted.digest == own.digest
    tag = wanted.tag or "latest"
    if source.names:
        return tag in source.names
    if source.choice:
        return Choosing([tag], source.choice).verdicts({}, _NEVER)[0].chosen
    if source.tags:
        return any(one.chosen for one in listed_verdicts([tag], source.tags) if one.tag == tag)
    return tag == (own.tag or "latest") and (own.digest in (None, wanted.digest) or wanted.digest is None)
