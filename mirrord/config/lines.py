"""Where each value was written, and every problem found with it: `file:line: key: what is wrong; what to write`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from mirrord.errors import ConfigError
from mirrord.model import Origin
from mirrord.wire.trust import redact

Trail = tuple[str | int, ...]
"""The way to a value from the top: keys of mappings and positions in lists."""

Value = None | str | list["Value"] | dict[str, "Value"]
"""What a file holds. Scalars stay text: the model that wants a number or a flag reads it as one."""


def nearest(word: str, known: Mapping[str, object] | set[str] | tuple[str, ...]) -> str:
    """Return what to write instead of an unknown word: the most similar known one, or all of them."""
    folded = {one.lower(): one for one in sorted(known)}
    if close := get_close_matches(word[:80].lower(), folded, n=1, cutoff=0.6):
        return f"did you mean {folded[close[0]]!r}?"
    return f"known are {', '.join(sorted(known))}" if known else "none is known here"


@dataclass(slots=True)
class Problems:
    """Collects every problem, so that one run shows them all.

    Attributes:
        origins: where each value was written.
        names: how to spell a position that has a better name (`mirrors[3]` is `mirrors.craned`).
        partial: a file could not be read at all, so what seems undefined may be defined there.
    """

    origins: dict[Trail, Origin] = field(default_factory=dict)
    names: dict[Trail, str] = field(default_factory=dict)
    partial: bool = False
    _found: list[tuple[Origin, str]] = field(default_factory=list)

    def origin(self, trail: Trail) -> Origin:
        """Return where the value was written, or the closest thing around it that was."""
        for length in range(len(trail), 0, -1):
            if found := self.origins.get(trail[:length]):
                return found
        return Origin("configuration")

    def spell(self, trail: Trail) -> str:
        """Write the trail as people do: `mirrors.craned.to[0]`."""
        text = ""
        for length, part in enumerate(trail, start=1):
            name = self.names.get(trail[:length], part)
            text += f"[{name}]" if isinstance(name, int) else f".{name}" if text else name
        return text

    def add(self, trail: Trail, what: str) -> None:
        """Note what is wrong with the value at `trail`."""
        self._found.append((self.origin(trail), f"{self.spell(trail)}: {what}"))

    def add_at(self, origin: Origin, what: str) -> None:
        """Note what is wrong with a place that is no value: a file, a line that cannot be read."""
        self._found.append((origin, what))

    def count(self) -> int:
        """Return how many were found so far."""
        return len(self._found)

    def settle(self) -> None:
        """End the collection.

        Raises:
            ConfigError: there were problems; one line each, in the order of files and lines.
        """
        if self._found:
            ordered = sorted(self._found, key=lambda found: (found[0].file, found[0].line))
            lines = (redact(f"{origin}: {what}") for origin, what in ordered)
            raise ConfigError(*dict.fromkeys(" ".join(line.split()) for line in lines))
