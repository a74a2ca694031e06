"""Finds the syncers that are installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

from mirrord.errors import ConfigError
from mirrord.syncer.port import Syncer

GROUP = "mirrord.syncers.v1"


def load_syncers() -> Mapping[str, Syncer]:
    """Find all installed syncers.

    Raises:
        ConfigError: one is none; names the entry point and what to do.
    """
    return {entry.name: _load(entry) for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name)}


def _load(entry: EntryPoint) -> Syncer:
    syncer = entry.load()
    if not isinstance(syncer, Syncer):
        message = f"syncer {entry.name} ({entry.value}) is no mirrord.syncer.port.Syncer; make it one"
        raise ConfigError(message)
    if syncer.kind != entry.name:
        kinds = f"says kind {syncer.kind!r}, its entry point says {entry.name!r}"
        message = f"syncer {entry.value} {kinds}; make them equal"
        raise ConfigError(message)
    return syncer
