"""The rules of the front in use: who may pull what, how much, and what is kept; they follow configuration and files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from mirrord.blobs.content_cache import ContentCache
from mirrord.names.naming import BUILT_IN
from mirrord.syncer.values import FrontRules, Services
from mirrord.syncers.image.spec.front import FrontKeys
from mirrord.syncers.image.through.asked import AskedName
from mirrord.syncers.image.through.limits import PullLimits
from mirrord.syncers.image.upstream.allow_file import FrontLists, ListsInUse
from mirrord.wire.oci.reference import Reference


@dataclass(frozen=True, slots=True)
class RefusedPull:
    """Why a repository may not be pulled through.

    Attributes:
        word: a stable word for metrics: `denied`, `not_listed`, `not_allowed`, `no_list`.
        reason: a sentence for the client.
    """

    word: str
    reason: str


@dataclass(frozen=True, slots=True)
class PullRules:
    """What holds for one request."""

    keys: FrontKeys
    front: FrontRules
    lists: FrontLists

    def refusal(self, reference: Reference, called: AskedName) -> RefusedPull | None:
        """Return why a repository in canonical form may not be pulled through, or None; the reason says `called`."""
        if self.lists.denied_by(reference):
            return self._refused("denied", f"{called.name} may not be pulled here")
        if reference.domain not in self.front.upstreams:
            return RefusedPull("not_listed", f"{called.registry} is not pulled through here")
        if self.lists.unusable:
            return RefusedPull("no_list", "the allow list of this mirror cannot be used")
        if not self.lists.allowed_by(reference):
            return self._refused("not_allowed", f"{called.name} is not on the list of what may be pulled here")
        return None

    def _refused(self, word: str, reason: str) -> RefusedPull:
        return RefusedPull(word, f"{reason}: {self.keys.message}" if self.keys.message else reason)


class RulesInUse:
    """Applies the configuration in use to the limits and the cache as soon as it is seen."""

    def __init__(self, kind: str, lists: ListsInUse, limits: PullLimits, cache: ContentCache) -> None:
        """Begin without rules."""
        self._kind, self._lists, self._limits, self._cache = kind, lists, limits, cache
        self._applied: tuple[FrontRules, FrontLists] | None = None

    async def current(self, services: Services) -> PullRules | None:
        """Return the rules, or None where the configuration has no front of this kind.

        Raises:
            StorageError: the cache cannot be read.
        """
        front = services.fronts.get(self._kind)
        if front is None:
            self._lists.forget_errors()
            return None
        lists = await self._lists.current(front, services.names)
        keys = cast("FrontKeys", front.keys)
        if self._applied is None or self._applied[0] is not front or self._applied[1] is not lists:
            self._applied = front, lists
            self._limits.keys = keys.limits
            pins = (lambda name: _pinned(lists, name)) if keys.cache.pinned else None
            await self._cache.limits(keys.cache.size, keys.cache.unused, pins)
        return PullRules(keys, front, lists)


def _pinned(lists: FrontLists, name: str) -> bool:
    reference = BUILT_IN["path"].source(name)
    return reference is not None and lists.pinned.line(reference) is not None
