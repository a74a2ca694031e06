"""Git repositories: fetched once, force-mirrored to many hosts, and guarded against accidents at upstream.

`SYNCER` is what the entry point names. It is assembled when it is asked for (as for images), because commands that
have nothing to do with Git need not pay for it.
"""

from __future__ import annotations


def __getattr__(name: str) -> object:
    """Assemble the syncer (PEP 562)."""
    if name != "SYNCER":
        raise AttributeError(name)
    from mirrord.syncers.git.syncer import SYNCER  # noqa: PLC0415 - that is the point

    return SYNCER
