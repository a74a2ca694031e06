"""Helm chart repositories: one index polled, every archive fetched once, any number of repositories published.

`SYNCER` is what the entry point names; it is assembled when it is asked for.
"""

from __future__ import annotations


def __getattr__(name: str) -> object:
    """Assemble the syncer (PEP 562)."""
    if name != "SYNCER":
        raise AttributeError(name)
    from mirrord.syncers.helm.syncer import SYNCER  # noqa: PLC0415 - only who mirrors charts pays for it

    return SYNCER
