"""How much of what it has `local` keeps."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from mirrord.model.digest import Digest


@dataclass(frozen=True, slots=True)
class Keep:
    """Rules of which each is a reason to keep a name; a name goes when none of them keeps it.

    Attributes:
        newest: this many of each group of names stay: of each branch, variant or chart.
        days: what came during so many days stays, and so long stays what a name stood for before it moved.
        unused: what clients asked for during so many seconds stays.
    """

    newest: int | None = None
    days: int | None = None
    unused: float | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing ever goes: without a rule nobody said what may."""
        return self.newest is None and self.days is None and self.unused is None


EVERYTHING = Keep()


@dataclass(frozen=True, slots=True)
class Ranked:
    """What the rules need to know of a name.

    Attributes:
        group: of which so many are kept.
        order: sorts the names of a group, the newest one last.
        called: the group in a sentence, "" where there is but one.
        stays: why it stays whatever the rules, one clause; "" for most.
    """

    group: Hashable
    order: tuple[object, ...]
    called: str = ""
    stays: str = ""


Ranks = Callable[[Mapping[str, Digest], Mapping[str, int]], Mapping[str, Ranked]]
"""Given names with their content, and when they came, returns those that the rules are about."""
