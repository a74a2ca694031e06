"""From decisions to edits: each byte that is not of a reference stays, and a text is edited once where it stands.

Several images may share a text (an anchor, a registry that two values name by it). Where they do not agree about it,
all that share it are left.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

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


@dataclass(slots=True)
class _Wish:
    """What one image wants its texts to be: by the beginning of each, what is there and what should be."""

    image: NamedImage
    wanted: Mapping[int, tuple[Scalar, str, str]] = field(default_factory=dict)
    becomes: str = ""
    why: Left | None = None


def rewritten(text: str, images: Iterable[NamedImage], decisions: Mapping[str, Decision]) -> Rewritten:
    """Return a text with its images where the decisions about their references point.

    Args:
        text: the file, exactly as it is.
        images: those that stand in it; one that an alias repeats stands there once.
        decisions: by `NamedImage.text`.
    """
    unique = {(one.name.start, one.registry.start if one.registry else -1, one.text): one for one in images}
    ordered = sorted(unique.values(), key=lambda one: one.name.start)
    wishes = [_wish(text, one, decisions[one.text]) for one in ordered]
    _settle(wishes)
    line_of = _Lines(text)
    edits = {start: wanted for wish in wishes if not wish.why for start, wanted in wish.wanted.items()}
    pieces, at = [], 0
    for start in sorted(edits):
        scalar, old, new = edits[start]
        begin, end, fresh = _edit(text, scalar, old, new) or (start, start, "")
        pieces += [text[at:begin], fresh]
        at = end
    changes = [ImageChange(line_of(one.image.name.start), one.image.text, one.becomes) for one in wishes if not one.why]
    left = [ImageLeft(line_of(one.image.name.start), one.image.text, one.why) for one in wishes if one.why]
    return Rewritten("".join([*pieces, text[at:]]), changes, left)


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
        fresh = image.written.removeprefix(DIRECT)
        return _checked(text, _Wish(image, {image.name.start: (image.name, image.written, fresh)}, decision.text))
    place, old = decision.reference, repository_in(image.written)
    end = image.written[len(old) :]
    becomes = f"{place.name}{image.text[len(repository_in(image.text)) :]}"
    if image.registry is None:
        return _checked(text, _Wish(image, {image.name.start: (image.name, image.written, place.name + end)}, becomes))
    registry, name = _apart(place)
    before = image.registry.text.strip()
    wanted = {
        image.name.start: (image.name, image.written, name + end),
        image.registry.start: (image.registry, before, f"{registry}/" if before.endswith("/") else registry),
    }
    return _checked(text, _Wish(image, wanted, becomes))


def _apart(place: Reference) -> tuple[str, str]:
    """Divide a reference for two keys, so that the second does not begin with what looks like a registry."""
    registry, name = place.domain, place.path
    while "/" in name and "." in name.partition("/")[0]:
        first, _, name = name.partition("/")
        registry = f"{registry}/{first}"
    return registry, name


def _checked(text: str, wish: _Wish) -> _Wish:
    """Return a wish whose every text can be edited, else one for nothing."""
    if all(_edit(text, *wanted) for wanted in wish.wanted.values()):
        return wish
    advice = 'is written with escapes, or would need quotes; write it as "NAME:TAG"'
    return _Wish(wish.image, why=Left("escaped", advice))


def _settle(wishes: Sequence[_Wish]) -> None:
    """Leave the images that do not agree about a text that they share; each is left at most once, so this is linear."""
    sharing: dict[int, list[_Wish]] = defaultdict(list)
    for wish in wishes:
        for scalar in filter(None, (wish.image.name, wish.image.registry)):
            sharing[scalar.start].append(wish)
    open_ = [*sharing]
    while open_:
        start = open_.pop()
        here = sharing[start]
        wanted = {None if one.why else one.wanted[start][2] for one in here}
        if len(wanted) < 2 or wanted == {None}:
            continue
        for one in here:
            if not one.why:
                one.why = Left("shared", "shares a text (an anchor) with an image that goes elsewhere; write it out")
                open_ += one.wanted


def _edit(text: str, scalar: Scalar, old: str, new: str) -> tuple[int, int, str] | None:
    """Return what to replace, from where to where, and by what; None where that cannot be said safely."""
    if old == new:
        return scalar.start, scalar.start, ""
    raw = text[scalar.start : scalar.end]
    whole = scalar.text.strip()
    at = raw.rfind(whole)
    inner = _reference_at(whole, old)
    if at >= 0 and inner >= 0:
        begin = scalar.start + at + inner
        bare = not raw.endswith(_QUOTES) and not raw.startswith(_BLOCKS)
        unquotable = bare and (new.startswith("[") or _NUMBER.fullmatch(whole))
        return None if unquotable else (begin, begin + len(old), new)
    fresh = whole[:inner] + new + whole[inner + len(old) :]
    if raw.endswith('"') and inner >= 0 and fresh.isascii() and fresh.isprintable() and not {*fresh} & {'"', "\\"}:
        return scalar.start + raw.find('"'), scalar.end, f'"{fresh}"'
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
