"""A group of pages with its own paths. The application puts the groups together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PageGroup:
    """Handlers of GET and HEAD; a group overrides what it has."""

    def pages(self) -> Mapping[str, Handler]:
        """Return the handlers by whole path, without escapes."""
        return {}

    def below(self) -> Mapping[str, Handler]:
        """Return the handlers of everything below a first segment, by `/segment/`; a whole path goes first."""
        return {}

    async def stop(self, _: web.Application) -> None:
        """End the answers that would not end by themselves: mirrord stops."""

    async def close(self, _: web.Application) -> None:
        """Stop what runs for this group."""
