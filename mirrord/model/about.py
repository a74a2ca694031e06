"""What whoever runs a mirror says of it: where rights holders write to, and what it does not promise. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Imprint:
    """Shown on pages, in documents, and where something was taken down.

    Attributes:
        takedown: where rights holders write to: a mail address, or the URL of a page; "" for nowhere.
        disclaimer: the text by language (`en`, `zh`); empty for none.
    """

    takedown: str = ""
    disclaimer: Mapping[str, str] = field(default_factory=dict)

    @property
    def link(self) -> str:
        """The address as a link."""
        return self.takedown if "://" in self.takedown or not self.takedown else f"mailto:{self.takedown}"

    @property
    def objection(self) -> str:
        """What follows the reason of a takedown: `; write to ADDRESS` if it is wrong."""
        return f"; if that is wrong, write to {self.takedown}" if self.takedown else ""

    def said(self, language: str) -> str:
        """Return the disclaimer in a language, or in the one that there is; "" for none."""
        return self.disclaimer.get(language) or next(iter(self.disclaimer.values()), "")
