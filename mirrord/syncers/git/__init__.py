"""Git repositories: fetched once, force-mirrored to many hosts, and guarded against accidents at upstream."""

from mirrord.syncers.git.syncer import SYNCER

__all__ = ["SYNCER"]
