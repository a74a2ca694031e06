"""What platforms leave of images, noted for the next run, which then need not read them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mirrord.syncer.values import Facts, Mirror
from mirrord.syncers.image.names import source_reference, spec_of

FORM: Final = "2"
"""Of what `subset_of` writes: notes of another one do not count, since the same image would get another digest."""

_FACTS: Final = "platforms"


@dataclass(frozen=True, slots=True)
class Cut:
    """What the platforms leave of one image.

    Attributes:
        digest: of what is mirrored; "" if the image has none of the platforms.
        kept: how many of its platforms that has.
        count: how many the image has.
        had: the first of these.
    """

    digest: str
    kept: int
    count: int
    had: tuple[str, ...]

    def note(self) -> str:
        """Write it as a fact."""
        return f"{self.digest} {self.kept} {self.count} {','.join(self.had)}"

    @classmethod
    def noted(cls, text: str) -> Cut:
        """Read what `note` wrote."""
        digest, kept, count, had = text.split(" ")
        return cls(digest, int(kept), int(count), tuple(had.split(",")) if had else ())


@dataclass(frozen=True, slots=True)
class Cuts:
    """What earlier runs noted about the images of a mirror.

    Attributes:
        key: of the platforms, and of the form of what is written for them; "" without platforms.
        known: digest at the source → what they leave of it.
        made: digest of an index that was changed → that of its source.
        key_of_made: the platforms that these were made for.
    """

    key: str
    known: Mapping[str, Cut]
    made: Mapping[str, str]
    key_of_made: str

    def are_final(self, digest: str) -> bool:
        """Whether a digest of the record is what today's platforms lead to."""
        if not self.key:
            return digest not in self.made
        return self.key == self.key_of_made and (digest in self.made or digest in self.known)

    def origin(self, digest: str) -> str:
        """Return the digest at the source of what is offered from there, or from the record."""
        return self.made.get(digest, digest) if self.key == self.key_of_made else digest


async def known_cuts(mirror: Mirror, facts: Facts | None) -> Cuts:
    """Return what earlier runs noted."""
    platforms = spec_of(mirror).platforms
    key = f"{FORM} {','.join(sorted(platforms))}" if platforms else ""
    noted = dict(await facts.recall(mirror.name, note_name(mirror))) if facts else {}
    return await asyncio.to_thread(_read, key, noted)


def _read(key: str, noted: dict[str, str]) -> Cuts:
    key_of_made = noted.pop("", "")
    if not key_of_made.startswith(f"{FORM} "):
        return Cuts(key, {}, {}, "")
    cuts = {digest: Cut.noted(text) for digest, text in noted.items()}
    made = {cut.digest: digest for digest, cut in cuts.items() if cut.digest not in ("", digest)}
    return Cuts(key, cuts if key == key_of_made else {}, made, key_of_made)


def note_name(mirror: Mirror) -> str:
    """Return what the notes about the images of a mirror are called."""
    return f"{_FACTS}:{source_reference(mirror)}"
