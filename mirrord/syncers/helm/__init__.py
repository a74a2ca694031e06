"""Helm chart repositories: one index polled, every archive fetched once, any number of repositories published."""

from mirrord.syncers.helm.syncer import SYNCER

__all__ = ["SYNCER"]
