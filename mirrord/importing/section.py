"""Reads a mapping of a foreign file key by key; what was not read is reported at the end, so that nothing gets lost."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from mirrord.config.foreign import Node
from mirrord.importing.report import Report
from mirrord.model.origin import ConfigOrigin

_NOTHING = ("", "false", "0", "[]", "{}")


@dataclass(slots=True)
class Section:
    """A mapping of a foreign file.

    Attributes:
        node: the mapping; anything else is reported, and counts as empty.
        file: as the operator wrote it.
        key: the way to it from the top, for messages: `sync[2]`.
        report: gets what is not converted.
    """

    node: Node
    file: str
    key: str
    report: Report
    _read: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Report a value that is no mapping."""
        if not isinstance(self.node.value, dict) and self.node.value is not None:
            self.report.lose(self.origin(), self.key, "is not a mapping")

    @property
    def values(self) -> Mapping[str, Node]:
        """The keys and their values."""
        return self.node.mapping

    def origin(self, key: str = "") -> ConfigOrigin:
        """Return where a key was written, or the mapping."""
        return ConfigOrigin(self.file, self.values[key].line if key in self.values else self.node.line)

    def path(self, key: str) -> str:
        """Return the way to a key, for messages."""
        return f"{self.key}.{key}" if self.key else key

    def text(self, key: str) -> str:
        """Return the text of a key, "" without one."""
        self._read.add(key)
        node = self.values.get(key)
        if node is None or node.value is None:
            return ""
        if isinstance(node.value, str):
            return node.value.strip()
        self.lose(key, "is not text")
        return ""

    def flag(self, key: str) -> bool:
        """Return a flag, False without one."""
        return self.text(key).lower() in ("true", "yes", "on", "1")

    def items(self, key: str) -> tuple[Node, ...]:
        """Return the values of a list; a single value counts as a list of one."""
        self._read.add(key)
        node = self.values.get(key)
        if node is None or node.value is None:
            return ()
        return node.value if isinstance(node.value, tuple) else (node,)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the texts of a list; what is no text is reported."""
        found: list[str] = []
        for number, node in enumerate(self.items(key)):
            if isinstance(node.value, str):
                found.append(node.value.strip())
            else:
                self.report.lose(ConfigOrigin(self.file, node.line), f"{self.path(key)}[{number}]", "is not text")
        return tuple(found)

    def section(self, key: str) -> Section:
        """Return the mapping at a key; an empty one without it."""
        self._read.add(key)
        return self._below(self.values.get(key, Node(self.node.line, None)), self.path(key))

    def sections(self, key: str) -> tuple[Section, ...]:
        """Return the mappings of a list."""
        nodes = enumerate(self.items(key))
        return tuple(self._below(node, f"{self.path(key)}[{number}]") for number, node in nodes)

    def named(self) -> Iterator[tuple[str, Section]]:
        """Yield every key with the mapping that it has."""
        for key in self.values:
            yield key, self.section(key)

    def _below(self, node: Node, key: str) -> Section:
        return Section(node, self.file, key, self.report)

    def lose(self, key: str, why: str, *, unless: Collection[str] = _NOTHING) -> None:
        """Report a key that mirrord has no equivalent for, unless it is missing or has a value that changes nothing."""
        self._read.add(key)
        node = self.values.get(key)
        if node is None or not node.value:
            return
        if not (isinstance(node.value, str) and node.value.strip().lower() in unless):
            self.report.lose(self.origin(key), self.path(key), why)

    def refuse(self, key: str, why: str) -> None:
        """Report a key that something needs and that cannot be used, or that is missing."""
        self._read.add(key)
        self.report.lose(self.origin(key), self.path(key), why)

    def tell(self, key: str, what: str) -> None:
        """Report a difference."""
        self.report.tell(self.origin(key), self.path(key) if key else self.key, what)

    def ignore(self, *keys: str) -> None:
        """Take keys for read that change nothing of what is copied."""
        self._read.update(keys)

    def end(self, why: str = "is not a key that mirrord import knows") -> None:
        """Report every key that was not read; `x-…` are for anchors, by convention."""
        for key in self.values:
            if key not in self._read and not key.startswith("x-"):
                self.lose(key, why, unless=())
