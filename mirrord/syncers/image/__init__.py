"""Container images: one source, many targets, every blob read once.

`SYNCER` is what the entry point names. It is assembled when it is asked for, because `mirrord
copy` needs only some of the rooms and starts in a third of the time without the others.
"""

from __future__ import annotations


def __getattr__(name: str) -> object:
    """Assemble the syncer (PEP 562)."""
    if name != "SYNCER":
        raise AttributeError(name)
    from mirrord.syncers.image.syncer import SYNCER  # noqa: PLC0415 - that is the point

    return SYNCER
