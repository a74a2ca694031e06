"""One configuration in use, with what was built from it. A run keeps the one with which it began."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from difflib import get_close_matches

from mirrord.config.load import Configuration
from mirrord.errors import UsageError
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Mirror, Services


class Snapshot:
    """A configuration, the syncers and the services; its connections close when it is retired and nobody uses it."""

    def __init__(self, configuration: Configuration, syncers: Mapping[str, Syncer], services: Services) -> None:
        self.configuration = configuration
        self.syncers = syncers
        by_kind: defaultdict[str, list[Mirror]] = defaultdict(list)
        for mirror in configuration.mirrors:
            by_kind[mirror.kind].append(mirror)
        self.services = replace(services, mirrors=dict(by_kind))
        self._users = 0
        self._retired = False

    @property
    def names(self) -> Sequence[str]:
        """All mirrors, in the order in which they were written."""
        return [mirror.name for mirror in self.configuration.mirrors]

    def mirror(self, name: str) -> Mirror:
        """Return a mirror; UsageError suggests one where there is none of that name."""
        for mirror in self.configuration.mirrors:
            if mirror.name == name:
                return mirror
        near = get_close_matches(name, self.names, 1)
        hint = f"; did you mean {near[0]}?" if near else "; `mirrord status` lists them"
        raise UsageError(f"no mirror is called {name[:80]!r}{hint}")

    def chosen(self, names: Sequence[str]) -> Sequence[str]:
        """Return these mirrors, each once, or all; nothing may start before `mirror` found every name."""
        return [self.mirror(name).name for name in dict.fromkeys(names)] or self.names

    def syncer(self, mirror: Mirror) -> Syncer:
        """Return the syncer of a mirror."""
        return self.syncers[mirror.kind]

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[None]:
        """Use the snapshot; it stays whole until the block ends."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            await self._release()

    async def retire(self) -> None:
        """Say that no new run will use it."""
        self._retired = True
        await self._release()

    async def _release(self) -> None:
        if self._retired and not self._users:
            await self.services.http.aclose()
