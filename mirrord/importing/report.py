"""What an import has to say beside its result: what was not converted, what differs, which secrets to set."""

from __future__ import annotations

from dataclasses import dataclass, field

from mirrord.config.lines import masked
from mirrord.model.origin import ConfigOrigin
from mirrord.printable import plain


@dataclass(frozen=True, slots=True)
class Remark:
    """One line for the operator."""

    origin: ConfigOrigin
    key: str  # as in the file: `sync[2].platforms`
    what: str  # reason, or difference

    def __str__(self) -> str:
        """Return `file:line: key: what` in one line, without userinfo."""
        head = f"{self.origin}: {self.key}: " if self.key else f"{self.origin}: "
        return one_line(f"{head}{self.what}")


def one_line(text: str) -> str:
    """Return a text in one line, without passwords and control characters: parts of it are a stranger's."""
    return plain(masked(text))


@dataclass(slots=True)
class Report:
    """Collects the remarks of one import."""

    lost: list[Remark] = field(default_factory=list)  # not converted
    notices: list[Remark] = field(default_factory=list)  # converted, and different from what one may expect
    secrets: dict[str, str] = field(default_factory=dict)  # environment variable → what it is for

    def lose(self, origin: ConfigOrigin, key: str, why: str) -> None:
        """Note what was not converted."""
        self.lost.append(Remark(origin, key, why))

    def tell(self, origin: ConfigOrigin, key: str, what: str) -> None:
        """Note what was converted and needs a look."""
        self.notices.append(Remark(origin, key, what))

    def lines(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what was not converted and the notices: each line once, in the order of files and lines."""
        found = []
        for remarks in (self.lost, self.notices):
            ordered = sorted(remarks, key=lambda remark: (remark.origin.file, remark.origin.line))
            found.append(tuple(dict.fromkeys(map(str, ordered))))
        return found[0], found[1]
