"""A message, before a service writes it in its own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent.

    Attributes:
        id: the same whenever this message is sent again.
        title: one line.
        lines: one text a notice, the most important first.
        more: says that so many lines were left out.
        link: address of the page that shows everything, or "".
        document: what a webhook gets.
    """

    id: str
    title: str
    lines: Sequence[str]
    more: Callable[[int], str]
    link: str = ""
    document: Mapping[str, object] = field(default_factory=dict)
