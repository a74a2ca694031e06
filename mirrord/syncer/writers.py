"""Which source writes what at the targets: two sources may not write one name. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mirrord.model.origin import ConfigOrigin

Writers = dict[str, tuple[str, ConfigOrigin]]
"""By place: what is written there, and where that is configured. The first one has it."""


def clashes(writers: Writers, origin: ConfigOrigin, written: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Add what is written to which place, and yield a sentence for each place where something else is written."""
    for place, own in written:
        source, there = writers.setdefault(place, (own, origin))
        if source != own:
            yield f"{own} is called {place}, and so is {source} ({there}); remove one of them"
