"""From decisions to edits: each byte that is not of a reference stays, and a text is edited once where it stands.

Several images may share a text (an anchor, a registry that two values name by it). Where they do not agree about it,
all that share it are left.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from mirrord.names.workloads import NamedImage, Scalar, repository_in
from mirrord.pointing.places import DIRECT, Decision, Direct, Left, MirrorPlace
from mirrord.wire.oci.reference import Reference

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
    ordered = sorted(images, key=_where)
    unique = [
        one for before, one in pairwise([None, *ordered]) if one and (not before or _where(before) != _where(one))
    ]
    wishes = [_wish(text, one, decisions[one.text]) for one in unique]
    _settle(wishes)
    line_of = _Lines(text)
    pieces, at = [], 0
    for edit in sorted({edit for wish in wishes if not wish.why for edit in wish.edits}):
        pieces += [text[at : edit.begin], edit.fresh]
        at = edit.end
    changes = [ImageChange(line_of(one.image.name.start), one.image.text, one.becomes) for one in wishes if not one.why]
    left = [ImageLeft(line_of(one.image.name.start), one.image.text, one.why) for one in wishes if one.why]
    return Rewritten("".join([*pieces, text[at:]]), changes, left)


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


def _settle(wishes: Sequence[_Wish]) -> None:
    """Leave the images that do not agree about a text that they share; each is left at most once, so this is linear."""
    starts = [text.start for one in wishes for text in (one.image.name, one.image.registry) if text]
    several = {start for start, count in Counter(starts).items() if count > 1}
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


class _Lines:
    """Says in which line a character stands."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]

    def __call__(self, at: int) -> int:
        return bisect_right(self._starts, at)
