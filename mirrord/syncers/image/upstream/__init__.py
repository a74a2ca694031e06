"""Looks at sources and targets, reading as little as possible."""

from mirrord.syncers.image.upstream.survey import survey

__all__ = ["survey"]
