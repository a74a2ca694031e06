"""From decisions to edits: each byte that is not of a reference stays, and a text is edited once where it stands.

Several images may share a text (an anchor, a registry that two values name by it). Where they do not agree about it,
all that share it are left.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from mirrord.names.workloads import NamedImage, Scalar, repository_in
from mirrord.pointing.places import DIRECT, Decision, Direct, Left, MirrorPlace
from mirrord.wire.oci.reference import Reference

_PIECES: Final = 10_000  # of a text that are joined at a time
_QUOTES: Final = ("'", '"')
_BLOCKS: Final = ("|", ">")
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")  # no text, in YAML and JSON, and no place for one


@dataclass(frozen=True, slots=True)
class ImageChange:
    """An image and what it becomes, with the line where it stands."""

    line: int
    image: str
    becomes: str


@dataclass(frozen=True, slots=True)
class ImageLeft:
    """An image that stays, with the line where it stands."""

    line: int
    image: str
    why: Left


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A text after its edits, what was changed in it, and what was not."""

    text: str
    changes: Sequence[ImageChange] = ()
    left: Sequence[ImageLeft] = ()


class _Edit(NamedTuple):
    """What to replace in the file, from where to where and by what, so that the text at `start` names `new`."""

    start: int
    new: str
    begin: int
    end: int
    fresh: str


@dataclass(slots=True)
class _Wish:
    """What one image wants its texts to be."""

    image: NamedImage
    edits: tuple[_Edit, ...] = ()
    becomes: str = ""
    why: Left | None = None


def rewritten(text: str, images: Iterable[NamedImage], decisions: Mapping[str, Decision]) -> Rewritten:
    """Return a text with its images where the decisions about their references point.

    Args:
        text: the file, exactly as it is.
        images: those that stand in it; one that an alias repeats stands there once.
        decisions: by `NamedImage.text`.
    """
    unique = _in_order(images)
    settled = _settled(text, unique, decisions)
    changes: list[ImageChange] = []
    left: list[ImageLeft] = []
    edits, same = _Edits(), dict[str, str]()
    line, counted = 1, 0
    for number, image in enumerate(unique):
        wish = settled.get(number) or _wish(text, image, decisions[image.text])
        line, counted = line + text.count("\n", counted, image.name.start), image.name.start
        if wish.why:
            left.append(ImageLeft(line, image.text, wish.why))
            continue
        changes.append(ImageChange(line, image.text, same.setdefault(wish.becomes, wish.becomes)))
        for edit in wish.edits:
            edits.add(edit, same)
    return Rewritten(edits.applied(text), changes, left)


def _in_order(images: Iterable[NamedImage]) -> Sequence[NamedImage]:
    """Return images in the order in which they stand, each once; those of most files are in order already."""
    found = [*images]
    if all(one.name.start < other.name.start for one, other in pairwise(found)):
        return found
    found.sort(key=_where)
    return [one for before, one in pairwise([None, *found]) if one and (not before or _where(before) != _where(one))]


def _where(image: NamedImage) -> tuple[int, int, str]:
    return image.name.start, image.registry.start if image.registry else -1, image.text


def _wish(text: str, image: NamedImage, decision: Decision) -> _Wish:
    """Return what an image wants, or why it wants nothing."""
    if isinstance(decision, Left):
        return _Wish(image, why=decision)
    if image.is_key:
        other = decision.reference.name if isinstance(decision, MirrorPlace) else decision.text
        return _Wish(image, why=Left("key", f"kustomize finds images by this name; write newName: {other} beside it"))
    if isinstance(decision, Direct):
        if not image.written.startswith(DIRECT):
            return _Wish(image, why=Left("split", "direct.to is a registry of its own here; write it into the name"))
        edits = [_edit(text, image.name, image.written, image.written.removeprefix(DIRECT))]
        return _checked(image, edits, decision.text)
    place, old = decision.reference, repository_in(image.written)
    end = image.written[len(old) :]
    fresh = place.name + end
    becomes = fresh if image.text == image.written else f"{place.name}{image.text[len(repository_in(image.text)) :]}"
    if image.registry is None:
        return _checked(image, [_edit(text, image.name, image.written, fresh)], becomes)
    registry, name = _apart(place)
    before = image.registry.text.strip()
    edits = [
        _edit(text, image.name, image.written, name + end),
        _edit(text, image.registry, before, f"{registry}/" if before.endswith("/") else registry),
    ]
    return _checked(image, edits, becomes)


def _apart(place: Reference) -> tuple[str, str]:
    """Divide a reference for two keys, so that the second does not begin with what looks like a registry."""
    registry, name = place.domain, place.path
    while "/" in name and "." in name.partition("/")[0]:
        first, _, name = name.partition("/")
        registry = f"{registry}/{first}"
    return registry, name


def _checked(image: NamedImage, edits: Sequence[_Edit | None], becomes: str) -> _Wish:
    """Return a wish whose every text can be edited, else one for nothing."""
    safe = tuple(edit for edit in edits if edit)
    if len(safe) == len(edits):
        return _Wish(image, safe, becomes)
    advice = 'is written with escapes, or would need quotes; write it as "NAME:TAG"'
    return _Wish(image, why=Left("escaped", advice))


def _settled(text: str, images: Sequence[NamedImage], decisions: Mapping[str, Decision]) -> Mapping[int, _Wish]:
    """Return the wishes of those images that share a text with others, by their number in the order."""
    registries = Counter(one.registry.start for one in images if one.registry)
    several = {start for start, count in registries.items() if count > 1}
    several |= {one.name.start for one in images if one.name.start in registries}
    several |= {one.name.start for one, other in pairwise(images) if one.name.start == other.name.start}
    wishes = {
        number: _wish(text, one, decisions[one.text])
        for number, one in enumerate(images if several else ())
        if one.name.start in several or (one.registry and one.registry.start in several)
    }
    _settle(wishes.values(), several)
    return wishes


def _settle(wishes: Iterable[_Wish], several: AbstractSet[int]) -> None:
    """Leave the images that do not agree about a text that they share; each is left at most once, so this is linear."""
    sharing: dict[int, list[_Wish]] = defaultdict(list)
    for wish in wishes:
        for scalar in (wish.image.name, wish.image.registry):
            if scalar and scalar.start in several:
                sharing[scalar.start].append(wish)
    open_ = [*sharing]
    while open_:
        start = open_.pop()
        here = sharing[start]
        wanted = {None if one.why else next(each.new for each in one.edits if each.start == start) for one in here}
        if len(wanted) < 2 or wanted == {None}:
            continue
        for one in here:
            if not one.why:
                one.why = Left("shared", "shares a text (an anchor) with an image that goes elsewhere; write it out")
                open_ += (each.start for each in one.edits if each.start in sharing)


def _edit(text: str, scalar: Scalar, old: str, new: str) -> _Edit | None:
    """Return how to replace a part of a text; None where that cannot be said safely."""
    start = scalar.start
    if old == new:
        return _Edit(start, new, start, start, "")
    raw = text[start : scalar.end]
    whole = scalar.text.strip()
    at = raw.rfind(whole)
    inner = _reference_at(whole, old)
    if at >= 0 and inner >= 0:
        begin = start + at + inner
        bare = not raw.endswith(_QUOTES) and not raw.startswith(_BLOCKS)
        unquotable = bare and (new.startswith("[") or _NUMBER.fullmatch(whole))
        return None if unquotable else _Edit(start, new, begin, begin + len(old), new)
    fresh = whole[:inner] + new + whole[inner + len(old) :]
    if raw.endswith('"') and inner >= 0 and fresh.isascii() and fresh.isprintable() and not {*fresh} & {'"', "\\"}:
        return _Edit(start, new, start + raw.find('"'), scalar.end, f'"{fresh}"')
    return None


def _reference_at(whole: str, old: str) -> int:
    """Return where a reference stands in a text: at its start, or behind `ref=` as in `type=registry,ref=NAME`."""
    if whole.startswith(old):
        return 0
    behind = whole.find(f"ref={old}")
    return behind + len("ref=") if behind >= 0 else whole.find(old)


class _Edits:
    """What is replaced in a text. There may be hundreds of thousands: each costs two numbers, and texts are shared."""

    def __init__(self) -> None:
        """Replace nothing."""
        self._begins, self._ends = array("q"), array("q")
        self._fresh: list[str] = []

    def add(self, edit: _Edit, same: dict[str, str]) -> None:
        """Replace one part; `same` has the texts that are shared."""
        self._begins.append(edit.begin)
        self._ends.append(edit.end)
        self._fresh.append(same.setdefault(edit.fresh, edit.fresh))

    def applied(self, text: str) -> str:
        """Return a text with all that is replaced; what was added twice is done once."""
        order: Sequence[int] = range(len(self._begins))
        if any(one > other for one, other in pairwise(self._begins)):
            order = sorted(order, key=lambda number: (self._begins[number], self._ends[number]))
        chunks: list[str] = []
        pieces: list[str] = []
        at, last = 0, (-1, -1)
        for number in order:
            here = self._begins[number], self._ends[number]
            if here == last:
                continue
            pieces += [text[at : here[0]], self._fresh[number]]
            at, last = here[1], here
            if len(pieces) > _PIECES:
                chunks.append("".join(pieces))
                pieces.clear()
        return "".join([*chunks, *pieces, text[at:]])
