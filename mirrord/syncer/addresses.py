"""Where mirrors read and write, as people see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Addresses, Mirror


def addresses_of(mirrors: Iterable[Mirror], syncers: Mapping[str, Syncer], url: str) -> Mapping[str, Addresses]:
    """Return the addresses of each mirror by its name; `url` is as for `Syncer.served_at`."""
    return {mirror.name: _addresses(mirror, syncers[mirror.kind], url) for mirror in mirrors}


def _addresses(mirror: Mirror, syncer: Syncer, url: str) -> Addresses:
    """Return the addresses; for many sources without the mark of their aliases, which is for the record."""
    served = syncer.served_at(mirror, url)
    if syncer.parts_of(mirror):
        mirror = replace(mirror, names=replace(mirror.names, aliases={}))
    pages = {target.name: page for target in mirror.targets if (page := syncer.link_of(mirror, target))}
    return Addresses(*syncer.shown_places(mirror), served, pages)
