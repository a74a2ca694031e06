"""A Git host with the rules of a well-known one, by configuration and hooks of real git."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from mirrord.testing.githost import GitHost

Kind = Literal["plain", "github", "gitee", "coding"]

GITEE_LIMIT: Final = """#!/bin/sh
size=$(du -sk objects | cut -f1)
test "$size" -le "$(git config gitee.limit || echo 1048576)" && exit 0
echo "Powered by GITEE.COM [GNK-5.0]" >&2
echo "This repository(including wiki) size $size KB, exceeds the limit." >&2
echo "Push rejected for repository size exceeds limit." >&2
exit 1
"""
PROTECTED: Final = """#!/bin/sh
test "$1" = "refs/heads/$(git config gitee.protected)" || exit 0
test "$2" = 0000000000000000000000000000000000000000 && exit 0
git merge-base --is-ancestor "$2" "$3" 2>/dev/null && exit 0
echo "error: GE007: the protected branch $1 cannot be forced" >&2
exit 1
"""
_CONFIG: Final[Mapping[str, Mapping[str, str]]] = {
    "plain": {},
    "github": {"receive.hideRefs": "refs/pull", "receive.denyDeleteCurrent": "refuse"},
    "gitee": {},
    "coding": {"receive.denyNonFastForwards": "true"},
}


class RuledHost(GitHost):
    """As `GitHost`, with the rules of one kind of host."""

    def __init__(self, folder: Path, *, kind: Kind = "plain", **options: Any) -> None:
        super().__init__(folder, **options)
        self.kind, self.rules = kind, _CONFIG[kind]
        if kind == "gitee":
            self.denial = b"The token username invalid\n"

    def create(self, name: str, head: str = "main", **config: str) -> Path:
        """Make an empty repository."""
        path = super().create(name, head, **config)
        if self.kind == "gitee":
            self.hook(name, "pre-receive", GITEE_LIMIT)
            self.hook(name, "update", PROTECTED)
        return path
