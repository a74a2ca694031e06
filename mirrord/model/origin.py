"""Where something in the configuration was written, for error messages."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ConfigOrigin:
    """A place in the operator's configuration, for error messages."""

    file: str = "command line"  # path of the file, or `command line`
    line: int = field(default=0, compare=False)  # 1-based, or 0 when unknown

    def __str__(self) -> str:
        """Return `file:line`."""
        return f"{self.file}:{self.line}" if self.line else self.file
