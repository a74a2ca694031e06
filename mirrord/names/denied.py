"""What was taken down: images, content and mirrors that are never mirrored, served or restored again. Pure.

An image is denied by its name at the source (with a tag, as a whole, or by a wildcard as in allow lists), and by the
digest of its manifest, under whatever name. So is one item of a mirror, such as a version of a chart, by the digest of
its archive. A blob is never denied: others may have it, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mirrord.errors import UsageError
from mirrord.model.digest import Digest
from mirrord.names.allows import AllowEntry, AllowList, Canonical, parse_allow, unchanged
from mirrord.names.lists import ListLine
from mirrord.wire.oci.reference import parse_repository, referrers_tag, subject_tag

LONGEST_REASON: Final = 500
LONGEST_ITEM: Final = 600
_WILDCARDS: Final = ("/*", "/**")


@dataclass(frozen=True, slots=True)
class DeniedEntry:
    """One entry of the file `settings.denied`; it names an image, digests, a mirror or an item of one.

    Attributes:
        line: where it begins.
        reason: why, one line; clients see it.
        image: `host/path`, with a tag or a wildcard (`/*`, `/**`) or without, in canonical form; "" for none.
        digests: of manifests, and of archives of charts.
        mirror: the name of a mirror; "" for none.
        at: when it was denied, as it is written.
        item: the one item of the mirror that is denied, such as `app-1.2.3`; "" for all of it.
        within: indexes that have it, and that are not taken down with it.
    """

    line: int
    reason: str
    image: str = ""
    digests: Sequence[Digest] = ()
    mirror: str = ""
    at: str = ""
    item: str = ""
    within: Sequence[Digest] = ()

    @property
    def what(self) -> str:
        """What is denied, for people."""
        more = f" and {len(self.digests) - 1} more" if len(self.digests) > 1 else ""
        return self.image or f"{self.mirror} {self.item}".strip() or f"{self.digests[0]}{more}"

    @property
    def whole(self) -> str:
        """The name of the mirror that is denied with all that it has; "" for none."""
        return "" if self.item else self.mirror


class Denied:
    """All entries; a lookup takes one step for each level of a name, however many there are."""

    def __init__(self, entries: Iterable[DeniedEntry] = ()) -> None:
        """Take them in any order; of equal ones the first counts."""
        self.entries: Sequence[DeniedEntry] = tuple(entries)
        self._by_digest: dict[str, DeniedEntry] = {}
        self._by_subject: dict[str, DeniedEntry] = {}
        self._by_index: dict[str, DeniedEntry] = {}
        self._by_mirror: dict[str, DeniedEntry] = {}
        self._by_item: dict[tuple[str, str], DeniedEntry] = {}
        self._by_tag: dict[str, DeniedEntry] = {}
        whole: list[AllowEntry] = []
        for number, entry in enumerate(self.entries):
            for digest in entry.digests:
                self._by_digest.setdefault(digest, entry)
                self._by_subject.setdefault(referrers_tag(digest), entry)
            for digest in entry.within:
                self._by_index.setdefault(digest, entry)
            if entry.item:
                self._by_item.setdefault((entry.mirror, entry.item), entry)
            elif entry.mirror:
                self._by_mirror.setdefault(entry.mirror, entry)
            name, tag = parted(entry.image)
            if tag:
                self._by_tag.setdefault(entry.image, entry)
            elif name:
                wildcard = next((end for end in _WILDCARDS if name.endswith(end)), "")
                whole.append(AllowEntry(number, name.removesuffix(wildcard), wildcard))
        self._whole = AllowList(whole)

    def __bool__(self) -> bool:
        """Whether anything is denied."""
        return bool(self.entries)

    def __eq__(self, other: object) -> bool:
        """Compare by entries."""
        return isinstance(other, Denied) and other.entries == self.entries

    def __hash__(self) -> int:
        """Hash by entries."""
        return hash(self.entries)

    def mirror(self, name: str) -> DeniedEntry | None:
        """Return the entry that denies a mirror, or None."""
        return self._by_mirror.get(name)

    def item(self, mirror: str, item: str, digest: str = "") -> DeniedEntry | None:
        """Return the entry that denies an item of a mirror, by its name or by its digest, or None."""
        return self._by_mirror.get(mirror) or self._by_item.get((mirror, item)) or self._by_digest.get(digest)

    def about(self, mirror: str) -> Sequence[DeniedEntry]:
        """Return the entries that may deny items of a mirror, if they are no images: also those by digest alone."""
        return [one for one in self.entries if not one.image and (one.item or one.mirror in ("", mirror))]

    def image(self, name: str, ref: str = "") -> DeniedEntry | None:
        """Return the entry that denies an image: `manifest`, or `repository`."""
        return self.manifest(name, ref) or self.repository(name)

    def kept_in(self, index: str) -> tuple[DeniedEntry, str] | None:
        """Return the entry of a manifest that is denied and that an index has, with what to do; None if it has none."""
        entry = None if index in self._by_digest else self._by_index.get(index)
        return (entry, has_denied(index, entry.digests[0])) if entry else None

    def names(self) -> Iterator[AllowEntry]:
        """Yield the names of images that are denied, with a wildcard or a tag where the entry has one."""
        yield from self._whole.entries()
        yield from (AllowEntry(0, image) for image in self._by_tag)

    def digests(self) -> Iterator[str]:
        """Yield the digests that are denied under whatever name."""
        yield from self._by_digest

    def manifest(self, name: str, ref: str) -> DeniedEntry | None:
        """Return the entry that denies one image of a repository, or None.

        Args:
            name: `host/path` in canonical form; "" where only `ref` is known.
            ref: a tag or a digest. The tag of a signature is denied with what it is about.
        """
        if ":" in ref:
            return self._by_digest.get(ref)
        found = self._by_tag.get(f"{name}:{ref}")
        return found or self._by_subject.get(subject_tag(ref))

    def repository(self, name: str) -> DeniedEntry | None:
        """Return the entry that denies a repository (`host/path` in canonical form) with all that it has, or None."""
        entry = self._whole.named(name)
        return self.entries[entry.line] if entry else None


def has_denied(index: str, digest: str) -> str:
    """Say of an index that it has a manifest which was taken down."""
    return f"it is an index that has {digest}, which was taken down; take down {index}, too"


def parted(image: str) -> tuple[str, str]:
    """Return the name and the tag, or "", of the image of an entry."""
    folder, slash, last = image.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{folder}{slash}{last}", tag


def parse_denied_image(text: str, canonical: Canonical = unchanged) -> str:
    """Return the one spelling of `host/path[:tag]`, or of a line as allow lists have it.

    Raises:
        UsageError: it is neither; says what to write instead.
    """
    if "*" in text:
        return parse_allow(ListLine(0, text, ""), canonical).text
    reference = canonical(parse_repository(text))
    if reference.digest is not None:
        raise UsageError(f"{reference}: has a digest; write digests: ['{reference.digest}'], whatever the name")
    return str(reference)


def check_item(text: str) -> str:
    """Return the name of an item.

    Raises:
        UsageError: it is too long, or not one printable line.
    """
    if not text.isprintable() or len(text) > LONGEST_ITEM:
        raise UsageError(f"{text[:60]!a} is no item of a mirror; write one as `mirrord status NAME` lists it")
    return text


def check_reason(text: str) -> str:
    """Return a reason as clients may see it.

    Raises:
        UsageError: it is empty, too long, or not one printable line.
    """
    reason = text.strip()
    if not reason:
        raise UsageError("is empty; write why, in one line: clients see it")
    if not reason.isprintable():
        raise UsageError("has a line end or a character that cannot be displayed; write one line")
    if len(reason) > LONGEST_REASON:
        raise UsageError(f"has {len(reason)} characters; write at most {LONGEST_REASON}")
    return reason
