"""What another configuration changes, and what of it waits for a restart."""

from __future__ import annotations

from collections.abc import Iterable

from mirrord.commands import Changes
from mirrord.config.load import Configuration
from mirrord.config.settings import Settings

_AT_START = ("listen", "tls", "spool", "record", "blobs", "tokens", "log")  # settings that count from a start on


def changes_of(before: Configuration, fresh: Configuration, begun: Configuration) -> Changes:
    """Say what another configuration changes; `begun` is the one that the daemon was started with."""
    old, new = ({mirror.name: mirror for mirror in one.mirrors} for one in (before, fresh))

    def differ(one: Settings, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(f"settings.{name}" for name in names if getattr(one, name) != getattr(fresh.settings, name))

    return Changes(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(name for name in new if name in old and old[name] != new[name]),
        taken=(
            *(["hosts"] if before.book != fresh.book else []),
            *(["names"] if before.names != fresh.names else []),
            *(["front"] if before.fronts != fresh.fronts else []),
            *(["pointing"] if before.pointing != fresh.pointing else []),
            *(["asking"] if before.asking != fresh.asking else []),
            *(["pull_requests"] if before.pull_requests != fresh.pull_requests else []),
            *(["notify"] if before.receivers != fresh.receivers else []),
            *dict.fromkeys(
                (
                    *differ(before.settings, (name for name in Settings.model_fields if name not in _AT_START)),
                    *(["settings.denied"] if before.denied != fresh.denied else []),
                )
            ),
        ),
        waiting=(*differ(begun.settings, _AT_START), *(["webhook"] if begun.webhook != fresh.webhook else [])),
        notices=fresh.notices,
    )
