"""Container images: one source, many targets, every blob read once."""

from mirrord.syncers.image.syncer import SYNCER

__all__ = ["SYNCER"]
