"""The part of the port for kinds that serve what nobody mirrored, from its upstream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mirrord.names.book import NameBook
from mirrord.syncer.values import FrontRules, Services

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mirrord.syncer.serving import OpenedThrough


@dataclass(frozen=True, slots=True)
class CheckedFront:
    """What the check of one entry of `front:` found.

    Attributes:
        problems: what is wrong, `file:line: what; what to write instead` each.
        notices: what is likely a mistake, likewise.
        lines: of the list of what may be pulled.
        cache: bytes that the cache may have.
    """

    problems: Sequence[str] = ()
    notices: Sequence[str] = ()
    lines: int = 0
    cache: int = 0


@dataclass(frozen=True, slots=True)
class PullThrough:
    """How a kind serves what nobody mirrored: from its upstream, and from a cache.

    Attributes:
        model: returns the pydantic model of the kind's part of `front:`; frozen, `extra="forbid"`. Called where a
            configuration is read.
        upstreams: returns the hosts that such keys name, as `HostBook` spells them, and for each whether it is read
            with the credentials of `hosts:`. Pure.
        check: reads the files that such keys name, with the aliases of `names:`. Blocks; for `mirrord check`.
        open: opens the front for the life of the process, given what returns the services in use, which a reload
            replaces. It is open also while `front:` does not name the kind, and then serves `local` alone.
    """

    model: Callable[[], type[BaseModel]]
    upstreams: Callable[[Any], Mapping[str, bool]]
    check: Callable[[FrontRules, NameBook], CheckedFront]
    open: Callable[[Callable[[], Services]], AbstractAsyncContextManager[OpenedThrough]]
